"""Waiting until what was changed before is on the other side, for as long as there is hope for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from devsync.daemon.board import Facts, Trouble
from devsync.daemon.control import Session
from devsync.daemon.inbox import Synchronised
from devsync.daemon.parts import Parts
from devsync.ports import DevsyncError, Unavailable

LOOK_UP = 0.5
"""Seconds after which somebody who waits looks whether there still is hope."""

T = TypeVar("T")


class Barrier:
    """Any thread may wait."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def flush(self, session: Session, timeout: float | None, away: float | None = None) -> Synchronised:
        """Wait until everything that was changed before now is on the other side."""
        return self.behind(session, self._parts.inbox.request, timeout, away)

    def behind(
        self,
        session: Session,
        ask: Callable[[], Future[T]],
        timeout: float | None,
        away: float | None = None,
    ) -> T:
        """What comes of a request that stands behind a barrier, within `timeout` seconds.

        Unavailable once the machine has been out of reach for `away` seconds meanwhile; None waits for it.
        """
        self.stop_without_hope()
        trouble = self._parts.board.read().troubles.get("link")
        if trouble is not None:
            session.event({"progress": f"{trouble.message}; waiting for the machine"})
        reply = ask()
        deadline = None if timeout is None else time.monotonic() + timeout
        reached = time.monotonic()
        while True:
            left = LOOK_UP if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return reply.result(min(left, LOOK_UP))
            except FutureTimeout:
                self.stop_without_hope()
                if left == 0:
                    raise self._late() from None
            now = time.monotonic()
            if not _out_of_reach(self._parts.board.read()):
                reached = now
            elif away is not None and now - reached >= away:
                raise self._away()

    def stop_without_hope(self) -> None:
        """Nothing can be carried over before somebody acts: whoever waits is told so."""
        facts = self._parts.board.read()
        if self._parts.supervisor.stopping.is_set():
            raise self.ending()
        if not self._parts.link.wanted:
            raise Unavailable(f"the machine is {facts.link.power}", hint="devsync start brings it back")
        for service in ("link", "sync"):
            trouble = facts.troubles.get(service)
            if trouble is not None and trouble.needs_user:
                raise Told(trouble)

    def ending(self) -> DevsyncError:
        """Why the daemon ends."""
        return self._parts.supervisor.failure or Unavailable("the daemon is stopping", hint="devsync start")

    def _late(self) -> Unavailable:
        troubles = self._parts.board.read().troubles.values()
        why = "; ".join(trouble.message for trouble in troubles) or "still at work"
        return Unavailable(f"not everything was carried over in time: {why}", hint="devsync status")

    def _away(self) -> Unavailable:
        why = self._parts.board.read().troubles.get("link")
        reason = f": {why.message}" if why else ""
        return Unavailable(f"the machine is out of reach{reason}", hint="devsync status follows it")


def _out_of_reach(facts: Facts) -> bool:
    """Not within reach, and not on the way up either."""
    return facts.link.state != "connected" and "link" in facts.troubles and not facts.link.progress


class Told(DevsyncError):
    """A trouble of a service, told to whoever waits."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message, hint=trouble.hint)
        self.exit_status = trouble.exit_status
        self.kind = trouble.kind
        self.details = trouble.details
