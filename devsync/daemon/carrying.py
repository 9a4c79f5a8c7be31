"""Plans into deeds: contents are staged, changes applied, and what was done is remembered.

Owned by the thread that synchronises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from devsync.core.reconcile import Plan
from devsync.core.snapshot import WRITING, Change, Digest, File, Leaf, Outcome, RelPath
from devsync.daemon.keeping import prune
from devsync.daemon.slices import entangled, part
from devsync.daemon.storms import LOCAL, REMOTE, Storms
from devsync.daemon.transfer import SMALL, Meter, Metered, Turns, contents, needs_content
from devsync.ports import PutOff, Replica

Done = list[tuple[str, Change, Outcome]]


class Intents(Protocol):
    """Remembers what is about to be made of a side."""

    def begin(self, side: str, changes: Iterable[Change]) -> None: ...


class Settle(Protocol):
    """Remembers what both sides agree on now, and which changes have ended."""

    def __call__(
        self, agreed: Sequence[tuple[RelPath, Leaf | None]], ended: Iterable[tuple[str, RelPath]] = ()
    ) -> None: ...


@dataclass(frozen=True)
class Result:
    """What came of a plan. `again` is to be looked at on both sides at once, `later` after a while."""

    plan: Plan
    again: frozenset[RelPath] = frozenset()
    later: frozenset[RelPath] = frozenset()
    problems: Mapping[RelPath, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing that was tried is still to be done."""
        return not self.again and not self.later

    @property
    def writing(self) -> frozenset[RelPath]:
        """What was still being written when it was looked at: the next look may find it whole."""
        return frozenset(path for path, why in self.problems.items() if why == WRITING)

    def then(self, other: Result) -> Result:
        """Both, one after the other."""
        plan = Plan(
            self.plan.to_local + other.plan.to_local,
            self.plan.to_remote + other.plan.to_remote,
            self.plan.agreed + other.plan.agreed,
            self.plan.conflicts + other.plan.conflicts,
            {**self.plan.held, **other.plan.held},
        )
        return Result(
            plan, self.again | other.again, self.later | other.later, {**self.problems, **other.problems}
        )


@dataclass
class _Staged:
    """What can be applied, by side; what to try later, and why; what was put off."""

    ready: dict[str, list[Change]]
    problems: dict[RelPath, str] = field(default_factory=dict)
    put_off: set[RelPath] = field(default_factory=set)
    flying: Metered | None = None

    def leave_out(self, paths: Collection[RelPath]) -> None:
        """A merge changes both sides, or neither."""
        for side, changes in self.ready.items():
            self.ready[side] = [change for change in changes if change.path not in paths]


