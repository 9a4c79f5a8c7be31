"""What runs on the machine for the user: commands."""
