"""A large plan in slices: each is carried out and remembered by itself, small files first.

So a death in the middle keeps what is done, and what is urgent finds its gap. What one would call one
change, as the switch of a branch, is one slice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from devsync.core.reconcile import Plan
from devsync.core.snapshot import File, RelPath, parents, within
from devsync.daemon.transfer import needs_content

FILES = 16_384
"""So many files are changed together, however small they are."""

SIZE = 32 << 20
"""So many bytes of contents travel together, whatever they are; a larger one by itself."""

SMALLISH = 4 << 20
"""Up to so many bytes a content is among the small ones, which are not to wait for larger ones."""

MANY = 4
"""So many times as many bytes travel together of those."""


@dataclass(frozen=True)
class Slice:
    """Changes that are made together."""

    plan: Plan

    @cached_property
    def paths(self) -> frozenset[RelPath]:
        """What is changed."""
        return frozenset(change.path for change in (*self.plan.to_local, *self.plan.to_remote))

    @cached_property
    def reach(self) -> frozenset[RelPath]:
        """The same, and all folders above."""
        return self.paths.union(*(parents(path) for path in self.paths))

    @cached_property
    def size(self) -> int:
        """Bytes of contents, each path's for itself."""
        return sum(_sizes(self.plan).values())

    def without(self, scope: Collection[RelPath]) -> Slice:
        """What is not in `scope` or below it."""
        if self.reach.isdisjoint(scope):
            return self
        return Slice(part(self.plan, {path for path in self.paths if not within(path, scope)}))


class Rest:
    """The slices that wait, the oldest first."""

    def __init__(self, slices: Iterable[Slice] = ()) -> None:
        self._waiting: deque[Slice] = deque()
        self.add(slices)

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Slice]:
        return iter(self._waiting)

    def take(self) -> Slice:
        """The next one; IndexError if there is none."""
        return self._waiting.popleft()

    def put_back(self, left: Slice) -> None:
        """What is left of the one that was taken."""
        if not left.plan.quiet:
            self._waiting.appendleft(left)

    def add(self, slices: Iterable[Slice]) -> None:
        """They wait behind the others."""
        self._waiting.extend(each for each in slices if not each.plan.quiet)

    def forget(self, scope: Collection[RelPath] | None) -> None:
        """What is in `scope` (None: everything) has been decided anew."""
        kept = () if scope is None else (each.without(scope) for each in self._waiting)
        self._waiting = deque(each for each in kept if not each.plan.quiet)


def part(plan: Plan, paths: Collection[RelPath]) -> Plan:
    """The changes of these paths, and nothing besides."""
    return Plan(
        tuple(change for change in plan.to_local if change.path in paths),
        tuple(change for change in plan.to_remote if change.path in paths),
    )


def sliced(plan: Plan) -> list[Slice]:
    """At least one; the first has all of the plan besides its changes. A path's changes stay together.

    Where a folder takes a file's place, or the other way round, both go first and together. Removals go
    last: until then, what was moved is there to be copied.
    """
    sizes = _sizes(plan)
    if len(sizes) <= FILES and sum(sizes.values()) <= SIZE:
        return [Slice(plan)]
    arriving = {change.path for change in (*plan.to_local, *plan.to_remote) if change.new is not None}
    first = entangled(sizes)
    order = sorted(sizes, key=lambda path: (path not in first, path not in arriving, sizes[path]))
    packets: list[set[RelPath]] = [set()]
    room = MANY * SIZE
    small = True
    for path in order:
        larger = small and sizes[path] > SMALLISH
        full = larger or len(packets[-1]) >= FILES or sizes[path] > room
        if full and packets[-1] and path not in first:
            small = sizes[path] <= SMALLISH
            packets.append(set())
            room = SIZE * (MANY if small else 1)
        packets[-1].add(path)
        room -= sizes[path]
    head, *others = (part(plan, packet) for packet in packets)
    whole = replace(plan, to_local=head.to_local, to_remote=head.to_remote)
    return [Slice(whole), *map(Slice, others)]


def _sizes(plan: Plan) -> dict[RelPath, int]:
    """Each path that is changed, and the bytes of contents that it needs."""
    sizes: dict[RelPath, int] = {}
    for change in (*plan.to_local, *plan.to_remote):
        new = change.new.size if isinstance(change.new, File) and needs_content(change) else 0
        sizes[change.path] = sizes.get(change.path, 0) + new
    return sizes


def entangled(paths: Collection[RelPath]) -> set[RelPath]:
    """The paths of which one is above another, or differs from it only as some file systems ignore it."""
    alike: dict[str, list[RelPath]] = {}
    for path in paths:
        alike.setdefault(path.casefold(), []).append(path)
    found: set[RelPath] = set()
    for name, same in alike.items():
        above = [path for parent in parents(name) for path in alike.get(parent, ())]
        if above or len(same) > 1:
            found.update(same, above)
    return found
