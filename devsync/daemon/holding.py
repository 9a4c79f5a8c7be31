"""What of a plan does not travel: names that a side cannot hold, too much at once, credentials."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain

from devsync.core.names import Named, unfit
from devsync.core.reconcile import Plan
from devsync.core.snapshot import Leaf, RelPath, Snapshot
from devsync.daemon.arrivals import Arrivals
from devsync.daemon.guard import Guard
from devsync.daemon.storms import LOCAL, REMOTE
from devsync.daemon.transfer import needs_content
from devsync.ports import Replica


class Holding:
    """Leaves out of plans what is held back. Of the thread that synchronises."""

    def __init__(
        self,
        sides: Mapping[str, Replica],
        guard: Guard | None,
        arrivals: Arrivals | None,
        clock: Callable[[], float],
    ) -> None:
        self._sides, self.guard, self.arrivals, self._clock = sides, guard, arrivals, clock
        self._naming = {side: one.naming() for side, one in sides.items() if isinstance(one, Named)}

    def of(
        self,
        plan: Plan,
        looks: Mapping[str, Snapshot],
        agreed: Mapping[RelPath, Leaf],
        *,
        first: bool,
        everything: bool,
        allowed: bool,
    ) -> Plan:
        """The plan without it, and why. `first` and `everything` as for `Arrivals`; `allowed`: all may."""
        plan = plan.holding(self._unfit(plan, looks, agreed))
        if self.arrivals is not None and allowed:
            self.arrivals.allow()
        elif self.arrivals is not None:
            now = self._clock()
            plan = plan.holding(self.arrivals.held(plan, agreed, now, first=first, everything=everything))
        if self.guard is None:
            return plan
        leaving = [change for change in plan.to_remote if needs_content(change)]
        coming = [change for change in plan.to_local if needs_content(change)]
        return plan.holding(self.guard.held(leaving, coming, agreed, self._sides[LOCAL]))

    def _unfit(
        self, plan: Plan, looks: Mapping[str, Snapshot], agreed: Mapping[RelPath, Leaf]
    ) -> dict[RelPath, str]:
        """What a side cannot hold under its name."""
        reasons: dict[RelPath, str] = {}
        for side, changes in ((LOCAL, plan.to_local), (REMOTE, plan.to_remote)):
            if side in self._naming:
                present = chain(agreed, looks[side].leaves)
                reasons.update(unfit(self._naming[side], present, changes))
        return reasons
