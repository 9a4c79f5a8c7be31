"""Where hints and requests wait for the sync loop: the only way in for other threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any

from devsync.core.snapshot import ROOT, RelPath
from devsync.daemon.engine import Engine, Permission
from devsync.ports import NeedsUser

LONGEST_SETTLE = 1.0
"""Seconds after which a hint is acted on, however busily more of them arrive."""

ECHO = 5.0
"""Seconds for which a hint of what we have changed ourselves does not interrupt a transfer."""


@dataclass(frozen=True)
class Synchronised:
    """The answer to a request: every change made before it has been carried over, except these."""

    conflicts: tuple[RelPath, ...]
    unsettled: dict[RelPath, str]


@dataclass
class Request:
    """Somebody waits until everything that was changed before now is on the other side.

    The answer is `Synchronised`, or what `task` returns, which the sync loop calls then.
    """

    permission: Permission = field(default_factory=Permission)
    task: Callable[[Engine], object] | None = None
    reply: Future[Any] = field(default_factory=Future)


@dataclass
class Work:
    """What the loop takes out at once. A set that holds `ROOT` means everything."""

    local: set[RelPath] = field(default_factory=set)
    remote: set[RelPath] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)


class Inbox:
    """Hints of both sides and requests. Any thread puts in, the sync loop takes out."""

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._changed = threading.Condition()
        self._work = Work()
        self._first_hint = self._last_hint = 0.0
        self._echoes: dict[str, dict[RelPath, float]] = {"local": {}, "remote": {}}
        self._blocked: NeedsUser | None = None
        self._woken = False
        self.local = _Side(self, "local")
        self.remote = _Side(self, "remote")

    def hint(self, side: str, paths: Iterable[RelPath]) -> None:
        """Paths of one side that may have changed."""
        with self._changed:
            waiting = self._work.local if side == "local" else self._work.remote
            before = bool(self._work.local or self._work.remote)
            waiting.update(paths)
            self._last_hint = time.monotonic()
            if not before:
                self._first_hint = self._last_hint
            self._changed.notify_all()

    def request(self, permission: Permission | None = None) -> Future[Synchronised]:
        """Ask for a barrier; a permission also lifts what blocks the loop."""
        return self._enter(Request(permission or Permission()), lifts=permission is not None)

    def _enter(self, request: Request, *, lifts: bool) -> Future[Any]:
        with self._changed:
            if self._blocked is not None and not lifts:
                request.reply.set_exception(self._blocked)
            else:
                self._work.requests.append(request)
                self._changed.notify_all()
        return request.reply

    def ask(self, task: Callable[[Engine], object]) -> Future[Any]:
        """Have something done by the thread that owns the replicas, behind a barrier: its result."""
        return self._enter(Request(task=task), lifts=False)

    def permissions(self) -> Permission:
        """What the waiting requests allow, all together."""
        with self._changed:
            given = [request.permission for request in self._work.requests]
        return reduce(or_, given, Permission())

    def take(self, timeout: float) -> Work:
        """Wait for something to do, up to `timeout` seconds, and until hints have settled."""
        with self._changed:
            self._changed.wait_for(lambda: self._woken or self._anything(), timeout)
            while not self._work.requests and self._anything() and not self._woken:
                unsettled = self._due() - time.monotonic()
                if unsettled <= 0:
                    break
                self._changed.wait(unsettled)
            work, self._work, self._woken = self._work, Work(), False
            return work

    def expect(self, side: str, paths: Iterable[RelPath]) -> None:
        """These have just been changed by ourselves: what is hinted of them is hardly more than an echo."""
        with self._changed:
            now = time.monotonic()
            for heard, until in [*self._echoes[side].items()]:
                if until < now:
                    del self._echoes[side][heard]
            self._echoes[side].update(dict.fromkeys(paths, now + ECHO))

    def urgent(self, *, requests: bool) -> bool:
        """Whether hints wait that have settled; or requests, where they may interrupt. Echoes can wait."""
        with self._changed:
            if requests and self._work.requests:
                return True
            now = time.monotonic()
            return now >= self._due() and any(
                self._is_news(side, path, now)
                for side, paths in (("local", self._work.local), ("remote", self._work.remote))
                for path in paths
            )

    def take_urgent(self, *, requests: bool) -> Work:
        """What `urgent` speaks of, at once. Requests take all the hints along."""
        if not self.urgent(requests=requests):
            return Work()
        with self._changed:
            if requests and self._work.requests:
                taken, self._work = self._work, Work()
                return taken
            now, waiting = time.monotonic(), self._work
            local = {path for path in waiting.local if self._is_news("local", path, now)}
            remote = {path for path in waiting.remote if self._is_news("remote", path, now)}
            self._work = Work(waiting.local - local, waiting.remote - remote, waiting.requests)
            return Work(local, remote)

    def _is_news(self, side: str, path: RelPath, now: float) -> bool:
        return self._echoes[side].get(path, now) <= now

    def give_back(self, work: Work) -> None:
        """What was taken out could not be done: it waits again."""
        with self._changed:
            self._work.local |= work.local
            self._work.remote |= work.remote
            self._work.requests[:0] = [request for request in work.requests if not request.reply.done()]

    def block(self, error: NeedsUser | None) -> None:
        """The loop stands still until the user acts: whoever waits is told so."""
        with self._changed:
            self._blocked = error
            if error is not None:
                refused, self._work.requests = self._work.requests, []
                for request in refused:
                    request.reply.set_exception(error)

    def wake(self) -> None:
        """Make `take` return."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _due(self) -> float:
        """When the hints that wait are to be acted on."""
        return min(self._last_hint + self._settle, self._first_hint + LONGEST_SETTLE)

    def _anything(self) -> bool:
        return bool(self._work.local or self._work.remote or self._work.requests)


class _Side:
    """The hints of one side, as `ports.Hints`."""

    def __init__(self, inbox: Inbox, side: str) -> None:
        self._inbox, self._side = inbox, side

    def add(self, paths: Iterable[RelPath]) -> None:
        self._inbox.hint(self._side, paths)


EVERYTHING = frozenset({ROOT})
