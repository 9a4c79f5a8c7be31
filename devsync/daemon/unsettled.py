"""What could not be dealt with yet: paths with a problem, and those that are looked at once more.

Owned by the thread that synchronises.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from devsync.core.snapshot import ROOT, WRITING, Ancestor, RelPath, within
from devsync.daemon.carrying import Result
from devsync.daemon.inbox import EVERYTHING, Work

log = logging.getLogger(__name__)

RETRY = 0.3
"""Seconds until a path that could not be dealt with, or is still being written, is looked at again."""


class Unsettled:
    """Of one loop, whose engines come and go."""

    def __init__(self) -> None:
        self.problems: dict[RelPath, str] = {}
        self.undone: set[RelPath] = set()
        """What is still to be carried over, of all that was looked at since the last look at everything."""
        self._retry: set[RelPath] = set()
        self._due = 0.0
        self._unseen: set[RelPath] = set()  # the problems that are of looking, not of changing

    def take_in(self, work: Work, result: Result, unknown: Collection[RelPath], now: float) -> None:
        """What came of `work`. A new problem gets one more look soon; then hints and the full look decide.

        `unknown` are the paths that could not be looked at.
        """
        everything = ROOT in work.local and ROOT in work.remote
        looked = EVERYTHING if everything else (work.local | work.remote) - EVERYTHING
        fresh = {path: why for path, why in result.problems.items() if self.problems.get(path) != why}
        for path, why in fresh.items():
            log.warning("%s: %s", ascii(path), why)
        kept = {path: why for path, why in self.problems.items() if not within(path, looked)}
        self.problems = {**kept, **result.problems}
        self._unseen = self._unseen.intersection(kept).union(unknown)
        undone = {path for path in self.undone if not within(path, looked)}
        self.undone = undone.union(result.again, result.later)
        self._retry = {path for path in self._retry if not within(path, looked)}
        self.look_again(result.later | result.writing | fresh.keys(), now)

    def look_again(self, paths: Collection[RelPath], now: float) -> None:
        """In a moment, by another `retries`."""
        if paths and not self._retry:
            self._due = now + RETRY
        self._retry.update(paths)

    @property
    def waiting(self) -> bool:
        """Whether anything is to be looked at again."""
        return bool(self._retry)

    def due(self, now: float) -> bool:
        """Whether it is by now."""
        return bool(self._retry) and now >= self._due

    def retries(self) -> set[RelPath]:
        """These are looked at again, now."""
        retry, self._retry = self._retry, set()
        return retry

    def reasons(self, ancestor: Ancestor) -> dict[RelPath, str]:
        """What whoever waits is told of: the paths that are not the same on both sides, and why."""
        left = {**dict.fromkeys(self._retry, "keeps changing"), **self.problems}
        # What cannot be seen and never was on both sides (a link that leads out of the root) is no news.
        return {
            path: why
            for path, why in left.items()
            if path not in self._unseen or why == WRITING or ancestor.region([path])
        }
