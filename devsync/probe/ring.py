"""What was observed, on the machine's disk: a small file that survives crashes and restarts. Travels.

One line for each sample, appended in one write, so that a crash tears the last line at most; what cannot be
read is passed over. What is older than two hours is thinned to one line for five minutes, in which the
highest level of each signal stays: a burst is not forgotten.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from devsync.core.observation import Observation

DAY = 86400.0
KEPT = 7 * DAY
FRESH = 7200.0
STEP = 300.0
"""Seconds: for how long lines are kept, for how long all of them, and one for how long after that."""

TAIL = 1 << 16
"""Bytes at the end of the file that hold the newest lines."""


@dataclass(frozen=True)
class Record:
    """One sample: `boot` and `at`, seconds since that start of the machine; `wall`, the time of day."""

    boot: str
    at: float
    wall: float
    observations: tuple[Observation, ...]

    def line(self) -> bytes:
        """As it is written."""
        rows = [seen.to_json() for seen in self.observations]
        value = [self.boot, round(self.at, 2), round(self.wall, 2), rows]
        return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"

    @staticmethod
    def parse(line: bytes) -> Record:
        """ValueError for what is none."""
        value: Any = json.loads(line)
        if not isinstance(value, list) or len(value) != 4 or not isinstance(value[3], list):
            raise ValueError("no record")
        boot, at, wall, rows = value
        return Record(str(boot), float(at), float(wall), tuple(Observation.from_json(row) for row in rows))


class Ring:
    """The file. The sampler alone writes; anybody may read."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder, "ring")

    def append(self, record: Record) -> None:
        """Add a line. Raises OSError, FileNotFoundError once the folder is gone."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if torn else b"") + record.line())
        finally:
            os.close(descriptor)

    def read(self) -> list[Record]:
        """Everything, the oldest first."""
        return _parsed(self._bytes(0).splitlines())

    def newer(self, boot: str, at: float) -> list[Record]:
        """What was written on this start of the machine after that moment of it."""
        size = self._size()
        found: list[Record] = []
        for line in reversed(self._bytes(max(0, size - TAIL)).splitlines()):
            for record in _parsed([line]):
                if record.boot != boot or record.at <= at:
                    return found[::-1]  # all that comes before is older still
                found.append(record)
        if size > TAIL:
            return [record for record in self.read() if record.boot == boot and record.at > at]
        return found[::-1]

    def thin(self, wall: float) -> None:
        """Throw away what is too old, and most of what is no longer fresh."""
        records = thinned(self.read(), wall)
        draft = f"{self._path}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(record.line() for record in records)
        os.replace(draft, self._path)

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return 0

    def _bytes(self, start: int) -> bytes:
        try:
            with open(self._path, "rb") as file:
                file.seek(start)
                return file.read()
        except FileNotFoundError:
            return b""


def _parsed(lines: Iterable[bytes]) -> list[Record]:
    records = []
    for line in lines:
        try:
            records.append(Record.parse(line))
        except (ValueError, TypeError):
            continue  # torn by a crash, or the middle of a line
    return records


def thinned(records: Sequence[Record], wall: float) -> list[Record]:
    """The records to be kept at this time of day. A clock that was set back makes none too old."""
    kept: list[Record] = []
    for record in records:
        age = wall - record.wall
        if age > KEPT:
            continue
        if kept and age > FRESH and _same_step(kept[-1], record) and wall - kept[-1].wall > FRESH:
            kept[-1] = _joined(kept[-1], record)
        else:
            kept.append(record)
    return kept


def _same_step(one: Record, other: Record) -> bool:
    return one.boot == other.boot and one.wall // STEP == other.wall // STEP


def _joined(one: Record, other: Record) -> Record:
    """Both as one, at the time of the later: of each signal what is most like work."""
    best = {seen.name: seen for seen in one.observations}
    for seen in other.observations:
        before = best.get(seen.name)
        if before is None or _weight(seen) >= _weight(before):
            best[seen.name] = seen
    return replace(other, observations=tuple(best.values()))


def _weight(seen: Observation) -> tuple[bool, float]:
    return bool(seen.error), -1.0 if seen.level is None else seen.level
