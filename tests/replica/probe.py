"""A table of verbs as another room of the house would send along."""

from __future__ import annotations

VERBS = {"double": lambda _helper, request: request["number"] * 2}
