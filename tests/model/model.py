"""A world, an engine in it, and what happens to engines: cycles, deaths and new starts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from devsync.core.reconcile import Mode
from devsync.core.snapshot import RelPath
from devsync.daemon.engine import LOCAL, REMOTE, Engine, Permission
from devsync.daemon.merging import Merging
from devsync.ports import Unavailable
from tests.contract.replicas import Memory as MemorySide
from tests.model.effects import Dead, Effects, Ledger, Stepped
from tests.model.world import SIDES, Violation, World

Hints = Collection[RelPath] | None

ROUNDS = 8
"""Cycles after which quiet sides must have agreed."""


@dataclass(frozen=True)
class Parts:
    """What a model is made of. A mutant has another part."""

    engine: type[Engine] = Engine
    replica: type[Stepped] = Stepped
    ledger: type[Ledger] = Ledger
    merging: Callable[[World], Merging] | None = None


REFERENCE = Parts()


class NoMeter:
    """Nobody watches."""

    def planned(self, files: int, size: int) -> None: ...
    def moved(self, side: str, size: int) -> None: ...
    def came(self) -> None: ...


class Model:
    """Owns the engine of the day. `renew` makes the replicas of a new start."""

    def __init__(
        self, world: World, effects: Effects, renew: Callable[[], None], parts: Parts = REFERENCE
    ) -> None:
        self.world, self.effects, self._renew, self._parts = world, effects, renew, parts
        self.ledger = parts.ledger(effects)
        self._merging = parts.merging(world) if parts.merging else None
        self.now = 0.0
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The one that lives; a new one, over the same memory and folders, if the last one died."""
        if self._engine is None:
            self._renew()
            sides = self.world.sides
            self._engine = self._parts.engine(
                self.ledger,
                sides[LOCAL].replica,
                sides[REMOTE].replica,
                mode=Mode.TWO_WAY,
                max_deletions=1.0,
                explain=tuple,
                meter=NoMeter(),
                clock=lambda: self.now,
                merging=self._merging,
            )
            self._engine.identify(Permission())
        return self._engine

    def end(self) -> None:
        """The engine is no more."""
        self._engine = None
        for _, path in self.ledger.open:
            self.world.doubt(path)

    def agree(self, paths: Collection[RelPath]) -> None:
        """Remember what both sides hold at `paths`, as if it had been synchronised long ago."""
        found = self.world.sides[LOCAL].replica.scan(list(paths)).leaves
        self.ledger.settle([(path, found.get(path)) for path in paths])
        if self._merging is not None:
            self._merging.tidy(self.engine.ancestor.leaves)
            self._merging.keep()

    def cycle(self, local: Hints = None, remote: Hints = None) -> Hints:
        """One cycle; the paths to look at next, none of them if it was the engine's last."""
        try:
            result = self.engine.cycle(local, remote)
        except (Dead, Unavailable):
            self.world.observe()
            self.end()
            return None
        self.world.observe()
        return result.again | result.later

    def quiesce(self) -> None:
        """Let things settle, with nothing in the way, and ask what must hold then."""
        self.effects.moments.clear()
        for _ in range(ROUNDS):
            engine = self.engine
            result = engine.cycle(None, None)
            self.world.observe()
            if result.complete and result.plan.quiet and not result.plan.agreed:
                break
        else:
            raise Violation(f"convergence: no end of changes: {result}")
        if result.problems:
            raise Violation(f"convergence: {dict(result.problems)} when everything is well")
        self._remembered(set(engine.conflicts))
        self.world.settled(set(engine.conflicts))

    def _remembered(self, conflicts: Collection[RelPath]) -> None:
        if self.ledger.open:
            raise Violation(f"memory: intents are left: {self.ledger.open}")
        if self.ledger.leaves != self.engine.ancestor.leaves:
            raise Violation("memory: the ancestor on the disk is another one")
        looks = [self.world.sides[side].replica.scan(None).leaves for side in SIDES]
        for path in {*self.ledger.leaves, *looks[0], *looks[1]}:
            here, there = (look.get(path) for look in looks)
            if here == there and self.ledger.leaves.get(path) != here and path not in conflicts:
                raise Violation(f"memory: the ancestor does not know what both sides hold at {path}")


def in_memory(parts: Parts = REFERENCE, *, equal_sizes: bool = False) -> Model:
    """Two empty sides in memory."""
    effects = Effects()
    replicas = {side: parts.replica(side, effects) for side in SIDES}
    sides: Mapping[str, MemorySide] = {side: MemorySide() for side in SIDES}
    for side, replica in replicas.items():
        sides[side].replica = replica

    def renew() -> None:
        for replica in replicas.values():
            replica.restart()

    return Model(World(sides, equal_sizes=equal_sizes), effects, renew, parts)
