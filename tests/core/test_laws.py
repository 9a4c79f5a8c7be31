"""What holds of every plan: in every small world and in random larger ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given

from devsync.core import reconcile as core
from devsync.core.reconcile import Direction, Mode, Plan
from devsync.core.snapshot import Ancestor, File, Leaf, RelPath, Snapshot
from tests.core.worlds import Tree, World, apply, below, edited, folders, related, small_worlds, worlds

# ---------------------------------------------------------------- the laws


def symmetry(world: World) -> None:
    """Neither side is favoured: swap them, and the plan is mirrored."""
    plan = world.look()
    conflicts = [
        replace(conflict, local=conflict.remote, remote=conflict.local) for conflict in plan.conflicts
    ]
    assert world.swapped.look() == Plan(plan.to_remote, plan.to_local, plan.agreed, tuple(conflicts))


def preconditions(world: World) -> None:
    """A change says what was seen at its path, once for each path, and asks for something else."""
    plan = world.look()
    for side, changes in ((world.local, plan.to_local), (world.remote, plan.to_remote)):
        assert len({change.path for change in changes}) == len(changes)
        for change in changes:
            assert change.old == side.get(change.path) != change.new


def room(world: World) -> None:
    """Every change of a plan can be made, in a side that keeps still: no leaf comes below another."""
    plan = world.look()
    for side, changes in ((world.local, plan.to_local), (world.remote, plan.to_remote)):
        after = apply(side, changes)
        assert all(after.get(change.path) == change.new for change in changes)
        assert not folders(after) & set(after)


def convergence(world: World) -> None:
    """One cycle does it all: what is in no conflict is equal on both sides and in the ancestor."""
    plan = world.look()
    after, open_ = world.after(plan), [conflict.path for conflict in plan.conflicts]
    for path in {*after.ancestor, *after.local, *after.remote}:
        if not below(path, open_):
            assert after.ancestor.get(path) == after.local.get(path) == after.remote.get(path)
    assert after.look() == Plan(conflicts=plan.conflicts)


def nothing_lost(world: World) -> None:
    """What a side had that the ancestor had not is, in the end, at its path on at least one side."""
    _still_there(world, world.settled())


def cause(world: World) -> None:
    """A side's path changes only because of what the other side did there since they last agreed."""
    plan = world.look()
    for other, changes in ((world.remote, plan.to_local), (world.local, plan.to_remote)):
        for change in changes:
            assert other.get(change.path) != world.ancestor.get(change.path)


def sole_writer(world: World) -> None:
    """Where one side alone did something, that is what both have. A conflict takes two."""
    local, remote = _touched(world.ancestor, world.local), _touched(world.ancestor, world.remote)
    plan = world.look()
    open_ = [conflict.path for conflict in plan.conflicts]
    for place in open_:
        assert any(related(path, place) for path in local)
        assert any(related(path, place) for path in remote)
    after = world.after(plan)
    for path in local ^ remote:
        if not below(path, open_):
            writer = world.local if path in local else world.remote
            assert after.local.get(path) == after.remote.get(path) == writer.get(path)


def equal_sides(world: World) -> None:
    """Where both sides hold the same nothing is done, whatever the ancestor says: it may be lost or old."""
    for ancestor in (world.ancestor, world.remote, {}):
        same = World(ancestor, world.local, world.local)
        plan = same.look()
        assert plan.quiet and not plan.conflicts
        assert same.after(plan).ancestor == world.local


def crash(world: World) -> None:
    """Cut off after any change, the ancestor not written: nothing is lost, and the end is the same."""
    plan, end = world.look(), world.settled()
    for done in range(len(plan.to_local) + len(plan.to_remote) + 1):
        cut = world.after(_first(plan, done), remember=False).settled()
        _still_there(world, cut)
        if not plan.conflicts:
            assert (cut.local, cut.remote) == (end.local, end.remote)


def refusal(world: World) -> None:
    """One change is refused (somebody was faster, or is not allowed to): the others do no harm."""
    plan = world.look()
    for refused in (*plan.to_local, *plan.to_remote):
        to_local, to_remote = (
            tuple(change for change in changes if change is not refused)
            for changes in (plan.to_local, plan.to_remote)
        )
        part = world.after(replace(plan, to_local=to_local, to_remote=to_remote))
        _still_there(world, part.settled())


