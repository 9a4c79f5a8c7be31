"""One push or pull, with no daemon."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from devsync.app.machine import open_machine
from devsync.app.sides import Connector, LocalSide, open_remote
from devsync.config import Config
from devsync.core.reconcile import Direction, Mode, Plan
from devsync.core.snapshot import RelPath
from devsync.daemon.engine import Engine, Permission
from devsync.daemon.lock import ProjectLock
from devsync.daemon.sync import MARK, ROUNDS
from devsync.folders import state_dir
from devsync.ports import Connection, Machine, Power, Progress, Unavailable
from devsync.replica.rules import ProjectRules
from devsync.store import Store


@dataclass(frozen=True)
class Once:
    """What a single push or pull did, or would do."""

    direction: str
    dry_run: bool
    changes: list[dict[str, str]]
    conflicts: tuple[RelPath, ...]
    problems: dict[RelPath, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """The document of `push --json`."""
        return {
            "direction": self.direction,
            "dry_run": self.dry_run,
            "changes": self.changes,
            "conflicts": list(self.conflicts),
            "problems": self.problems,
        }


class _NoMeter:
    def planned(self, files: int, size: int) -> None: ...
    def moved(self, side: str, size: int) -> None: ...


def synchronise_once(
    config: Config,
    environ: Mapping[str, str],
    direction: str,
    progress: Progress,
    *,
    dry_run: bool,
    accept_host_key: str | None,
    accept_deletions: bool,
    rejoin: bool,
) -> Once:
    """One synchronisation in one direction, with no daemon. The machine must run."""
    state = state_dir(config.root, environ)
    lock = ProjectLock(state / "lock")
    with ExitStack() as stack:
        stack.callback(lock.release)
        machine = open_machine(config, state)
        stack.callback(machine.close)
        connection = _reach(config, machine, accept_host_key)
        remote = open_remote(config, connection, create=True)
        stack.callback(remote.close)
        store = Store(state / "project.db")
        stack.callback(store.close)
        local = LocalSide(config.root, store)
        rules = ProjectRules(config.root, config.sync.ignore, store.fact(MARK) or None)
        loaded = rules.load()
        local.set_rules(loaded)
        remote.set_rules(loaded)
        engine = Engine(
            store,
            local,
            remote,
            mode=Mode(config.sync.mode),
            max_deletions=config.sync.max_deletions,
            explain=rules.deleted_by_git,
            meter=_NoMeter(),
            clock=time.monotonic,
        )
        permission = Permission(accept_deletions, rejoin)
        engine.identify(permission)
        progress("comparing both sides")
        return _bring_over(engine, Direction(direction), permission, dry_run)


def _bring_over(engine: Engine, direction: Direction, permission: Permission, dry_run: bool) -> Once:
    if dry_run:
        plan = engine.look(None, None).only(direction)
        return Once(
            direction.value, True, _changes(plan), tuple(sorted(engine.conflicts)), dict(engine.unknown)
        )
    done: dict[RelPath, dict[str, str]] = {}
    for _ in range(ROUNDS):
        result = engine.cycle(None, None, direction=direction, permission=permission)
        done.update((change["path"], change) for change in _changes(result.plan))
        if result.complete:
            break
    left = dict.fromkeys(result.again, "keeps changing") | dict(result.problems)
    made = [change for path, change in done.items() if path not in left]
    return Once(direction.value, False, made, tuple(sorted(engine.conflicts)), left)


def _changes(plan: Plan) -> list[dict[str, str]]:
    return [
        {
            "path": change.path,
            "action": "create" if change.old is None else "delete" if change.new is None else "update",
        }
        for change in (*plan.to_local, *plan.to_remote)
    ]


def _reach(config: Config, machine: Machine, accept: str | None) -> Connection:
    power = machine.power()
    if power not in (Power.RUNNING, Power.UNKNOWN):
        raise Unavailable(f"the machine is {power.value}", hint="devsync vm start starts it")
    return Connector(config, machine, accept)(machine.address())
