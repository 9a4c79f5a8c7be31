"""A sync loop in a thread of a real supervisor, between two sides in memory, with everything at hand."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from devsync.core.ignore import Rule, Rules
from devsync.core.reconcile import Mode
from devsync.core.snapshot import File, RelPath, Snapshot
from devsync.daemon.board import Board, Facts
from devsync.daemon.engine import Permission
from devsync.daemon.inbox import Inbox
from devsync.daemon.supervisor import Supervisor
from devsync.daemon.sync import SyncLoop, SyncPolicy
from devsync.ports import DevsyncError, Replica, Staging
from tests.daemon.rig import PATIENCE, quick_store, until
from tests.fakes.clock import HandWoundClock
from tests.fakes.memory import MemoryReplica

DATA_IS_IGNORED = Rules(git=(Rule("", "data", name_only=True),))


class FakeRules:
    """A `RulesSource` that a test sets."""

    def __init__(self) -> None:
        self.rules = Rules()
        self.stamp = 0
        self.git_is_busy = False
        self.asked_busy = 0
        self.gone_by_git: Collection[RelPath] = ()

    def load(self) -> Rules:
        return self.rules

    def governs(self, path: RelPath) -> bool:
        return path.endswith(".gitignore")

    def fingerprint(self) -> object:
        return self.stamp

    def deleted_by_git(self) -> Collection[RelPath]:
        return self.gone_by_git

    def mark(self) -> str | None:
        return None

    def busy(self) -> bool:
        self.asked_busy += 1
        return self.git_is_busy


class Gate:
    """Holds up the looks of a side, after what they see is fixed."""

    def __init__(self, side: MemoryReplica) -> None:
        self.reached, self._open = threading.Event(), threading.Event()
        scan = side.scan

        def held(scope: Collection[RelPath] | None = None) -> Snapshot:
            seen = scan(scope)
            self.reached.set()
            assert self._open.wait(PATIENCE)
            return seen

        side.scan = held  # type: ignore[method-assign]  # a slow disk

    def open(self) -> None:
        self._open.set()


class Follower:
    """A watcher, as far as it follows rules."""

    def __init__(self) -> None:
        self.rules: list[Rules] = []

    def set_rules(self, rules: Rules) -> None:
        self.rules.append(rules)


class Loop:
    """The loop and what it works on.

    `opening` are the errors that the next openings of the remote meet; `reading` is called, one each time,
    before files of the local side are read.
    """

    def __init__(self, folder: Path, permission: Permission | None = None) -> None:
        self.local, self.remote = MemoryReplica(), MemoryReplica()
        self.store = quick_store(folder)
        self.clock, self.rules, self.follower = HandWoundClock(), FakeRules(), Follower()
        self.inbox, self.board = Inbox(0.001), Board()
        self.activity: Counter[str] = Counter()
        self.opening: list[DevsyncError] = []
        self.opened = 0
        self.reading: list[Callable[[], None]] = []
        self._hook_reading(self.local)
        self.supervisor = Supervisor(self.board)
        self.service = SyncLoop(
            open_remote=self._open,
            local=self.local,
            memory=self.store,
            rules=self.rules,
            watchers=[self.follower],
            inbox=self.inbox,
            board=self.board,
            policy=SyncPolicy(Mode.TWO_WAY, 0.1),
            clock=self.clock,
            activity=lambda name: self.activity.update([name]),
            permission=permission or Permission(),
        )

    def _hook_reading(self, side: MemoryReplica) -> None:
        supply = side.supply

        def hooked(wanted: Sequence[tuple[RelPath, File]], staging: Staging) -> None:
            if self.reading:
                self.reading.pop(0)()
            supply(wanted, staging)

        side.supply = hooked  # type: ignore[method-assign]  # for what happens just then

    def _open(self, stop: threading.Event) -> Replica:
        if self.opening:
            raise self.opening.pop(0)
        self.opened += 1
        self.remote.away = False
        return self.remote

    def start(self) -> None:
        """Start it and wait for the first synchronisation."""
        self.supervisor.add(self.service, reports=True)
        self.until(lambda facts: facts.sync.synchronised)

    def until(self, condition: Callable[[Facts], object]) -> Facts:
        until(lambda: condition(self.board.read()), f"what was waited for: {self.board.read()}")
        return self.board.read()

    def flush(self) -> dict[RelPath, str]:
        """A barrier: what it left unsettled."""
        return self.inbox.request().result(PATIENCE).unsettled

    def close(self) -> None:
        self.supervisor.stop()
        self.store.close()
