"""A clock that is wound by hand."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class HandWoundClock:
    """Both clocks of `ports.Clock`, which stand still until `advance`. Any thread may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = self._asleep = 0.0

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        with self._lock:
            self._seconds += seconds

    def sleep(self, seconds: float) -> None:
        """The computer sleeps: only the time of day goes on."""
        with self._lock:
            self._asleep += seconds

    def now(self) -> datetime:
        with self._lock:
            return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._seconds + self._asleep)

    def monotonic(self) -> float:
        with self._lock:
            return self._seconds
