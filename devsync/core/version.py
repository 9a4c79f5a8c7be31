"""An old version of a leaf, as a trash keeps it. This module travels to the machine (Python 3.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
