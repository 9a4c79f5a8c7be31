"""Rings at intervals. The only module that knows APScheduler, which keeps time and decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable


class Bell:
    """Calls `ring` every `interval` seconds from a thread of the scheduler's, until it is closed."""

    def __init__(self, interval: float, ring: Callable[[], None]) -> None:
        from apscheduler.executors.debug import DebugExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        # APScheduler logs every run; ringing is no news.
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        # The debug executor calls the job in the scheduler's own thread: no pool for a bell.
        self._scheduler = BackgroundScheduler(executors={"default": DebugExecutor()}, timezone="UTC")
        self._scheduler.add_job(ring, "interval", seconds=interval, coalesce=True, max_instances=1)
        self._scheduler.start()

    def close(self) -> None:
        """Stop ringing and end the thread."""
        self._scheduler.shutdown(wait=True)
