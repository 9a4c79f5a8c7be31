"""A state machine over two sides: random edits, cycles, faults and deaths, in memory and on real disks.

The same runs each time, so that a red build is red for a reason. MODEL_RUNS=20000 looks further.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from devsync.core.snapshot import RelPath
from tests.model.disk import Pair
from tests.model.effects import crash, cut
from tests.model.mixing import mixing
from tests.model.model import Hints, Model, Parts, in_memory
from tests.model.world import SIDES

# A name that is a file here and a folder there; one that sorts between the two; a deep one.
PATHS = ["a", "a.b", "a/b", "a/b/c", "c/d", "e"]

sides = st.sampled_from(SIDES)
paths = st.sampled_from(PATHS)
delays = st.integers(0, 14)
faults = st.sampled_from([crash, cut])
kinds = st.sampled_from(["fresh", "fresh", "executable", "link"])


class Machine(RuleBasedStateMachine):
    """Every edit goes through the world, which checks the invariants before it; and after each cycle."""

    def __init__(self) -> None:
        super().__init__()
        self.model = self.make()
        self.hints: set[RelPath] = set()

    def make(self) -> Model:
        return in_memory()

    # ------------------------------------------------------------ people

    @rule(side=sides, path=paths, kind=kinds)
    def save(self, side: str, path: RelPath, kind: str) -> None:
        self._save(side, path, kind)
        self.hints.add(path)

    def _save(self, side: str, path: RelPath, kind: str) -> None:
        world = self.model.world
        if kind == "link":
            world.write(side, path, f"-> to-{len(world.fresh())}")
        else:
            data = world.fresh()
            world.write(side, path, (data, "x") if kind == "executable" else data)

    @rule(path=paths)
    def save_the_same(self, path: RelPath) -> None:
        data = self.model.world.fresh()
        for side in SIDES:
            self.model.world.write(side, path, data)
        self.hints.add(path)

    @rule(side=sides, path=paths)
    def delete(self, side: str, path: RelPath) -> None:
        self.model.world.delete(side, path)
        self.hints.add(path)

    @rule(side=sides, path=paths)
    def flip(self, side: str, path: RelPath) -> None:
        self.model.world.flip(side, path)
        self.hints.add(path)

    @rule(side=sides, path=paths, to=paths)
    def move(self, side: str, path: RelPath, to: RelPath) -> None:
        self.model.world.move(side, path, to)
        self.hints.update((path, to))

    @rule(side=sides, path=paths)
    def revert(self, side: str, path: RelPath) -> None:
        self.model.world.revert(side, path)
        self.hints.add(path)

    # ------------------------------------------------------------ what happens during a cycle

    @rule(side=sides, path=paths, kind=kinds, delay=delays)
    def save_later(self, side: str, path: RelPath, kind: str, delay: int) -> None:
        self.model.effects.after(delay, lambda: self._save(side, path, kind))

    @rule(side=sides, path=paths, delay=delays)
    def delete_later(self, side: str, path: RelPath, delay: int) -> None:
        self.model.effects.after(delay, lambda: self.model.world.delete(side, path))

    @rule(side=sides, path=paths, delay=delays)
    def revert_later(self, side: str, path: RelPath, delay: int) -> None:
        self.model.effects.after(delay, lambda: self.model.world.revert(side, path))

    @rule(fault=faults, delay=delays)
    def fail_later(self, fault: object, delay: int) -> None:
        self.model.effects.after(delay, crash if fault is crash else cut)

    # ------------------------------------------------------------ the engine

    @rule()
    def look_at_everything(self) -> None:
        self._cycle(None, None)
        self.hints.clear()

    @rule(told=sides)
    def follow_hints(self, told: str) -> None:
        """The other side's watcher is late, or deaf."""
        self._cycle(self.hints if told == "local" else set(), self.hints if told == "remote" else set())

    @rule()
    def follow_all_hints(self) -> None:
        self._cycle(self.hints, self.hints)

    def _cycle(self, local: Hints, remote: Hints) -> None:
        again = self.model.cycle(local, remote)
        self.hints.update(again or ())

    @rule()
    def restart(self) -> None:
        self.model.end()

    @rule(seconds=st.sampled_from([0.2, 1.5, 4000.0, -3600.0]))
    def tick(self, seconds: float) -> None:
        self.model.now += seconds

    @rule()
    def quiesce(self) -> None:
        self.model.quiesce()
        self.hints.clear()

    def teardown(self) -> None:
        self.model.quiesce()


def run(machine: type[Machine], runs: int, steps: int) -> None:
    """So many runs of so many steps, as told from outside or always the same."""
    more = int(os.environ.get("MODEL_RUNS", "0"))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=more or runs,
            derandomize=not more,
            database=None,
            deadline=None,
            stateful_step_count=steps,
            phases=(Phase.generate, Phase.shrink) if more else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_runs_in_memory() -> None:
    run(Machine, 2_000, 10)


def test_random_runs_with_merges() -> None:
    class Merging(Machine):
        def make(self) -> Model:
            return in_memory(Parts(merging=mixing))

    run(Merging, 500, 10)


@pytest.mark.timeout(120)
def test_random_runs_on_disk(quick_folder: Path) -> None:
    pair = Pair(quick_folder)

    class OnDisk(Machine):
        def make(self) -> Model:
            return pair.model()

    try:
        run(OnDisk, 200, 10)
    finally:
        pair.close()
