"""How the first synchronisation goes: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from devsync.cli import output
from devsync.core.pace import describe as describe_pace

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn

OFTEN = 5.0
"""Seconds between two lines about one step where there is no terminal."""


class Progress:
    """Shown while it is entered; fed with status documents."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._said = ""
        self._told = 0.0

    def __enter__(self) -> Progress:
        if output.is_terminal(sys.stderr):
            from rich.progress import Progress as Bar

            self._bar = Bar(*_columns(), console=output.console(sys.stderr), transient=True)
            self._bar.add_task("starting", total=None)
            self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, status: dict[str, Any]) -> None:
        """Take in how it is now."""
        line = describe(status)
        if self._bar is not None:
            sync = status["sync"]
            total = sync["planned_bytes"] if sync["in_flight"] else None
            self._bar.columns = _columns(measured=bool(total))
            self._bar.update(
                self._bar.task_ids[0],
                description=output.printable(line),
                total=total,
                completed=sync["moved_bytes"],
            )
        elif line != self._said and (
            _step(line) != _step(self._said) or self._told + OFTEN < time.monotonic()
        ):
            output.note(line)
            self._said, self._told = line, time.monotonic()


def _columns(*, measured: bool = False) -> tuple[ProgressColumn, ...]:
    """What is drawn: a bar only while bytes move."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn

    words = SpinnerColumn(), TextColumn("{task.description}")
    return (*words, BarColumn()) if measured else words


def _step(line: str) -> str:
    """What is being done, however far it is."""
    return line.partition(" ")[0]


def moving(sync: dict[str, Any]) -> str:
    """How what is on its way gets on."""
    return describe_pace(
        sync["in_flight"],
        sync["moved_bytes"],
        sync["planned_bytes"],
        sync["rate_bytes"],
        sync["remaining_seconds"],
    )


def describe(status: dict[str, Any]) -> str:
    """The step that is being taken, in a few words."""
    trouble = status["troubles"].get("link") or status["troubles"].get("sync")
    if status["machine"]["progress"]:
        return str(status["machine"]["progress"])
    if trouble is not None and status["state"] != "synchronising":
        return str(trouble["message"]) + ("" if trouble["needs_user"] else "; trying again")
    if status["sync"]["in_flight"]:
        return moving(status["sync"])
    steps = {"starting": "starting", "connecting": "connecting", "synchronising": "comparing both sides"}
    return steps.get(status["state"], str(status["state"]))
