"""Two sides in memory, a store on the disk, and an engine between them: what the tests of this room share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from pathlib import Path

from devsync.core.reconcile import Direction, Mode
from devsync.core.safety import Deletions
from devsync.core.snapshot import RelPath
from devsync.daemon.engine import LOCAL, REMOTE, Engine, Permission, Result
from devsync.daemon.guard import Guard
from devsync.daemon.merging import Merging
from devsync.store import Store
from tests.fakes.clock import HandWoundClock
from tests.fakes.memory import Content, MemoryReplica

PATIENCE = 10.0
"""Seconds after which something that should happen did not."""


def until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait for what another thread does and tells nobody about."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError(f"{what} did not happen")


def quick_store(folder: Path) -> Store:
    """A store that does not wait for the disk: nobody pulls the plug on a test."""
    store = Store(folder / "project.db")
    store._db.execute("PRAGMA synchronous = OFF")
    return store


class Meter:
    """Counts the bytes that travel."""

    def __init__(self) -> None:
        self.bytes = {LOCAL: 0, REMOTE: 0}

    def planned(self, files: int, size: int) -> None: ...

    def moved(self, side: str, size: int) -> None:
        self.bytes[side] += size

    def came(self) -> None: ...


class Pair:
    """Two replicas and their memory. `engine` is made anew by `restart`, as after a crash."""

    def __init__(self, folder: Path, mode: Mode = Mode.TWO_WAY, merging: Merging | None = None) -> None:
        self.local, self.remote = MemoryReplica(), MemoryReplica()
        self.clock, self.meter = HandWoundClock(), Meter()
        self.gone_by_git: Collection[RelPath] = ()
        self.store = quick_store(folder)
        self._mode, self.merging = mode, merging
        self.guard: Guard | None = None
        self._deletions = {LOCAL: Deletions(), REMOTE: Deletions()}
        self.engine = self.restart()

    def restart(self) -> Engine:
        """A new engine, with what the store remembers."""
        self.engine = Engine(
            self.store,
            self.local,
            self.remote,
            mode=self._mode,
            max_deletions=0.1,
            explain=lambda: self.gone_by_git,
            meter=self.meter,
            clock=self.clock.monotonic,
            deletions=self._deletions,
            guard=self.guard,
            merging=self.merging,
        )
        return self.engine

    def cycle(
        self,
        local: Collection[RelPath] | None = None,
        remote: Collection[RelPath] | None = None,
        *,
        direction: Direction = Direction.BOTH,
        permission: Permission | None = None,
    ) -> Result:
        return self.engine.cycle(local, remote, direction=direction, permission=permission)

    def agree(self, **files: str) -> None:
        """Both sides hold these files ('__' stands for '/'), and it is known."""
        for name, text in files.items():
            self.write(self.local, name.replace("__", "/"), text)
        assert self.cycle().complete
        assert self.texts(self.local) == self.texts(self.remote)

    @staticmethod
    def write(side: MemoryReplica, path: RelPath, text: str, executable: bool = False) -> None:
        side.entries[path] = Content(text.encode(), executable)

    @staticmethod
    def texts(side: MemoryReplica) -> dict[RelPath, str]:
        return {
            path: entry.data.decode() if isinstance(entry, Content) else f"-> {entry.target}"
            for path, entry in side.entries.items()
        }

    def close(self) -> None:
        self.store.close()
