"""The daemon's own record of its signs of work: edits, jobs and keepalives, as the machine keeps the others.

One line for each change, and one every five minutes: the time of day, then observations. What is older than
a week is thrown away. Owned by the idle keeper; anybody may read.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from devsync.core.idle import Signal
from devsync.core.observation import Observation, Sample
from devsync.core.past import OWN
from devsync.ports import Clock

log = logging.getLogger(__name__)

STEP = 300.0
KEPT = 7 * 86400.0
LARGEST = 4 << 20
"""Seconds between two lines without a change, seconds that they are kept, bytes that are too many."""


class Diary:
    """The file. Any thread may call."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file, self._clock = file, clock
        self._lock = threading.Lock()
        self._due = 0.0
        self._before: tuple[object, ...] = ()

    def note(self, signals: Sequence[Signal]) -> None:
        """Write down what is seen now, if it is news. A full disk loses a line, and nothing else."""
        now = self._clock.monotonic()
        own = [signal for signal in signals if signal.name in OWN]
        news = tuple((signal.name, signal.active, signal.last, bool(signal.error)) for signal in own)
        with self._lock:
            if news == self._before and now < self._due:
                return
            self._before, self._due = news, now + STEP
            rows = [_observation(signal, now).to_json() for signal in own]
            line = json.dumps([round(self._clock.now().timestamp(), 1), rows], separators=(",", ":"))
            try:
                with open(os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
                    file.write(line + "\n")
                if self._file.stat().st_size > LARGEST:
                    self._thin()
            except OSError as error:
                log.info("the history of work was not written: %s", error.strerror)

    def read(self, within: float) -> list[Sample]:
        """What was written within the last `within` seconds; times are ages below zero, the oldest first."""
        now = self._clock.now().timestamp()
        with self._lock:
            found = self._parsed()
        return [Sample(at - now, seen) for at, seen in found if 0.0 <= now - at <= within]

    def _parsed(self) -> list[tuple[float, tuple[Observation, ...]]]:
        try:
            lines = self._file.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for line in lines:
            try:
                at, rows = json.loads(line)
                found.append((float(at), tuple(Observation.from_json(row) for row in rows)))
            except (ValueError, TypeError):
                continue  # torn by a crash
        return found

    def _thin(self) -> None:
        """Keep a week, or half of it if that is too much."""
        oldest = self._clock.now().timestamp() - KEPT
        kept = [(at, seen) for at, seen in self._parsed() if at >= oldest]
        kept = kept[len(kept) // 2 :] if len(kept) > KEPT / STEP else kept
        draft = self._file.with_suffix(".new")
        with open(draft, "w", encoding="ascii") as file:
            for at, seen in kept:
                file.write(json.dumps([at, [one.to_json() for one in seen]], separators=(",", ":")) + "\n")
        os.replace(draft, self._file)


def _observation(signal: Signal, now: float) -> Observation:
    age = None if signal.last is None else round(max(0.0, now - signal.last), 1)
    level = 1.0 if signal.active else 0.0
    return Observation(signal.name, level, signal.value, age=age, error=signal.error)
