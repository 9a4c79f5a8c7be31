"""Watches the project folder: a change becomes a hint, and a cookie proves that none is still on its way.

Owns the eyes and everything they see: the threads of the eyes only fill the queue, the thread that
runs `Watcher.run` empties it.
"""

from __future__ import annotations

import os
import queue
import threading
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from devsync import ports
from devsync.core.ignore import Rules
from devsync.core.snapshot import ROOT, RelPath
from devsync.ports import DevsyncError, Hints, Unavailable
from devsync.replica.eyes import COOKIES, GIT_INPUTS, Eyes, Overflow, open_eyes

_CHECK = 1.0  # seconds between two looks at whether anybody still watches
_LONGEST_QUEUE = 100_000  # events; what comes on top is an overflow like the kernel's


class _News:
    """Something beside events is to be looked at: new rules, or the end."""


@dataclass(frozen=True)
class _Cookie:
    """Somebody waits until everything that happened before now has come by."""

    name: str


class Watcher:
    """The service that hints at local changes. `outside` is asked whether git's rules have changed.

    `degraded` says in words what is not watched (empty: everything is); the full look finds it.
    Changes in `.git` are no hints, except that another value of `outside()` hints at everything.
    """

    name = "watch"

    def __init__(self, root: Path, hints: Hints, outside: Callable[[], object] | None = None) -> None:
        self.degraded = ""
        self._root, self._hints, self._outside = Path(os.path.realpath(root)), hints, outside
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._flooded = threading.Event()
        self._rules: Rules | None = None
        self._followed: Rules | None = None
        self._cookies: dict[str, threading.Event] = {}
        self._seen_outside: object = None

    # ------------------------------------------------------------ for other threads

    def set_rules(self, rules: ports.Rules) -> None:
        """What is mirrored from now on. Nothing is watched before the first rules are known."""
        self._rules = rules if isinstance(rules, Rules) else Rules.from_json(rules.to_json())
        self._queue.put(_News())

    def interrupt(self) -> None:
        """Make `run` look at its stop event."""
        self._queue.put(_News())

    def prove(self, timeout: float) -> bool:
        """Whether, within `timeout` seconds, every change made before this call has become a hint."""
        name, seen = uuid.uuid4().hex, threading.Event()
        self._cookies[name] = seen
        self._queue.put(_Cookie(name))
        try:
            return seen.wait(timeout)
        finally:
            del self._cookies[name]
            with suppress(OSError):
                (self._root / COOKIES / name).unlink()

    # ------------------------------------------------------------ the service

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set. Unavailable: the root is gone or replaced, or nobody watches."""
        try:
            self._watch(stop)
        except Unavailable:
            self._hints.add([ROOT])  # what has become of the folder is to be looked at now, not some day
            raise

    def _watch(self, stop: threading.Event) -> None:
        self._queue, self._followed = queue.SimpleQueue(), None
        self._flooded.clear()
        identity = self._identity()
        if self._outside is not None:
            self._seen_outside = self._outside()
        eyes = open_eyes(self._root, self._put)
        try:
            self._follow(eyes)
            while not stop.is_set():
                self._look(eyes)
                if self._identity() != identity:
                    raise Unavailable(f"the project folder was replaced: {self._root}")
                if not eyes.alive():
                    raise Unavailable("the watcher of the project folder has died")
        finally:
            eyes.close()

    def _put(self, item: object) -> None:
        """Called in watchdog's threads, where an exception would end all watching, unnoticed."""
        if self._queue.qsize() < _LONGEST_QUEUE:
            self._queue.put(item)
        else:
            self._flooded.set()

    def _look(self, eyes: Eyes) -> None:
        """Turn what has come in into hints; waits for it a while."""
        items: list[object] = []
        with suppress(queue.Empty):
            items.append(self._queue.get(timeout=_CHECK))
            while len(items) < _LONGEST_QUEUE:
                items.append(self._queue.get_nowait())
        if self._flooded.is_set() and len(items) < _LONGEST_QUEUE:
            self._flooded.clear()
            items.append(Overflow())
        seen: set[RelPath] = set()
        for item in items:
            if isinstance(item, _News):
                self._follow(eyes)
            elif isinstance(item, _Cookie):
                self._bake(eyes, [item.name])
            elif isinstance(item, Overflow):
                self._followed = None  # folders that were born may have gone unseen too
                self._follow(eyes)
                seen.update(f"{COOKIES}/{name}" for name in list(self._cookies))
            else:
                seen.update(eyes.see(item))
        self._tell(seen)

    def _tell(self, seen: set[RelPath]) -> None:
        cookies = {path for path in seen if path.startswith(COOKIES + "/")}
        git = seen.intersection(GIT_INPUTS)
        hints = seen - cookies - git
        if git and self._changed_outside():
            hints.add(ROOT)
        if hints:
            self._hints.add(hints)
        for path in cookies:  # what came before the cookie has been hinted
            waiting = self._cookies.get(path.rpartition("/")[2])
            if waiting is not None:
                waiting.set()

    def _bake(self, eyes: Eyes, names: Collection[str]) -> None:
        """Make cookies; before anything is watched they would prove nothing."""
        if self._followed is None or not names:
            return
        eyes.watch_aside()
        for name in names:
            if name in self._cookies:
                with suppress(OSError):
                    (self._root / COOKIES / name).touch(0o600)

    def _follow(self, eyes: Eyes) -> None:
        rules = self._rules
        if rules is None or rules == self._followed:
            return
        first = self._followed is None
        added = eyes.follow(rules)
        self._followed, self.degraded = rules, eyes.degraded
        # What was changed before it was watched has to be looked for.
        self._hints.add([ROOT] if first else added)
        self._bake(eyes, list(self._cookies))

    def _changed_outside(self) -> bool:
        if self._outside is None:
            return False
        before = self._seen_outside
        try:
            self._seen_outside = self._outside()
        except DevsyncError:
            return True  # whoever reads the rules next says what is wrong
        return self._seen_outside != before

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.stat(self._root)
        except OSError as error:
            raise Unavailable(f"the project folder is not there: {self._root}") from error
        return found.st_dev, found.st_ino
