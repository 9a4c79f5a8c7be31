"""Joins the pieces. Nobody imports it but the command line, and that only to run something."""
