"""The signs of work that devsync sees by itself: edits, what it runs, and what the user asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from devsync.core.idle import Signal
from devsync.ports import Clock

Kept = datetime | str | None
"""What the machine is kept for: until a moment, or while the job of this id runs."""


class Activities:
    """When each kind of work was last seen. Any thread may report."""

    def __init__(self, clock: Clock, kept: Kept, save: Callable[[Kept], None]) -> None:
        """`save` makes a keepalive outlive the daemon."""
        self._clock, self._save = clock, save
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._running = 0
        self._detached: int | None = 0
        self._names: tuple[str, ...] = ()
        self._missing = False
        self._kept = kept

    def seen(self, name: str) -> None:
        """There was work of this kind just now."""
        with self._lock:
            self._last[name] = self._clock.monotonic()

    def running(self, difference: int) -> None:
        """One command more or less runs on the machine."""
        with self._lock:
            self._running += difference
            self._last["jobs"] = self._clock.monotonic()

    def detached(self, running: int | None) -> None:
        """So many detached jobs run on the machine; None: nobody knows."""
        with self._lock:
            if running or self._detached:
                self._last["jobs"] = self._clock.monotonic()
            self._detached = running

    def jobs(self, running: Mapping[str, str] | None) -> None:
        """The detached jobs that run, by id: what people call each. None: nobody knows."""
        if running is None:
            return
        with self._lock:
            self._names = tuple(running.values())
            if not isinstance(self._kept, str) or self._kept in running:
                self._missing = False
            elif not self._missing:
                self._missing = True  # RACE: the list may be older than the wish; the next one is not
            else:
                self._kept, self._missing = None, False
                self._save(None)

    def names(self) -> tuple[str, ...]:
        """What the detached jobs are called that were seen running last."""
        with self._lock:
            return self._names

    def keep_until(self, kept: Kept) -> None:
        """Not idle until then, or while that job runs; None takes it back."""
        with self._lock:
            self._kept, self._missing = kept, False
            self._save(kept)

    def keepalive(self) -> datetime | None:
        """Until when the machine is kept, if that is not past."""
        with self._lock:
            kept = self._kept
        return kept if isinstance(kept, datetime) and kept > self._clock.now() else None

    def kept_for(self) -> str | None:
        """The job that the machine is kept for."""
        with self._lock:
            return self._kept if isinstance(self._kept, str) else None

    def signals(self) -> list[Signal]:
        """Every sign of work that devsync sees by itself."""
        until, job = self.keepalive(), self.kept_for()
        with self._lock:
            last, running, detached = dict(self._last), self._running + (self._detached or 0), self._detached
        edits = [
            Signal(f"{side}-edits", False, "none now", "any change", last.get(f"{side}-edits"), event=True)
            for side in ("local", "remote")
        ]
        unknown = "" if detached is not None else "the detached jobs are not known yet"
        jobs = Signal("jobs", running > 0, f"{running} running", "0 running", last.get("jobs"), unknown)
        kept = "none" if job is None else f"until job {job} has ended"
        if until is not None:
            kept = f"until {until:%Y-%m-%d %H:%M} UTC"
        return [*edits, jobs, Signal("keepalive", kept != "none", kept, "none")]