class Carrier:
    """Carries out plans between two sides."""

    def __init__(
        self,
        sides: Mapping[str, Replica],
        storms: Storms,
        meter: Meter,
        turns: Turns,
        *,
        intents: Intents,
        settle: Settle,
        beat: Callable[[], None],
    ) -> None:
        self._sides, self._intents, self._settle, self._storms = sides, intents, settle, storms
        self._meter, self._beat, self._turns = meter, beat, turns
        self.begun: dict[Digest, int] = {}
        """How many bytes have moved of contents that were put off."""

    def carry_out(self, plan: Plan, *, free: bool = False) -> tuple[Result, Plan]:
        """Do what a plan says, each change under its precondition, and remember what was done.

        What was put off instead is returned besides; `free`: nothing of it need be done together.
        """
        self._settle(plan.agreed)
        staged = self._stage(plan, free)
        for side, changes in staged.ready.items():
            if changes:
                self._intents.begin(side, changes)
        outcomes = [done for side in (LOCAL, REMOTE) for done in self._apply(side, staged.ready[side])]
        later = set(staged.problems)
        again = self._conclude(outcomes, staged.problems)
        later |= self._land(staged, outcomes)
        left = part(plan, staged.put_off)
        tried = plan.holding(dict.fromkeys(staged.put_off, "")) if staged.put_off else plan
        return Result(tried, frozenset(again), frozenset(later), staged.problems), left

    # ------------------------------------------------------------ contents

    def _stage(self, plan: Plan, free: bool) -> _Staged:
        """Bring the contents over."""
        staged = _Staged({LOCAL: list(plan.to_local), REMOTE: list(plan.to_remote)})
        self._turns.begin()
        for source, side in ((REMOTE, LOCAL), (LOCAL, REMOTE)):
            wanted = contents(staged.ready[side])
            if not wanted:
                continue
            missing = {file.digest for _, file in wanted}
            if not staged.put_off:
                target = self._sides[side]
                staging = Metered(
                    target.staging(), self._meter, side, self._beat, self._turns, free=free, begun=self.begun
                )
                try:
                    self._sides[source].supply(wanted, staging)
                except PutOff:
                    missing -= staging.arrived
                else:
                    missing = set()
                    if self._may_fly(plan, staging):
                        staged.flying = staging
                        continue
                failed = staging.finish()
                if failed:
                    prune(target)  # the disk may be full
                for path, digest in _needing(staged.ready[side], failed).items():
                    staged.problems[path] = failed[digest]
            staged.put_off.update(_needing(staged.ready[side], missing))
        if staged.put_off:
            staged.put_off |= _removals(plan)
        staged.leave_out({*staged.problems, *staged.put_off})
        return staged

    def _may_fly(self, plan: Plan, staging: Metered) -> bool:
        """Whether the changes may be asked for while their contents are still on the way to the machine.

        That spares a save one of its two round trips. Not for a merge, which waits for both sides, and
        not for much, where a round trip is little and a full disk is told sooner.
        """
        return not plan.to_local and staging.size <= SMALL and staging.send()

    def _land(self, staged: _Staged, outcomes: Done) -> set[RelPath]:
        """Learn what became of contents that were still on their way: what to try later."""
        failed = staged.flying.finish() if staged.flying is not None else {}
        if failed:
            prune(self._sides[REMOTE])
        missed = {
            change.path: failed[change.new.digest]
            for _, change, outcome in outcomes
            if not outcome.done and isinstance(change.new, File) and change.new.digest in failed
        }
        staged.problems.update(missed)
        return set(missed)

    # ------------------------------------------------------------ changes

    def _apply(self, side: str, changes: list[Change]) -> Done:
        if not changes:
            return []
        outcomes = self._sides[side].apply(changes)
        self._storms.note(side, changes, outcomes)
        return [(side, change, outcome) for change, outcome in zip(changes, outcomes, strict=True)]

    def _conclude(self, outcomes: Done, problems: dict[RelPath, str]) -> set[RelPath]:
        """Remember what was done; the paths that must be looked at again."""
        undone = {change.path for _, change, outcome in outcomes if not outcome.done}
        problems.update((change.path, out.problem) for _, change, out in outcomes if out.problem)
        done = [(change.path, change.new) for _, change, _ in outcomes if change.path not in undone]
        # Half of a merge: what was made on one side contains what the other side held until just now.
        halves = undone.intersection(change.path for _, change, outcome in outcomes if outcome.done)
        done += [
            (change.path, change.old) for _, change, out in outcomes if change.path in halves and not out.done
        ]
        if outcomes:
            self._settle(done, ((side, change.path) for side, change, _ in outcomes))
        return {path for path in undone if path not in problems}


def _needing(changes: Iterable[Change], digests: Collection[Digest]) -> dict[RelPath, Digest]:
    """The paths that need one of these contents."""
    return {
        change.path: change.new.digest
        for change in changes
        if isinstance(change.new, File) and change.new.digest in digests and needs_content(change)
    }


def _removals(plan: Plan) -> set[RelPath]:
    """What waits for something that was put off, in whose place it may be: nobody is to miss a moved file."""
    changes = (*plan.to_local, *plan.to_remote)
    if entangled({change.path for change in changes}):
        return set()
    return {change.path for change in changes if change.new is None}
