"""What lives: the supervisor and its services, and the control socket."""
