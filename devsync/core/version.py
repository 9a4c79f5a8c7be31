"""An old version of a leaf, and what can be asked of a trash. Travels to the machine (Python 3.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from devsync.core.snapshot import Leaf, RelPath, from_json, to_json

LATEST = 1e11  # seconds: a time that every calendar can show


@dataclass(frozen=True)
class Version:
    """What was replaced or deleted. `id` names it to `restage`; `time` is in seconds since 1970, of that
    side's clock."""

    id: str
    path: RelPath
    leaf: Leaf | None
    """None for what was never looked at, a folder above all."""
    time: float
    reason: str
    """replaced, deleted, or recovered (an edit that nobody had seen)."""

    def to_json(self) -> list[Any]:
        """This version as a JSON value."""
        return [self.id, self.path, to_json(self.leaf), self.time, self.reason]

    @staticmethod
    def from_json(value: Any) -> Version:
        """The version of a JSON value; ValueError for anything that `to_json` does not make."""
        if isinstance(value, list) and len(value) == 5:
            name, path, leaf, when, reason = value
            texts = all(isinstance(text, str) for text in (name, path, reason))
            if texts and isinstance(when, (int, float)) and 0 <= when < LATEST:
                return Version(name, path, from_json(leaf), float(when), reason)
        raise ValueError(f"not a version: {value!r}"[:200])


@runtime_checkable
class Trash(Protocol):
    """A replica whose old versions can be asked for. Raises as replicas do."""

    def versions(self) -> Sequence[Version]:
        """Every old version that is kept, the oldest first."""

    def restage(self, version: str) -> Leaf:
        """Stage an old version and say what it is: a Change to it can then be applied."""

    def prune_trash(self, days: float, size: int) -> int:
        """Throw away versions older than `days`, and the oldest beyond `size` bytes; how many commits'."""
