"""A clock that is wound by hand."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class HandWoundClock:
    """Both clocks of `ports.Clock`, which stand still until `advance`. Any thread may read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = 0.0

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        with self._lock:
            self._seconds += seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        with self._lock:
            return self._seconds
