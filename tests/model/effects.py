"""Replicas and a memory whose every effect has a name, and is a place where something can happen.

An effect's hook is called right before it, so between any two effects there is one. There a test lets a
user edit, kills the engine, takes the link away (when the answer to the last effect is lost, too), or
has the disk refuse.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from devsync.core.snapshot import Ancestor, Change, File, Leaf, Outcome, RelPath, Snapshot
from devsync.ports import ContentChanged, Unavailable
from tests.fakes.memory import Content, MemoryReplica

Act = Callable[[], None]


class Dead(BaseException):
    """The engine's process was killed right here."""


def crash() -> None:
    """The engine dies; what was done before stays done."""
    raise Dead


def cut() -> None:
    """The link is lost: before an effect, or when only the answer to it is missing."""
    raise Unavailable("the link was cut")


def full() -> None:
    """The disk refuses this one effect."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


REFUSABLE = ("read", "commit")
"""What a disk can refuse without ending the cycle."""


@dataclass
class Effects:
    """Counts the effects; `moments` says what happens at which hook."""

    moments: dict[int, Act] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)

    def __call__(self, effect: str, _path: str = "") -> None:
        self.names.append(effect)
        act = self.moments.pop(len(self.names) - 1, None)
        if act is not None:
            act()

    def after(self, count: int, act: Act) -> None:
        """Let `act` happen right before the effect that follows `count` more."""
        self.moments[len(self.names) + count] = act


class Stepped(MemoryReplica):
    """A replica in memory that looks, reads and commits in steps."""

    def __init__(self, side: str, effects: Effects) -> None:
        super().__init__()
        self.side = side
        self.effects = effects

    def step(self, effect: str) -> None:
        self.effects(f"{self.side} {effect}")

    def restart(self) -> None:
        """As a new daemon finds it: what was staged and never used goes."""
        self._staged.clear()

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        self.step("scan")
        return super().scan(scope)

    def _content(self, path: RelPath, file: File) -> Iterable[bytes]:
        """Half of it at a time, as a reader meets somebody who saves in place."""
        for half in (0, 1):
            self.step("read")
            entry = self.entries.get(path)
            if not isinstance(entry, Content):
                raise ContentChanged(f"{path}: is not there any more")
            middle = len(entry.data) // 2
            yield entry.data[middle:] if half else entry.data[:middle]

    def _apply(self, change: Change) -> Outcome:
        try:
            self.step("commit")
            return self.commit(change)
        except OSError as error:
            return Outcome(change.path, False, None, str(error))

    def commit(self, change: Change) -> Outcome:
        """Compare and change, in one step."""
        return super()._apply(change)


class Ledger:
    """What an engine remembers, each call one transaction; outlives every crash."""

    def __init__(self, effects: Effects) -> None:
        self.leaves: dict[RelPath, Leaf] = {}
        self.open: dict[tuple[str, RelPath], Change] = {}
        self.facts: dict[str, str] = {}
        self.step = effects

    def ancestor(self) -> Ancestor:
        return Ancestor(self.leaves)

    def intents(self) -> list[tuple[str, Change]]:
        return [(side, change) for (side, _), change in self.open.items()]

    def begin(self, side: str, changes: Iterable[Change]) -> None:
        self.step("begin")
        self.open.update(((side, change.path), change) for change in changes)

    def settle(
        self, agreed: Sequence[tuple[RelPath, Leaf | None]], ended: Iterable[tuple[str, RelPath]] = ()
    ) -> None:
        self.step("settle")
        for path, leaf in agreed:
            if leaf is None:
                self.leaves.pop(path, None)
            else:
                self.leaves[path] = leaf
        for key in ended:
            self.open.pop(key, None)
        self.step("settle done")

    def forget(self) -> None:
        self.leaves.clear()
        self.open.clear()

    def fact(self, name: str) -> str | None:
        return self.facts.get(name)

    def set_fact(self, name: str, value: str) -> None:
        self.step("fact")
        self.facts[name] = value
