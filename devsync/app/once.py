"""One push or pull, or one question to both sides, with no daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from devsync.app.sides import LocalSide, arrivals, claimant, guard
from devsync.config import Config
from devsync.core.pace import Pace, describe
from devsync.core.reconcile import Direction, Mode, Plan
from devsync.core.snapshot import RelPath
from devsync.daemon.engine import Engine, Permission
from devsync.daemon.guard import summed
from devsync.daemon.identity import name_owner
from devsync.daemon.sync import MARK, ROUNDS
from devsync.daemon.tasks import TASKS
from devsync.ports import Progress
from devsync.replica.luggage import luggage
from devsync.replica.rules import ProjectRules
from devsync.store import Store

if TYPE_CHECKING:
    from devsync.app.reach import Reach
    from devsync.replica.remote import RemoteReplica


@dataclass(frozen=True)
class Once:
    """What a single push or pull did, or would do."""

    direction: str
    dry_run: bool
    changes: list[dict[str, str]]
    conflicts: tuple[RelPath, ...]
    problems: dict[RelPath, str] = field(default_factory=dict)
    held: dict[RelPath, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The document of `push --json`."""
        return {
            "direction": self.direction,
            "dry_run": self.dry_run,
            "changes": self.changes,
            "conflicts": list(self.conflicts),
            "problems": self.problems,
            "held": self.held,
        }


OFTEN = 5.0
"""Seconds between two lines about how it goes."""


class _Spoken:
    """A meter that says it every few seconds."""

    def __init__(self, say: Progress) -> None:
        self._say, self._pace, self._said = say, Pace(), time.monotonic()

    def planned(self, files: int, size: int) -> None:
        self._pace.plan(time.monotonic(), files, size)

    def moved(self, _side: str, size: int) -> None:
        self._pace.move(time.monotonic(), size)
        self._speak()

    def came(self) -> None:
        self._pace.came()
        self._speak()

    def _speak(self) -> None:
        now, pace = time.monotonic(), self._pace
        if now - self._said >= OFTEN:
            self._said = now
            self._say(describe(pace.files, pace.moved, pace.planned, pace.rate(now), pace.remaining(now)))


def synchronise_once(
    config: Config,
    reach: Reach,
    direction: str,
    progress: Progress,
    *,
    dry_run: bool,
    accept_deletions: bool,
    accept_arrivals: bool,
    rejoin: bool,
    take_over: bool,
) -> Once:
    """One synchronisation in one direction, with no daemon. The machine must run."""
    permission = Permission(accept_deletions, rejoin, take_over, accept_arrivals)
    with _opened(config, reach, permission, progress) as engine:
        progress("comparing both sides")
        return _bring_over(engine, Direction(direction), permission, dry_run)


def ask_once(config: Config, reach: Reach, task: str, args: Mapping[str, Any]) -> object:
    """What `task`, one of TASKS, answers with no daemon. The machine must run."""
    with _opened(config, reach, Permission(), lambda _: None) as engine:
        engine.look(None, None)
        return TASKS[task](engine, args)


@contextmanager
def _opened(config: Config, reach: Reach, permission: Permission, progress: Progress) -> Iterator[Engine]:
    """Both sides, known to each other. The machine looks while this side is read."""
    with ExitStack() as stack:
        luggage(())  # so that it is ready when the machine is
        store = Store(reach.state / "project.db")
        stack.callback(store.close)
        local = LocalSide(config.root, store)
        stack.callback(local.close)
        rules = ProjectRules(config.root, config.sync.ignore, store.fact(MARK) or None)
        loaded = rules.load()
        local.set_rules(loaded)
        owner, ancestor = name_owner(store), store.ancestor()

        def ahead(remote: RemoteReplica) -> None:
            remote.set_rules(loaded)
            if not permission.take_over:
                remote.ask_claim(owner, claimant(config.root), take_over=False)
                remote.presume(ancestor.leaves)

        reach.prepare(ahead)
        if not ancestor.leaves:
            local.scan()  # every file must be read for the first time, which need not wait for the machine
        remote = reach.replica()
        stack.callback(remote.close)
        remote.set_rules(loaded)
        engine = Engine(
            store,
            local,
            remote,
            mode=Mode(config.sync.mode),
            max_deletions=config.sync.max_deletions,
            explain=rules.deleted_by_git,
            meter=_Spoken(progress),
            clock=time.monotonic,
            guard=guard(config.sync.allow_secrets, rules),
            arrivals=arrivals(config.sync, rules),
            claimant=claimant(config.root),
        )
        engine.identify(permission)
        yield engine


def _bring_over(engine: Engine, direction: Direction, permission: Permission, dry_run: bool) -> Once:
    if dry_run:
        plan = engine.look(None, None, permission).only(direction)
        return _once(engine, direction, True, _changes(plan), engine.unknown)
    done: dict[RelPath, dict[str, str]] = {}
    for _ in range(ROUNDS):
        result = engine.cycle(None, None, direction=direction, permission=permission)
        done.update((change["path"], change) for change in _changes(result.plan))
        if result.complete:
            break
    left = dict.fromkeys(result.again, "keeps changing") | dict(result.problems)
    made = [change for path, change in done.items() if path not in left]
    return _once(engine, direction, False, made, left)


def _once(
    engine: Engine,
    direction: Direction,
    dry_run: bool,
    changes: list[dict[str, str]],
    problems: Mapping[RelPath, str],
) -> Once:
    conflicts = tuple(sorted(engine.conflicts))
    return Once(direction.value, dry_run, changes, conflicts, dict(problems), summed(engine.held))


def _changes(plan: Plan) -> list[dict[str, str]]:
    return [
        {
            "path": change.path,
            "action": "create" if change.old is None else "delete" if change.new is None else "update",
        }
        for change in (*plan.to_local, *plan.to_remote)
    ]
