"""How a transfer goes: what is still to come, how fast, and how long that will take."""

from __future__ import annotations

from collections import deque

from devsync.core.quantity import show_size

WINDOW = 5.0
"""Seconds over which the rate is taken."""

STEP = 0.25
"""Seconds between two marks of how far it was."""


class Pace:
    """Counts. The moments are seconds of one clock, which only grow."""

    def __init__(self) -> None:
        self.files = self.planned = self.moved = 0
        self._marks: deque[tuple[float, int]] = deque()

    def plan(self, now: float, files: int, size: int) -> None:
        """So many files and bytes are still to come; what has come before counts until all is done."""
        if not self.files:
            self.moved = 0
            self._marks.clear()
        self.files, self.planned = files, self.moved + size
        self._mark(now)

    def move(self, now: float, size: int) -> None:
        """So many bytes have come."""
        self.moved += size
        self._mark(now)

    def came(self) -> None:
        """One more file is here."""
        self.files = max(0, self.files - 1)

    def done(self, files: int) -> None:
        """So many files are left, whatever was counted."""
        self.files = files

    def rate(self, now: float) -> float | None:
        """Bytes a second of late; None before that can be told."""
        while len(self._marks) > 1 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()
        if not self._marks or now - self._marks[0][0] < STEP:
            return None
        then, moved = self._marks[0]
        return (self.moved - moved) / (now - then)

    def remaining(self, now: float) -> float | None:
        """Seconds that it will take if it goes on like this."""
        rate = self.rate(now)
        return max(0, self.planned - self.moved) / rate if rate else None

    def _mark(self, now: float) -> None:
        if not self._marks or now - self._marks[-1][0] >= STEP:
            self._marks.append((now, self.moved))


def describe(files: int, moved: int, planned: int, rate: float | None, remaining: float | None) -> str:
    """A line for people."""
    words = [f"mirroring {files:,} file" + ("s" if files != 1 else "")]
    if planned:
        words.append(f"{show_size(min(moved, planned))} of {show_size(planned)}")
    if rate:
        words.append(f"{show_size(round(rate))}/s")
    if remaining is not None:
        words.append(f"{_about(remaining)} left")
    return ", ".join(words)


def _about(seconds: float) -> str:
    """A time as one would say it: 8 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
