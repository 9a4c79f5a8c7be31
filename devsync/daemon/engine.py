"""One cycle: look, reconcile, stage, apply, remember. Used by the sync loop and by a single push or pull.

Owned by one thread, and with it the replicas and the memory that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Protocol

from devsync.core.reconcile import Conflict, Direction, Mode, Plan, reconcile
from devsync.core.safety import Deletions, emptied
from devsync.core.snapshot import (
    ROOT,
    Ancestor,
    Change,
    Leaf,
    Presumes,
    RelPath,
    Snapshot,
    parents,
    within,
)
from devsync.daemon.arrivals import Arrivals
from devsync.daemon.carrying import Carrier
from devsync.daemon.carrying import Result as Result  # noqa: PLC0414 (what an engine answers)
from devsync.daemon.guard import Guard
from devsync.daemon.holding import Holding
from devsync.daemon.identity import Pairing
from devsync.daemon.merging import Merging
from devsync.daemon.slices import Rest, Slice, sliced
from devsync.daemon.storms import LOCAL as LOCAL  # noqa: PLC0414 (an engine has sides)
from devsync.daemon.storms import REMOTE as REMOTE  # noqa: PLC0414
from devsync.daemon.storms import Storms
from devsync.daemon.transfer import Meter, Turns
from devsync.ports import Halted, Replica

MET = "met"
"""The fact under which the store keeps that both sides have been brought together as a whole."""


class Memory(Protocol):
    """What an engine needs of the store."""

    def ancestor(self) -> Ancestor: ...
    def intents(self) -> list[tuple[str, Change]]: ...
    def begin(self, side: str, changes: Iterable[Change]) -> None: ...
    def settle(
        self, agreed: Sequence[tuple[RelPath, Leaf | None]], ended: Iterable[tuple[str, RelPath]] = ()
    ) -> None: ...
    def forget(self) -> None: ...
    def fact(self, name: str) -> str | None: ...
    def set_fact(self, name: str, value: str) -> None: ...


@dataclass(frozen=True)
class Permission:
    """What the user allows for once: many deletions; a meeting of sides that do not know each other; to
    take the folders from another devsync; what was held back for its size or number."""

    deletions: bool = False
    rejoin: bool = False
    take_over: bool = False
    arrivals: bool = False

    def __or__(self, other: Permission) -> Permission:
        """What either of the two allows."""
        return Permission(*(mine or its for mine, its in zip(astuple(self), astuple(other), strict=True)))


class Engine:
    """Holds the ancestor of two replicas and brings them together, cycle by cycle."""

    def __init__(
        self,
        memory: Memory,
        local: Replica,
        remote: Replica,
        *,
        mode: Mode,
        max_deletions: float,
        explain: Callable[[], Collection[RelPath]],
        meter: Meter,
        clock: Callable[[], float],
        urgent: Callable[[], bool] = lambda: False,
        deletions: dict[str, Deletions] | None = None,
        guard: Guard | None = None,
        arrivals: Arrivals | None = None,
        merging: Merging | None = None,
        claimant: str = "another devsync",
    ) -> None:
        """`explain` names the paths that git has deleted locally since the last full cycle.

        `deletions` are those of late, by side; whoever makes engine after engine hands on the same ones.
        `claimant` is what others are told of who has the folders. `urgent` is asked during transfers, and
        ends a turn of `begin` or `go_on`.
        """
        self._merging = merging
        if merging is not None:
            local, remote = merging.between(local, remote)
        self._memory, self._local, self._remote = memory, local, remote
        self.sides: Mapping[str, Replica] = {LOCAL: local, REMOTE: remote}
        self._mode, self._meter = mode, meter
        self._holding = Holding(self.sides, guard, arrivals, clock)
        known = deletions if deletions is not None else {LOCAL: Deletions(), REMOTE: Deletions()}
        self._storms = Storms(max_deletions, explain, clock, known)
        self._pairing = Pairing(memory, local, remote, claimant, clock)
        self.beat = self._pairing.beat
        turns = Turns(urgent, clock)
        self._carrier = Carrier(
            self.sides,
            self._storms,
            meter,
            turns,
            intents=memory,
            settle=self._settle,
            beat=self.beat,
        )
        self._rest = Rest()
        self._intents = memory.intents()
        self.ancestor = memory.ancestor()
        self.conflicts: dict[RelPath, Conflict] = {}
        self.held: dict[RelPath, str] = {}
        self.unknown: Mapping[RelPath, str] = {}  # of the last look
        self.skipped: dict[str, Mapping[RelPath, str]] = {LOCAL: {}, REMOTE: {}}  # what is no file, by side

    # ------------------------------------------------------------ identity

    def identify(self, permission: Permission) -> None:
        """Claim both replicas; raises Halted unless they are the ones that the ancestor speaks of."""
        agreed, rejoin = bool(len(self.ancestor)), permission.rejoin
        self._pairing.enter(agreed=agreed, rejoin=rejoin, take_over=permission.take_over)
        if rejoin:
            self._memory.forget()
            self._memory.set_fact(MET, "")
            self.ancestor, self._intents = Ancestor(), []
        self._pairing.mark(anew=permission.rejoin)

    def _recognise_again(self) -> None:
        """Another folder may have taken the place of one since `identify`.

        Asked after the look: what was looked at in a folder that was exchanged is never believed.
        """
        if self._memory.fact("pair") is not None and len(self.ancestor):
            self._pairing.recognise()

    # ------------------------------------------------------------ a cycle

    def look(
        self,
        local: Collection[RelPath] | None,
        remote: Collection[RelPath] | None,
        permission: Permission | None = None,
        *,
        merge: bool = False,
    ) -> Plan:
        """Look at the hinted paths (None: everything) and say what is to be done, with merges or without.

        Where only the local side was hinted, the machine is presumed to hold what was agreed on: the
        precondition of each change finds out if it does not. Raises Halted if a side has become empty, or
        is another folder by now.
        """
        if self._intents:  # only a look at everything tells what became of them
            local = remote = None
        scope = self._scope(local, remote)
        remote = None if remote is None else self._with_conflicts(scope, remote)
        if remote is None and isinstance(self._remote, Presumes):
            self._remote.presume(self.ancestor.leaves)  # the machine looks at the same time
        here = self._local.scan(scope)
        there = self._look_there(scope, remote)
        self._skip(LOCAL, here, scope)
        self._skip(REMOTE, there, remote)
        if scope is None:
            self.ancestor.share(here.leaves)
            for side, look in ((LOCAL, here), (REMOTE, there)):
                if emptied(self.ancestor, look):
                    raise Halted(
                        f"the {side} side is empty, but {len(self.ancestor)} files were there before",
                        hint="bring it back; or 'devsync start --rejoin' to fill it from the other side",
                    )
            self._recognise_again()
        self.unknown = {**there.problems, **here.problems}
        if self._intents:
            self._recover({LOCAL: here, REMOTE: there})
        plan = reconcile(self.ancestor, here, there, self._mode, scope)
        if merge and self._merging is not None and plan.conflicts:
            plan = self._merging.settle(plan, self.ancestor.leaves)
        plan = self._holding.of(
            plan,
            {LOCAL: here, REMOTE: there},
            self.ancestor.leaves,
            first=not self._memory.fact(MET),
            everything=scope is None,
            allowed=bool(permission and permission.arrivals),
        )
        for known in (self.conflicts, self.held):
            for path in [path for path in known if scope is None or within(path, scope)]:
                del known[path]
        self.conflicts.update((conflict.path, conflict) for conflict in plan.conflicts)
        self.held.update(plan.held)
        return plan

    def cycle(
        self,
        local: Collection[RelPath] | None,
        remote: Collection[RelPath] | None,
        *,
        direction: Direction = Direction.BOTH,
        permission: Permission | None = None,
    ) -> Result:
        """Look, and do all that is to be done in `direction`. Raises Halted, with nothing applied."""
        plan, unknown = self._planned(local, remote, direction, permission)
        result = self.carry_out(plan)
        if local is None and remote is None and direction is Direction.BOTH and result.complete:
            self.remember_meeting()
        return replace(result, problems={**unknown, **result.problems})

    def begin(
        self,
        local: Collection[RelPath] | None,
        remote: Collection[RelPath] | None,
        permission: Permission | None = None,
    ) -> Result:
        """As `cycle`, but one slice of it, and less if something is urgent: the rest waits for `go_on`.

        What waits already of the same paths is decided anew, all else goes on waiting.
        """
        plan, unknown = self._planned(local, remote, Direction.BOTH, permission)
        first, *others = sliced(plan)
        result, left = self._carry_out(first, others)
        self._rest.add([left, *others])
        return replace(result, problems={**unknown, **result.problems})

    def go_on(self) -> Result:
        """The next slice of what waits; there must be something that does."""
        result, left = self._carry_out(self._rest.take(), free=True)
        self._rest.put_back(left)
        return result

    def carry_out(self, plan: Plan) -> Result:
        """Do all that a plan says, each change under its precondition, and remember what was done."""
        first, *others = sliced(plan)
        result, left = self._carry_out(first, others)
        todo = Rest([left, *others])
        while todo:
            further, left = self._carry_out(todo.take(), [*todo], free=True)
            todo.put_back(left)
            result = result.then(further)
        return result

    @property
    def waiting(self) -> int:
        """How many paths wait for `go_on`."""
        return sum(len(each.paths) for each in self._rest)

    def left(self) -> set[RelPath]:
        """Which paths these are."""
        return {path for each in self._rest for path in each.paths}

    def remember_meeting(self) -> None:
        """Both sides have been brought together as a whole."""
        if not self._memory.fact(MET):
            self._memory.set_fact(MET, "yes")

    def _planned(
        self,
        local: Collection[RelPath] | None,
        remote: Collection[RelPath] | None,
        direction: Direction,
        permission: Permission | None,
    ) -> tuple[Plan, dict[RelPath, str]]:
        """What is to be done, and nobody objects to; the paths of which nothing is known, and why."""
        merge = direction is Direction.BOTH  # one side alone cannot have it
        plan = self.look(local, remote, permission, merge=merge).only(direction)
        self._storms.judge(plan, len(self.ancestor), bool(permission and permission.deletions))
        self._rest.forget(self._scope(local, remote))
        return plan, dict(self.unknown)

    def _carry_out(
        self, slice_: Slice, others: Sequence[Slice] = (), *, free: bool = False
    ) -> tuple[Result, Slice]:
        """What came of it, and what is left of it. `others` belong to it, `free` as for `Carrier`."""
        waiting = [slice_, *others, *self._rest]
        came, moved = self._carrier.moved()
        files, size = sum(len(each.paths) for each in waiting), sum(each.size for each in waiting)
        self._meter.planned(max(0, files - came), max(0, size - moved))
        result, left = self._carrier.carry_out(slice_.plan, free=free or bool(others))
        if self._merging is not None:
            self._merging.keep()
        return result, Slice(left)

    def _skip(self, side: str, look: Snapshot, scope: Collection[RelPath] | None) -> None:
        known = {} if scope is None else self.skipped[side]
        kept = {path: kind for path, kind in known.items() if not within(path, scope or ())}
        self.skipped[side] = {**kept, **look.skipped}

    def _scope(
        self, local: Collection[RelPath] | None, remote: Collection[RelPath] | None
    ) -> set[RelPath] | None:
        if local is None or remote is None or ROOT in local or ROOT in remote:
            return None
        return self._with_parents({*local, *remote})

    def _with_parents(self, paths: Collection[RelPath]) -> set[RelPath]:
        """A path below what was a file says that the file is gone."""
        above = (parent for path in paths for parent in parents(path) if parent in self.ancestor.leaves)
        return {*paths, *above}

    def _with_conflicts(self, scope: set[RelPath] | None, remote: Collection[RelPath]) -> set[RelPath] | None:
        if ROOT in remote:
            return None
        open_here = (path for path in self.conflicts if scope is None or within(path, scope))
        return {*self._with_parents(remote), *open_here}

    def _look_there(self, scope: set[RelPath] | None, remote: set[RelPath] | None) -> Snapshot:
        if remote is None:
            return self._remote.scan(None)
        presumed = {
            path: self.ancestor.leaves[path]
            for path in self.ancestor.region(scope)
            if not within(path, remote)
        }
        if not remote:
            return Snapshot(presumed)
        looked = self._remote.scan(remote)
        return Snapshot({**presumed, **looked.leaves}, looked.problems, looked.skipped, looked.private)

    def _recover(self, looks: Mapping[str, Snapshot]) -> None:
        """A change was begun and its end was not seen: what a side holds now tells whether it was made.

        Without this, a change of ours would be taken for the other user's, should the path have gone
        back to its former content here meanwhile.
        """
        hidden = {change.path for side, change in self._intents if within(change.path, looks[side].problems)}
        seen = [(side, change) for side, change in self._intents if change.path not in hidden]
        held = [looks[side].leaves.get(change.path) for side, change in seen]
        agreed = {change.path: now for (_, change), now in zip(seen, held, strict=True) if now == change.new}
        made = set(agreed)
        for (_, change), now in zip(seen, held, strict=True):
            if now != change.new and change.path in made:
                agreed[change.path] = change.old  # half of a merge, see _conclude
            elif now not in (change.old, change.new):
                # Edited before ours or after, who knows: with nothing agreed on, nobody is overruled.
                agreed[change.path] = None
        self._settle(list(agreed.items()), [(side, change.path) for side, change in seen])
        self._intents = [(side, change) for side, change in self._intents if change.path in hidden]

    # ------------------------------------------------------------ memory

    def _settle(
        self, agreed: Sequence[tuple[RelPath, Leaf | None]], ended: Iterable[tuple[str, RelPath]] = ()
    ) -> None:
        if agreed or ended:
            self._memory.settle(agreed, ended)
            for path, leaf in agreed:
                self.ancestor.set(path, leaf)
            if self._merging is not None:
                self._merging.agreed(agreed)
