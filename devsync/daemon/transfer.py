"""Contents on their way between two replicas: which must travel, and how that is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from devsync.core.older import Assembling, Basis, Expecting
from devsync.core.snapshot import Change, Digest, File, RelPath
from devsync.ports import Staging

SMALL = 1 << 20
"""Bytes of contents that are not waited for before the changes are asked for."""


@runtime_checkable
class Eager(Protocol):
    """A staging that need not be waited for: what is applied right behind it finds the contents."""

    def send(self) -> None:
        """Everything is on its way when this returns; `finish` still tells what did not arrive."""


class Meter(Protocol):
    """Told of what travels: the plan's size first, then each piece."""

    def planned(self, files: int, size: int) -> None: ...
    def moved(self, side: str, size: int) -> None: ...


def needs_content(change: Change) -> bool:
    """Whether a change puts a content where another one, or none, is."""
    old, new = change.old, change.new
    return isinstance(new, File) and not (isinstance(old, File) and old.digest == new.digest)


def contents(changes: Iterable[Change]) -> list[tuple[RelPath, File]]:
    """Each content that the changes need once, with a path that it can be read from."""
    wanted: dict[Digest, tuple[RelPath, File]] = {}
    for change in changes:
        if isinstance(change.new, File) and needs_content(change):
            wanted.setdefault(change.new.digest, (change.path, change.new))
    return list(wanted.values())


class Metered:
    """A staging that tells a meter of each piece."""

    def __init__(self, staging: Staging, meter: Meter, side: str, beat: Callable[[], None]) -> None:
        self._staging, self._meter, self._side, self._beat = staging, meter, side, beat
        self.size = 0

    def expect(self, wanted: Sequence[tuple[RelPath, File]]) -> None:
        """Expecting, as far as the staging is."""
        if isinstance(self._staging, Expecting):
            self._staging.expect(wanted)

    def basis(self, path: RelPath, file: File) -> Basis | None:
        """Assembling, as far as the staging is. What arrived before counts as moved."""
        found = self._staging.basis(path, file) if isinstance(self._staging, Assembling) else None
        if found is not None:
            self._meter.moved(self._side, found.start)
        return found

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        self.size += file.size
        self._staging.put(file, self._count(chunks))

    def send(self) -> bool:
        """Send without waiting, if the staging can do that."""
        if not isinstance(self._staging, Eager):
            return False
        self._staging.send()
        return True

    def finish(self) -> Mapping[Digest, str]:
        return self._staging.finish()

    def _count(self, chunks: Iterable[bytes]) -> Iterable[bytes]:
        for chunk in chunks:
            self._beat()  # a transfer may take hours
            self._meter.moved(self._side, len(chunk))
            yield chunk
