"""Whether two sides hold the same, told by a few sums instead of every leaf. Travels (Python 3.8).

The paths are dealt into groups by their names alone, so both sides deal alike, and one sum stands for
all that a group holds. Only the groups whose sums differ need to be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

from devsync.core.snapshot import File, Leaf, RelPath

GROUP = 32
"""So many leaves share a sum, as a rule: a difference costs the telling of so many."""

GROUPS_LIMIT = 1 << 14

Sum = str
"""Half of a SHA-256, 32 hexadecimal digits."""


def groups_for(files: int) -> int:
    """How many groups suit so many files."""
    return min(files // GROUP + 1, GROUPS_LIMIT)


def group_of(path: RelPath, groups: int) -> int:
    """The number of the group that a path belongs to."""
    return crc32(_bytes(path)) % groups


def deal(paths: Iterable[RelPath], groups: int) -> list[list[RelPath]]:
    """The paths by group, each group in order."""
    dealt: list[list[RelPath]] = [[] for _ in range(groups)]
    for path in paths:
        dealt[group_of(path, groups)].append(path)
    for group in dealt:
        group.sort()
    return dealt


def sums(leaves: Mapping[RelPath, Leaf], dealt: Sequence[Sequence[RelPath]]) -> list[Sum]:
    """The sum of each group: equal if and only if it holds the same leaves."""
    return [
        hashlib.sha256(_bytes("\0".join([_line(path, leaves[path]) for path in group]))).hexdigest()[:32]
        for group in dealt
    ]


def _line(path: RelPath, leaf: Leaf) -> str:
    # Neither a path nor a target holds a NUL, so no two lists of leaves make the same text.
    if isinstance(leaf, File):
        return f"{path}\0f{leaf.digest}{'x' if leaf.executable else '-'}{leaf.size}"
    return f"{path}\0l{leaf.target}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
