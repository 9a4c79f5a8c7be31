"""Whether a plan looks like an accident: the stops that ask before anything is deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from devsync.core.snapshot import Ancestor, Change, RelPath, Snapshot

WINDOW = 600.0
"""Seconds within which deletions are counted together."""

FREE_DELETIONS = 50
"""So many deletions within the window need no further reason."""


@dataclass(frozen=True)
class Deletions:
    """The deletions of one side that were carried out: (monotonic seconds, how many)."""

    past: tuple[tuple[float, int], ...] = field(default=())

    def within_window(self, now: float) -> int:
        """How many lie within the window that ends `now`."""
        return sum(count for when, count in self.past if now - when < WINDOW)

    def plus(self, now: float, count: int) -> Deletions:
        """The same, with `count` more at `now`; what has left the window is dropped."""
        kept = tuple(entry for entry in self.past if now - entry[0] < WINDOW)
        return Deletions((*kept, (now, count)) if count else kept)


def vanishing(changes: Sequence[Change]) -> list[RelPath]:
    """The paths that `changes` would delete, without those that only move within the same batch."""
    moved = Counter(change.new for change in changes if change.old is None)
    gone = []
    for change in changes:
        if change.new is not None:
            continue
        if moved[change.old] > 0:  # one new file makes up for one that goes, not for all of its twins
            moved[change.old] -= 1
        else:
            gone.append(change.path)
    return gone


def storm(
    gone: Sequence[RelPath],
    explained: Collection[RelPath],
    *,
    earlier: Deletions,
    now: float,
    files: int,
    share: float,
) -> str:
    """Why `gone` must not be deleted without asking, or "".

    `files` is the number of files that both sides agreed on, `share` (0 to 1) how much of them may go
    within the window, `explained` what git has deleted by itself (a branch switch).
    """
    unexplained = [path for path in gone if path not in explained]
    count = len(unexplained) + earlier.within_window(now)
    if not unexplained or count <= max(FREE_DELETIONS, share * files):
        return ""
    examples = ", ".join(sorted(unexplained)[:3])
    return f"{count} of {files} files would be deleted ({examples}, …)"


def emptied(ancestor: Ancestor, look: Snapshot) -> bool:
    """Whether a full look found nothing at all where there was something: a fault, not a deletion."""
    return len(ancestor) >= 2 and not look.leaves and not look.problems
