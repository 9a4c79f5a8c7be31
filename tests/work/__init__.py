"""What runs on the machine: its programs by themselves, without a connection."""
