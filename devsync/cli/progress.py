"""How the first synchronisation goes: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from devsync.cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress:
    """Shown while it is entered; fed with status documents."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._said = ""

    def __enter__(self) -> Progress:
        if output.is_terminal(sys.stderr):
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                SpinnerColumn,
                TextColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=output.console(sys.stderr),
                transient=True,
            )
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
            task = self._bar.task_ids[0]
            total = sync["planned_bytes"] if sync["in_flight"] else None
            self._bar.update(
                task, description=output.printable(line), total=total, completed=sync["moved_bytes"]
            )
        elif line != self._said:
            output.note(line)
        self._said = line


def describe(status: dict[str, Any]) -> str:
    """The step that is being taken, in a few words."""
    trouble = status["troubles"].get("link") or status["troubles"].get("sync")
    if status["machine"]["progress"]:
        return str(status["machine"]["progress"])
    if trouble is not None and status["state"] != "synchronising":
        return f"{trouble['message']}; trying again"
    if status["sync"]["in_flight"]:
        return f"mirroring {status['sync']['in_flight']} files"
    return {"synchronising": "comparing both sides", "connecting": "connecting"}.get(
        status["state"], "starting"
    )
