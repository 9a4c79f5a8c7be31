"""Names that one side takes for the same, or cannot hold at all. Travels to the machine (Python 3.8)."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from devsync.core.snapshot import Change, RelPath, parents


@dataclass(frozen=True)
class Naming:
    """How a file system takes names; by default as most of Unix does, byte by byte."""

    folds_case: bool = False
    """`Data` and `data` are one."""
    normalises: bool = False
    """Two Unicode forms of a name are one."""
    utf8_only: bool = False
    longest: int = 255
    """Bytes of one name, at most."""

    @property
    def folds(self) -> bool:
        """Whether two names can be one."""
        return self.folds_case or self.normalises

    def key(self, path: RelPath) -> str:
        """The same for all paths that are one here."""
        if self.folds_case:
            path = path.casefold()
        return unicodedata.normalize("NFD", path) if self.normalises else path

    def refusal(self, path: RelPath) -> str:
        """Why there can be no such path here, or ""."""
        if path.isascii() and len(path) <= self.longest:
            return ""
        if self.utf8_only and any("\udc80" <= letter <= "\udcff" for letter in path):
            return "its name is no UTF-8, which the other side cannot hold"
        names = (name.encode("utf-8", "surrogateescape") for name in path.split("/"))
        if any(len(name) > self.longest for name in names):
            return f"its name is longer than the {self.longest} bytes that the other side can hold"
        return ""


@runtime_checkable
class Named(Protocol):
    """A replica that knows how its file system takes names; any other takes them as they are."""

    def naming(self) -> Naming: ...


def unfit(naming: Naming, present: Iterable[RelPath], changes: Sequence[Change]) -> dict[RelPath, str]:
    """Which of `changes` cannot be made on a side that takes names so, and why.

    `present` are the paths that are there now. Of two new names that are one there, the first comes.
    """
    new = [change.path for change in changes if change.old is None and change.new is not None]
    reasons = {path: why for path in new if (why := naming.refusal(path))}
    if not new or not naming.folds:
        return reasons
    gone = {change.path for change in changes if change.new is None}
    spelled: dict[str, RelPath] = {}
    for path in present:
        if path not in gone:
            for place in (path, *parents(path)):
                spelled.setdefault(naming.key(place), place)
    for path in sorted(set(new).difference(reasons)):
        places = (*reversed(list(parents(path))), path)
        others = [other for place in places if (other := spelled.get(naming.key(place), place)) != place]
        if others:
            reasons[path] = (
                f"its name differs only by case or Unicode form from {others[0]!a}, "
                "which is the same name on the other side: not mirrored; rename one of them"
            )
        else:
            spelled.update((naming.key(place), place) for place in places)
    return reasons
