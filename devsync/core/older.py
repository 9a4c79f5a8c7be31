"""What the receiving side of a transfer has already of a content, so that not all of it need travel.

And why a content may not come, or not now, which is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from devsync.core.snapshot import File, RelPath


class ContentChanged(Exception):
    """A file is not, or no longer, what the look said. Not an error: it is looked at again."""


class PutOff(ContentChanged):
    """Nor is this one: something more urgent goes first. What has arrived is kept, where that is possible."""


class Basis(Protocol):
    """Of one content. Given back by `close`."""

    start: int
    """So many bytes have arrived at an earlier try: what is put next begins behind them."""

    def blocks(self) -> list[object] | None:
        """The blocks of an older version (see replica.delta), as JSON; None if there is none."""

    def part(self, start: int, size: int) -> Iterable[bytes]:
        """Some bytes of that version. ContentChanged if it has no such bytes (any more)."""

    def close(self) -> None: ...


@runtime_checkable
class Expecting(Protocol):
    """A staging that finds out by itself what its side has of what is going to be put."""

    def expect(self, wanted: Sequence[tuple[RelPath, File]]) -> None:
        """These will be put, each at the path where an older version may be."""

    def begun(self, file: File) -> int:
        """So many bytes of it have arrived at an earlier try: what is put next begins behind them."""


@runtime_checkable
class Yielding(Protocol):
    """A staging that something more urgent may wait behind."""

    def over(self) -> bool:
        """Whether no further content is to be begun: who supplies contents raises PutOff then."""


@runtime_checkable
class Winding(Protocol):
    """Chunks that come from far, some of which are always on their way."""

    def wind_up(self) -> None:
        """Ask for no more. What is on its way still comes; at its end PutOff, unless that is all."""


@runtime_checkable
class Assembling(Protocol):
    """A staging that tells whoever fetches contents for it what it has of them."""

    def basis(self, path: RelPath, file: File) -> Basis | None:
        """What there is of this content, which is put next; None if there is nothing."""
