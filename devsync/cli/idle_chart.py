"""What was busy when, drawn as text: one line for each signal, one mark for each part of the time."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from devsync.cli import output

BUSY, QUIET, UNKNOWN = "█", "·", " "
NARROWEST, WIDEST = 24, 96
ORDER = (
    *("local-edits", "remote-edits", "jobs", "sessions", "jupyter-kernels"),
    *("cpu", "gpu", "containers", "network", "keepalive"),
)


def history(answer: Mapping[str, Any], columns: int | None = None) -> list[str]:
    """The lines of `idle --history`."""
    begin, end = _moment(answer["from"]), _moment(answer["to"])
    label = max(len(name) for name in ORDER) + 2
    width = max(NARROWEST, min(WIDEST, (columns or shutil.get_terminal_size((80, 24)).columns) - label - 1))
    looked = [(_moment(one), _moment(other)) for one, other in answer["seen"]]
    spans: dict[str, list[tuple[datetime, datetime]]] = {name: [] for name in ORDER}
    for span in answer["spans"]:
        spans.setdefault(span["signal"], []).append((_moment(span["begin"]), _moment(span["end"])))
    lines = []
    for name, busy in spans.items():
        row = _row(begin, end, width, looked, busy)
        lines.append(f"{name.ljust(label)}{row}".rstrip())
    first, last = output.moment(answer["from"]), output.moment(answer["to"])
    lines.append(" " * label + first + last.rjust(max(width - len(first), len(last) + 1)))
    lines.append(f"{BUSY} busy   {QUIET} quiet   blank: nobody looked, or the machine was off")
    return lines


def _row(
    begin: datetime,
    end: datetime,
    width: int,
    looked: Sequence[tuple[datetime, datetime]],
    busy: Sequence[tuple[datetime, datetime]],
) -> str:
    step = (end - begin) / width
    marks = ""
    for number in range(width):
        part = (begin + number * step, begin + (number + 1) * step)
        marks += BUSY if _meets(busy, part) else QUIET if _meets(looked, part) else UNKNOWN
    return marks


def _meets(times: Iterable[tuple[datetime, datetime]], part: tuple[datetime, datetime]) -> bool:
    return any(begin <= part[1] and end >= part[0] for begin, end in times)


def replayed(answer: Mapping[str, Any]) -> list[str]:
    """The lines of `idle --replay`."""
    from devsync.core.idle import lasting

    lines = []
    off = timedelta()
    for stop in answer["stops"]:
        until = stop["until"] or answer["to"]
        length = _moment(until) - _moment(stop["at"])
        off += length
        wanted = f"wanted again at {output.moment(until)}" if stop["until"] else "not wanted since"
        shown = lasting(length.total_seconds())
        lines.append(f"{output.moment(stop['at'])}  deallocated: {stop['reason']}; {wanted}, {shown} later")
    count = len(answer["stops"])
    times = "once" if count == 1 else f"{count} times"
    total = lasting((_moment(answer["to"]) - _moment(answer["from"])).total_seconds())
    if not lines:
        return [f"it would not have been deallocated in {total}"]
    return [*lines, f"deallocated {times}, {lasting(off.total_seconds())} of {total}"]


def _moment(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)
