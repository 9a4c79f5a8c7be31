"""Pushes the cloud's own shutdown forward while the machine is within reach, and tells of one that is not.

The lease belongs to this service's thread. What is silent is not pushed: a machine that nobody can see, one
that was let go, one whose deallocation was refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from devsync.core.idle import lasting
from devsync.daemon.board import Board, FailsafeFacts
from devsync.daemon.watchdog import UNSETTLED, Standing
from devsync.ports import Clock, DevsyncError, Notifier

log = logging.getLogger(__name__)

EVERY = 300.0
"""Seconds between two looks at the lease; it is written only if it has run down by a quarter of an hour."""

RETRY = 60.0
"""Seconds after which it is tried again."""

LOOK = 30.0
"""Seconds between two looks at the connection."""


class Held(Protocol):
    """When the cloud deallocates next, in seconds since 1970, and a word about it."""

    @property
    def until(self) -> float | None: ...
    @property
    def note(self) -> str: ...


class Lease(Protocol):
    """The cloud's switch. One owner, one thread; each call may raise DevsyncError."""

    def renew(self, length: float) -> Held: ...
    def release(self) -> None: ...
    def close(self) -> None: ...


class LeaseKeeper:
    """The service that holds the lease, if there is one, and watches for a machine that is out of reach."""

    name = "lease"

    def __init__(
        self,
        *,
        open_lease: Callable[[], Lease] | None,
        lengths: tuple[float | None, float | None],
        after: float | None,
        unreachable: float | None,
        standing: Callable[[], Standing],
        board: Board,
        clock: Clock,
        notifier: Notifier,
    ) -> None:
        """`lengths` of the lease, in seconds: with a watchdog that works, and without; None: there is none.

        `after` is how long the machine must be idle; `unreachable`, seconds until one that cannot be reached
        and is billed is told of; None: never.
        """
        self._open, self._lengths, self._after, self._unreachable = open_lease, lengths, after, unreachable
        self._standing, self._board = standing, board
        self._clock, self._notifier = clock, notifier
        self._ring = threading.Event()
        self._lease: Lease | None = None
        self._due = 0.0
        self._length: float | None = None
        self._released = False
        self._until: float | None = None
        self._note = UNSETTLED if open_lease is not None else ""
        self._away_since: float | None = None
        self._told_at: float | None = None

    def ring(self) -> None:
        """Something has changed: look soon. Any thread may call."""
        self._ring.set()

    def run(self, stop: threading.Event) -> None:
        """Look, again and again."""
        try:
            while not stop.is_set():
                self._ring.clear()
                self.look()
                # Until all is known, `start` waits for what is said here.
                facts = self._board.read()
                soon = 0.25 if facts.link.state == "connected" else 1.0
                self._ring.wait(LOOK if facts.failsafe.settled else soon)
        finally:
            if self._lease is not None:
                self._lease.close()
            self._lease = None

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        self._ring.set()

    def look(self) -> None:
        """Push the lease if it is time; tell of a machine that is out of reach for too long."""
        now = self._clock.monotonic()
        self._look_for_the_machine(now)
        standing = self._standing()
        length = self._lengths[0] if standing.works else self._lengths[1]
        connected = self._board.read().link.state == "connected"
        # While it is not known whether there is a watchdog, the longer one is right.
        if connected and self._open is not None and (now >= self._due or length != self._length):
            self._length = length
            self._due = now + (EVERY if self._hold(length) else RETRY)
        self._show(standing, length)

    def _hold(self, length: float | None) -> bool:
        """Renew or give back; whether that went well."""
        if length is None and self._released:
            return True
        try:
            if self._lease is None and self._open is not None:
                self._lease = self._open()
            if self._lease is not None and length is None:
                self._lease.release()
                self._released, self._until, self._note = True, None, ""
            elif self._lease is not None and length is not None:
                held = self._lease.renew(length)
                self._until, self._note = held.until, held.note
        except DevsyncError as error:
            if error.message != self._note:
                log.warning("the lease could not be pushed: %s", error.message)
            self._note = error.message
            return False
        return True

    def _look_for_the_machine(self, now: float) -> None:
        link = self._board.read().link
        if link.state not in ("away", "connecting") or link.billed is not True:
            self._away_since = self._told_at = None
            return
        self._away_since = now if self._away_since is None else self._away_since
        last = self._away_since if self._told_at is None else self._told_at
        if self._unreachable is not None and now - last >= self._unreachable:
            self._told_at = now
            self._notifier.notify(
                "devsync: out of reach, and billed",
                f"the machine is {link.power}, and could not be reached for "
                f"{lasting(now - self._away_since)} (devsync status says why; devsync vm deallocate ends the "
                "bill)",
            )

    def _show(self, standing: Standing, length: float | None) -> None:
        until = None
        if self._until is not None:
            until = datetime.fromtimestamp(self._until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines: tuple[str, ...] = ()
        if self._open is not None:
            note = "" if self._note == UNSETTLED else self._note
            leased = length is not None and (self._until is not None or self._note == UNSETTLED)
            lines = (*standing.did, closed(standing, length if leased else None, self._after))
            lines += (note,) if note else ()
        settled = UNSETTLED not in (self._note, standing.lacks)
        self._board.post(
            failsafe=FailsafeFacts(until, "on" if standing.works else standing.lacks, lines, settled)
        )


def closed(standing: Standing, length: float | None, after: float | None) -> str:
    """What a closed laptop means, in one line."""
    if standing.works and after is not None:
        behind = "" if length is None else f"; if it cannot, Azure does after {lasting(length)} of silence"
        return (
            f"with the laptop closed, work there goes on, and {lasting(after)} after its end the machine "
            f"deallocates itself{behind}"
        )
    if standing.works:
        return "with the laptop closed the machine runs on and is billed: idle.after is 'never'"
    why = f"(no watchdog: {standing.lacks})"
    if length is None:
        return f"with the laptop closed nothing deallocates the machine, and it is billed on {why}"
    return f"with the laptop closed for {lasting(length)}, Azure deallocates it, whatever runs {why}"
