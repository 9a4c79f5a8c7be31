"""The probes: what they read, and what they make of it."""
