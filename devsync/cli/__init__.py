"""The command line: prints, decides nothing. One file per noun; heavy imports inside the commands."""
