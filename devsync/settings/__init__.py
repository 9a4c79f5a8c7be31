"""What a key may hold, where it stands in a file, how a file is read; knows no key by name."""
