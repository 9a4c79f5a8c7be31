"""What to do about each path: three-way reconciliation of two looks and the ancestor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from devsync.core.snapshot import Ancestor, Change, File, Leaf, Link, RelPath, Snapshot, parents, within


class Mode(Enum):
    """How a difference is decided."""

    TWO_WAY = "two-way"
    MIRROR = "mirror"


class Direction(Enum):
    """Which side a synchronisation may change."""

    BOTH = "both"
    PUSH = "push"
    PULL = "pull"


class Verdict(Enum):
    """What is to be done about one path."""

    AGREE = "agree"
    TAKE_LOCAL = "take-local"
    TAKE_REMOTE = "take-remote"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class Conflict:
    """A path that both sides changed. `kind` as in the contract; None: nothing is there."""

    path: RelPath
    kind: str
    local: Leaf | None
    remote: Leaf | None


@dataclass(frozen=True)
class Plan:
    """What one look asks for. `agreed` are paths that are equal on both sides: for the ancestor alone.

    `held` are paths that would be changed and are left alone instead, with the reason.
    """

    to_local: tuple[Change, ...] = ()
    to_remote: tuple[Change, ...] = ()
    agreed: tuple[tuple[RelPath, Leaf | None], ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    held: Mapping[RelPath, str] = field(default_factory=dict)

    def holding(self, held: Mapping[RelPath, str]) -> Plan:
        """The plan without the changes of the paths in `held`, which says why."""
        if not held:
            return self
        to_local = tuple(change for change in self.to_local if change.path not in held)
        to_remote = tuple(change for change in self.to_remote if change.path not in held)
        return replace(self, to_local=to_local, to_remote=to_remote, held={**self.held, **held})

    def only(self, direction: Direction) -> Plan:
        """The part of the plan that changes the side that `direction` leads to.

        A merge is left out: done on one side alone, the other side's version would look like an edit.
        """
        if direction is Direction.BOTH:
            return self
        merged = {change.path for change in self.to_local} & {change.path for change in self.to_remote}
        if direction is Direction.PUSH:
            push = tuple(change for change in self.to_remote if change.path not in merged)
            return replace(self, to_local=(), to_remote=push)
        pull = tuple(change for change in self.to_local if change.path not in merged)
        return replace(self, to_local=pull, to_remote=())

    @property
    def quiet(self) -> bool:
        """Whether neither side would be changed."""
        return not self.to_local and not self.to_remote


def decide(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    """The whole policy for one path. New content outranks a deletion."""
    if local == remote:
        return Verdict.AGREE
    if local == ancestor:
        return Verdict.TAKE_REMOTE
    if remote == ancestor:
        return Verdict.TAKE_LOCAL
    if local is None:
        return Verdict.TAKE_REMOTE
    if remote is None:
        return Verdict.TAKE_LOCAL
    return Verdict.CONFLICT


def merge(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> File | None:
    """The file with both sides' changes; None if the content changed on both, or something is no file."""
    if not isinstance(local, File) or not isinstance(remote, File):
        return None
    base = ancestor if isinstance(ancestor, File) else None
    if local.digest == remote.digest or (base is not None and remote.digest == base.digest):
        content = local
    elif base is not None and local.digest == base.digest:
        content = remote
    else:
        return None
    return content._replace(executable=executable(base, local, remote))


def executable(base: File | None, local: File, remote: File) -> bool:
    """The executable bit with both sides' changes."""
    if local.executable == remote.executable:
        return local.executable
    return base is None or not base.executable  # one of them changed it


def reconcile(
    ancestor: Ancestor,
    local: Snapshot,
    remote: Snapshot,
    mode: Mode = Mode.TWO_WAY,
    scope: Collection[RelPath] | None = None,
) -> Plan:
    """Compare two looks at `scope` (everything, if None) with what both sides last agreed on.

    Where a look has a problem, nothing is decided at that path or below it.
    """
    to_local: dict[RelPath, Change] = {}
    to_remote: dict[RelPath, Change] = {}
    agreed: list[tuple[RelPath, Leaf | None]] = []
    conflicts: dict[RelPath, Conflict] = {}
    unknown = {*local.problems, *remote.problems}

    for path in sorted(_differing(ancestor, local.leaves, remote.leaves, scope)):
        if unknown and within(path, unknown):
            continue
        base, here, there = ancestor.leaves.get(path), local.leaves.get(path), remote.leaves.get(path)
        if here == there:
            if base != here:
                agreed.append((path, here))
            continue
        wanted = _wanted(base, here, there, mode)
        if isinstance(wanted, Conflict):
            conflicts[path] = replace(wanted, path=path)
            continue
        if wanted != here:
            to_local[path] = Change(path, here, wanted, here is None and path in remote.private)
        if wanted != there:
            to_remote[path] = Change(path, there, wanted, there is None and path in local.private)

    for path in sorted(_entangled(local, to_local) | _entangled(remote, to_remote)):
        if path not in conflicts and not any(parent in conflicts for parent in parents(path)):
            conflicts[path] = Conflict(path, "type-changed", local.leaves.get(path), remote.leaves.get(path))
    if conflicts:
        to_local, to_remote = _without(to_local, conflicts), _without(to_remote, conflicts)
    return Plan(
        tuple(to_local.values()),
        tuple(to_remote.values()),
        tuple(agreed),
        tuple(conflicts[path] for path in sorted(conflicts)),
    )


def _differing(
    ancestor: Ancestor,
    local: Mapping[RelPath, Leaf],
    remote: Mapping[RelPath, Leaf],
    scope: Collection[RelPath] | None,
) -> set[RelPath]:
    """The paths where one of the three is unlike another: few, however many there are."""
    agreed = ancestor.leaves
    found = {path for path, leaf in local.items() if not leaf == agreed.get(path) == remote.get(path)}
    found.update(path for path in remote if path not in local)
    found.update(path for path in ancestor.region(scope) if path not in local)
    return found


def _wanted(base: Leaf | None, here: Leaf | None, there: Leaf | None, mode: Mode) -> Leaf | Conflict | None:
    if mode is Mode.MIRROR:
        return here
    verdict = decide(base, here, there)
    if verdict is Verdict.TAKE_LOCAL:
        return here
    if verdict is Verdict.TAKE_REMOTE:
        return there
    both = merge(base, here, there)
    return both if both is not None else Conflict("", _kind(base, here, there), here, there)


def _kind(base: Leaf | None, here: Leaf | None, there: Leaf | None) -> str:
    if isinstance(here, Link) != isinstance(there, Link):
        return "type-changed"
    return "both-added" if base is None else "both-modified"


def _entangled(side: Snapshot, changes: Mapping[RelPath, Change]) -> set[RelPath]:
    """The paths at which `changes` would put a leaf where a folder stays, or below a leaf that stays."""
    created = [path for path, change in changes.items() if change.new is not None]
    if not created:
        return set()
    after = {path for path in side.leaves if path not in changes}
    after.update(created)
    folders: set[RelPath] = set()
    for path in [*after, *side.problems]:
        for parent in parents(path):
            if parent in folders:
                break
            folders.add(parent)
    found = {path for path in created if path in folders}
    for path in created:
        found.update(parent for parent in parents(path) if parent in after)
    return found


def _without(changes: Mapping[RelPath, Change], conflicts: Iterable[RelPath]) -> dict[RelPath, Change]:
    blocked = set(conflicts)
    return {path: change for path, change in changes.items() if not within(path, blocked)}