def one_direction(world: World) -> None:
    """A push or pull leaves the other side alone, and whatever it did a full cycle can build upon."""
    plan = world.look()
    for direction in (Direction.PUSH, Direction.PULL):
        part = plan.only(direction)
        assert not (part.to_local if direction is Direction.PUSH else part.to_remote)
        after = world.after(part)
        for change in (*part.to_local, *part.to_remote):
            assert after.local.get(change.path) == after.remote.get(change.path) == change.new
        _still_there(world, after.settled())


def race(world: World) -> None:
    """What is written between the look and the change is never overwritten."""
    plan, fresh = world.look(), File("f" * 64, 4444)
    for change in plan.to_local:
        raced = replace(world, local=edited(world.local, [(change.path, fresh)]))
        assert raced.after(plan).local[change.path] == fresh
        _still_there(raced, raced.after(plan).settled())


def unknown(world: World) -> None:
    """At and below what cannot be read nothing is decided, and nothing is put above it."""
    for place in sorted({*world.local, *folders(world.local)}):
        plan = world.look(local_problems=[place])
        decided = [change.path for change in (*plan.to_local, *plan.to_remote)]
        decided += [path for path, _ in plan.agreed] + [conflict.path for conflict in plan.conflicts]
        assert not any(below(path, [place]) for path in decided)
        after = world.after(plan)
        assert not folders(after.local) & set(after.local)
        assert {path: leaf for path, leaf in after.local.items() if below(path, [place])} == {
            path: leaf for path, leaf in world.local.items() if below(path, [place])
        }
        assert all(after.local.get(change.path) == change.new for change in plan.to_local)
        _still_there(world, after.settled())


def part(world: World) -> None:
    """A look at one name in the root decides there what a look at everything decides there."""
    plan = world.look()
    for place in ("a", "b"):
        local, remote = (
            Snapshot({path: leaf for path, leaf in side.items() if below(path, [place])})
            for side in (world.local, world.remote)
        )
        assert core.reconcile(Ancestor(world.ancestor), local, remote, scope=[place]) == Plan(
            tuple(change for change in plan.to_local if below(change.path, [place])),
            tuple(change for change in plan.to_remote if below(change.path, [place])),
            tuple((path, leaf) for path, leaf in plan.agreed if below(path, [place])),
            tuple(conflict for conflict in plan.conflicts if below(conflict.path, [place])),
        )


def mirror(world: World) -> None:
    """In mirror mode the machine becomes what the local side is, and there are no conflicts."""
    plan = world.look(Mode.MIRROR)
    assert not plan.to_local and not plan.conflicts
    after = world.after(plan)
    assert after.ancestor == after.remote == world.local == after.local
    assert after.look(Mode.MIRROR) == Plan()


Law = Callable[[World], None]
LAWS: list[Law] = [
    symmetry,
    preconditions,
    room,
    convergence,
    nothing_lost,
    cause,
    sole_writer,
    equal_sides,
    crash,
    refusal,
    one_direction,
    race,
    unknown,
    part,
    mirror,
]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)


def _touched(ancestor: Tree, side: Tree) -> set[RelPath]:
    return {path for path in {*ancestor, *side} if ancestor.get(path) != side.get(path)}


def _first(plan: Plan, count: int) -> Plan:
    """What of a plan has been done after `count` changes."""
    to_local, to_remote = (
        sorted(changes, key=lambda change: change.new is not None)
        for changes in (plan.to_local, plan.to_remote)
    )
    return Plan(tuple(to_local[:count]), tuple(to_remote[: max(0, count - len(to_local))]))


def _still_there(before: World, end: World) -> None:
    for side in (before.local, before.remote):
        for path in _touched(before.ancestor, side):
            leaf, base = side.get(path), before.ancestor.get(path)
            if leaf is not None:
                assert _survives(leaf, base, [end.local.get(path), end.remote.get(path)]), path


def _survives(leaf: Leaf, base: Leaf | None, ends: list[Leaf | None]) -> bool:
    """Whether `leaf` is among `ends`, if need be its new content merged with another's executable bit."""
    if leaf in ends:
        return True
    if not isinstance(leaf, File):
        return False
    files = [end for end in ends if isinstance(end, File)]
    new_content = not isinstance(base, File) or leaf.digest != base.digest
    new_bit = leaf.executable != (isinstance(base, File) and base.executable)
    return (not new_content or any(end.digest == leaf.digest for end in files)) and (
        not new_bit or any(end.executable == leaf.executable for end in files)
    )


# ---------------------------------------------------------------- the laws hold


@each_law
def test_every_small_world(law: Law) -> None:
    for world in small_worlds():
        law(world)


@each_law
@given(world=worlds())
def test_random_worlds(law: Law, world: World) -> None:
    law(world)
