"""devsync: one project in two places, a local git checkout and a cloud machine."""

__version__ = "0.1.0"
