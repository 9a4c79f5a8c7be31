"""What is known of the machine's own work: samples come in from the probe, signals are read by the keeper."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from devsync.core.idle import Signal
from devsync.core.observation import Sample, Thresholds, Track, follow, signals
from devsync.ports import Clock


class Observed:
    """Samples folded into tracks. Any thread may call."""

    def __init__(self, clock: Clock, thresholds: Thresholds) -> None:
        self._clock, self._thresholds = clock, thresholds
        self._lock = threading.Lock()
        self._tracks: dict[str, Track] = {}
        self._newest: float | None = None
        self._unknown = ""
        self._wanted: float | None = None

    def take(self, samples: Sequence[Sample]) -> None:
        """The machine was seen: the oldest sample first, by the monotonic clock."""
        with self._lock:
            self._tracks = follow(self._tracks, samples, self._thresholds)
            self._newest = samples[-1].at
            self._unknown = ""
            if self._wanted is not None and self._newest >= self._wanted:
                self._wanted = None

    def hurry(self) -> None:
        """A sample that is made from now on is waited for."""
        with self._lock:
            self._wanted = self._clock.monotonic()

    def hurried(self) -> bool:
        """Whether somebody waits for a fresh sample."""
        with self._lock:
            return self._wanted is not None

    def lose(self, why: str) -> None:
        """Nothing is known any more; whoever takes it up again tells everything anew."""
        with self._lock:
            self._tracks, self._newest, self._unknown = {}, None, why

    def newest(self) -> float | None:
        """When the machine was seen last; None if nothing is known."""
        with self._lock:
            return self._newest

    def signals(self) -> list[Signal]:
        """Every signal of the machine's own, now."""
        with self._lock:
            return signals(self._tracks, self._thresholds, self._clock.monotonic(), unknown=self._unknown)
