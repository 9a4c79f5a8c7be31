"""The stop before many deletions: judges a plan, and remembers what was deleted of late.

Owned by the thread that synchronises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from devsync.core.reconcile import Plan
from devsync.core.safety import Deletions, storm, vanishing
from devsync.core.snapshot import Change, Outcome, RelPath
from devsync.ports import Halted

LOCAL, REMOTE = "local", "remote"


class Storms:
    """Raises Halted for a plan that would delete too much of a side."""

    def __init__(
        self,
        share: float,
        explain: Callable[[], Collection[RelPath]],
        clock: Callable[[], float],
        deletions: dict[str, Deletions],
    ) -> None:
        """`share` (0 to 1) of a side may go within the window; `explain` names what git has deleted here."""
        self._share, self._explain, self._clock, self._deletions = share, explain, clock, deletions
        self._counted: set[RelPath] = set()  # deletions that were planned and that nobody explained

    def judge(self, plan: Plan, files: int, allowed: bool) -> None:
        """Raises Halted if `plan` deletes too many of `files`, unless that is `allowed`."""
        counted: set[RelPath] = set()
        for side, changes in ((LOCAL, plan.to_local), (REMOTE, plan.to_remote)):
            gone = [] if allowed else vanishing(changes)
            explained = frozenset(self._explain() if gone and side == REMOTE else ())
            counted.update(path for path in gone if path not in explained)
            why = storm(
                gone,
                explained,
                earlier=self._deletions[side],
                now=self._clock(),
                files=files,
                share=self._share,
            )
            if why:
                other = "here" if side == REMOTE else "on the machine"
                raise Halted(
                    f"{why} on the {side} side, because they are gone {other}",
                    hint="bring them back; or let them go with: devsync start --accept-deletions",
                )
        planned = {change.path for change in (*plan.to_local, *plan.to_remote)}
        self._counted = (self._counted - planned) | counted

    def note(self, side: str, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """What was deleted of what was judged: it counts when further plans are."""
        gone = {outcome.path for outcome in outcomes if outcome.done}.intersection(
            vanishing(changes), self._counted
        )
        self._deletions[side] = self._deletions[side].plus(self._clock(), len(gone))
