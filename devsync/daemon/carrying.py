"""Plans into deeds: contents are staged, changes applied, and what was done is remembered.

Owned by the thread that synchronises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from devsync.core.reconcile import Plan
from devsync.core.snapshot import WRITING, Change, Digest, File, Leaf, Outcome, RelPath
from devsync.daemon.keeping import prune
from devsync.daemon.slices import part
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
    """What can be applied, by side; what to try later, and why; whether nothing is to be applied now."""

    ready: dict[str, list[Change]]
    problems: dict[RelPath, str] = field(default_factory=dict)
    put_off: bool = False
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
        self._begun: dict[Digest, int] = {}
        self._waiting: dict[str, dict[Digest, int]] = {LOCAL: {}, REMOTE: {}}

    def moved(self) -> tuple[int, int]:
        """What has come already of plans that were put off: whole contents, and bytes."""
        whole = [size for sizes in self._waiting.values() for size in sizes.values()]
        return len(whole), sum(whole) + sum(self._begun.values())

    def carry_out(self, plan: Plan, *, free: bool = False) -> tuple[Result, Plan]:
        """Do what a plan says, each change under its precondition, and remember what was done.

        If something is more urgent, nothing is applied: what was put off is returned besides, and the
        contents that have come wait for it. `free`: this may happen between any two contents.
        """
        self._settle(plan.agreed)
        staged = self._stage(plan, free)
        later = set(staged.problems)
        if staged.put_off:
            left = part(plan, {change.path for changes in staged.ready.values() for change in changes})
            tried = replace(plan, to_local=(), to_remote=())
            return Result(tried, later=frozenset(later), problems=staged.problems), left
        for side, changes in staged.ready.items():
            if changes:
                self._intents.begin(side, changes)
        outcomes = [done for side in (LOCAL, REMOTE) for done in self._apply(side, staged.ready[side])]
        again = self._conclude(outcomes, staged.problems)
        later |= self._land(staged, outcomes)
        return Result(plan, frozenset(again), frozenset(later), staged.problems), Plan()

    # ------------------------------------------------------------ contents

    def _stage(self, plan: Plan, free: bool) -> _Staged:
        """Bring the contents over that are not there yet."""
        staged = _Staged({LOCAL: list(plan.to_local), REMOTE: list(plan.to_remote)})
        self._turns.begin()
        for source, side in ((REMOTE, LOCAL), (LOCAL, REMOTE)):
            there = self._waiting[side]
            wanted = [each for each in contents(staged.ready[side]) if each[1].digest not in there]
            if not wanted or staged.put_off:
                continue
            target = self._sides[side]
            staging = Metered(
                target.staging(), self._meter, side, self._beat, self._turns, free=free, begun=self._begun
            )
            try:
                self._sides[source].supply(wanted, staging)
            except PutOff:
                staged.put_off = True
            else:
                if self._may_fly(plan, staging):
                    staged.flying = staging
                    continue
            failed = staging.finish()
            there.update((digest, size) for digest, size in staging.arrived.items() if digest not in failed)
            if failed:
                prune(target)  # the disk may be full
            for change in staged.ready[side]:
                if isinstance(change.new, File) and change.new.digest in failed and needs_content(change):
                    staged.problems[change.path] = failed[change.new.digest]
        staged.leave_out(staged.problems)
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
        for change in changes:
            if isinstance(change.new, File):
                self._waiting[side].pop(change.new.digest, None)
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
