"""Git at work: the loop waits for it, and what was looked at meanwhile is not believed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Protocol

from devsync.core.snapshot import RelPath, Snapshot
from devsync.daemon.forwarding import Forwarding
from devsync.ports import Clock, Replica

GIT_LOCK = 60.0
"""Seconds that a cycle waits at most for git to let go of its index."""


class SeesGit(Protocol):
    """The part of the rules that tells what git does."""

    def busy(self) -> bool: ...
    def fingerprint(self) -> object: ...


class Disturbed(Exception):
    """What was seen may be a mix of two commits: it is looked at again."""


class Git:
    """Whether git is at rest. Asked by the sync loop's thread alone."""

    def __init__(self, rules: SeesGit, clock: Clock) -> None:
        self._rules, self._clock = rules, clock
        self._since: float | None = None

    def wait(self, stop: threading.Event) -> bool:
        """Wait until it lets go of its index; whether there was something to wait for."""
        waited = False
        while self._rules.busy() and not stop.is_set() and self._may_go_on():
            waited = True
            stop.wait(0.02)
        return waited

    def disturbed(self, fingerprint: object) -> bool:
        """Whether it has begun, or begun and ended, since the rules had this fingerprint."""
        if self._rules.busy() or self._rules.fingerprint() != fingerprint:
            return self._may_go_on()
        self._since = None
        return False

    def _may_go_on(self) -> bool:
        """A lock that a git left behind must not hold up every cycle, nor a git that never rests."""
        now = self._clock.monotonic()
        if self._since is None:
            self._since = now
        return now - self._since < GIT_LOCK


class Steady(Forwarding):
    """Another replica, of which `disturbed` is asked after each look. `scan` raises Disturbed."""

    def __init__(self, replica: Replica, disturbed: Callable[[], bool]) -> None:
        super().__init__(replica)
        self._disturbed = disturbed

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        found = super().scan(scope)
        if self._disturbed():
            raise Disturbed
        return found
