"""What a user asks of both sides besides synchronising. Run by whoever owns the engine: the sync loop
between two cycles, or a command with no daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devsync.daemon.conflicts import conflicts, difference, resolve
from devsync.daemon.engine import Engine
from devsync.daemon.history import history, restore

TASKS: Mapping[str, Callable[[Engine, Mapping[str, Any]], object]] = {
    "conflicts": conflicts,
    "resolve": resolve,
    "diff": difference,
    "history": history,
    "restore": restore,
}
"""By the name of the command; each takes the command's arguments and gives a JSON value."""
