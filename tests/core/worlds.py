"""Small worlds for the laws: an ancestor and two sides, with few names, so that they collide."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from devsync.core import reconcile as core
from devsync.core.snapshot import Ancestor, Change, File, Leaf, Link, RelPath, Snapshot, parents

Tree = Mapping[RelPath, Leaf]

A, B, C = (File(letter * 64, size) for letter, size in (("a", 1), ("b", 22), ("c", 333)))
AX, BX = A._replace(executable=True), B._replace(executable=True)
LINK = Link("elsewhere")


@dataclass(frozen=True)
class World:
    """What both sides last agreed on, and what they hold now."""

    ancestor: Tree
    local: Tree
    remote: Tree

    @property
    def swapped(self) -> World:
        return World(self.ancestor, self.remote, self.local)

    def look(
        self,
        mode: core.Mode = core.Mode.TWO_WAY,
        local_problems: Collection[RelPath] = (),
        remote_problems: Collection[RelPath] = (),
    ) -> core.Plan:
        """The plan of a full look. What lies at and below a problem is not seen."""
        return core.reconcile(
            Ancestor(self.ancestor),
            _seen(self.local, local_problems),
            _seen(self.remote, remote_problems),
            mode,
        )

    def after(self, plan: core.Plan, *, remember: bool = True) -> World:
        """The world once the plan was carried out, as far as the sides allow it.

        remember: the ancestor learns where both sides are equal now; else a crash came in between.
        """
        local, remote = apply(self.local, plan.to_local), apply(self.remote, plan.to_remote)
        if not remember:
            return World(self.ancestor, local, remote)
        ancestor = Ancestor(self.ancestor)
        for path, leaf in plan.agreed:
            ancestor.set(path, leaf)
        for path in {change.path for change in (*plan.to_local, *plan.to_remote)}:
            if local.get(path) == remote.get(path):
                ancestor.set(path, local.get(path))
        return World(ancestor.leaves, local, remote)

    def settled(self) -> World:
        """The world once nothing more is planned. More than four cycles would be a failure."""
        world = self
        for _ in range(4):
            plan = world.look()
            if plan.quiet and not plan.agreed:
                return world
            world = world.after(plan)
        raise AssertionError(f"no end of changes: {self}")


def _seen(tree: Tree, problems: Collection[RelPath]) -> Snapshot:
    seen = {path: leaf for path, leaf in tree.items() if not below(path, problems)}
    return Snapshot(seen, dict.fromkeys(problems, "cannot be read"))


def below(path: RelPath, places: Collection[RelPath]) -> bool:
    """Whether `path` is one of `places` or below one (on purpose without the code under test)."""
    return any(path == place or path.startswith(place + "/") for place in places)


def related(path: RelPath, other: RelPath) -> bool:
    """Whether one is the other, or above or below it."""
    return below(path, [other]) or below(other, [path])


def folders(tree: Tree) -> set[RelPath]:
    return {parent for path in tree for parent in parents(path)}


def apply(tree: Tree, changes: Iterable[Change]) -> dict[RelPath, Leaf]:
    """A replica in memory: removals first; refuses what fails its precondition or has no room."""
    result = dict(tree)
    for change in sorted(changes, key=lambda change: change.new is not None):
        if result.get(change.path) != change.old:
            continue
        if change.new is None:
            result.pop(change.path, None)
        elif change.path not in folders(result) and not any(p in result for p in parents(change.path)):
            result[change.path] = change.new
    return result


# ---------------------------------------------------------------- every small world


def _trees(names: Sequence[RelPath], leaves: Sequence[Leaf]) -> list[Tree]:
    every = itertools.product([None, *leaves], repeat=len(names))
    trees = [{n: leaf for n, leaf in zip(names, row, strict=True) if leaf is not None} for row in every]
    return [tree for tree in trees if not folders(tree) & set(tree)]


SMALL: list[tuple[list[RelPath], list[Leaf]]] = [
    (["a", "a/b", "a/c"], [A, B]),
    (["a", "a/b"], [A, AX, B, BX]),
    (["a"], [A, AX, B, BX, C, LINK]),
]


def small_worlds() -> Iterator[World]:
    """Every world of one name: a leaf or a folder of two; or of one, with the bit; leaves of all sorts."""
    for names, leaves in SMALL:
        for ancestor, local, remote in itertools.product(_trees(names, leaves), repeat=3):
            yield World(ancestor, local, remote)


# ---------------------------------------------------------------- random worlds

# "a.b" sorts between "a" and "a/b"; "a0" is what comes after everything below "a".
NAMES = ["a", "a.b", "a/b", "a/b/c", "a/b/d", "a/c", "a0", "b", "b/a", "b/a/a"]
Edit = tuple[RelPath, Leaf | None]

_edits = st.tuples(st.sampled_from(NAMES), st.sampled_from([None, None, A, AX, B, BX, C, LINK]))


def edited(tree: Tree, edits: Iterable[Edit]) -> dict[RelPath, Leaf]:
    """What a user makes of a tree: removes a path with all below it, or puts a leaf in its place."""
    result = dict(tree)
    for path, leaf in edits:
        if leaf is not None:
            result = {other: kept for other, kept in result.items() if not related(other, path)}
            result[path] = leaf
        else:
            result = {other: kept for other, kept in result.items() if not below(other, [path])}
    return result


_trees_at_random = st.lists(_edits, max_size=8).map(lambda edits: edited({}, edits))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Two sides that have each been edited since; now and then the ancestor has been lost or is stale."""
    common = draw(_trees_at_random)
    local, remote = (edited(common, draw(st.lists(_edits, max_size=4))) for _ in range(2))
    ancestor = draw(st.sampled_from(["kept", "kept", "kept", "lost", "stale"]))
    if ancestor == "stale":
        common = draw(_trees_at_random)
    return World({} if ancestor == "lost" else common, local, remote)
