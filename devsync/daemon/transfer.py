"""Contents on their way between two replicas: which must travel, how that is told, when they make room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from devsync.core.older import Assembling, Basis, Expecting, Winding
from devsync.core.snapshot import Change, Digest, File, RelPath
from devsync.ports import PutOff, Staging

SMALL = 1 << 20
"""Bytes of contents that are not waited for before the changes are asked for."""

LARGE = 1 << 20
"""Bytes from which on a content may be put off in its middle: of such a one the replicas keep a part."""

SLICE = 0.3
"""Seconds that a transfer goes on for, whatever is urgent."""

LONGEST_SLICE = 2.0
"""The same, where what is urgent takes long itself."""


@runtime_checkable
class Eager(Protocol):
    """A staging that need not be waited for: what is applied right behind it finds the contents."""

    def send(self) -> None:
        """Everything is on its way when this returns; `finish` still tells what did not arrive."""


class Meter(Protocol):
    """Told of what travels: first what is still to come, in all, then each piece, and each that is whole."""

    def planned(self, files: int, size: int) -> None: ...
    def moved(self, side: str, size: int) -> None: ...
    def came(self) -> None: ...


def needs_content(change: Change) -> bool:
    """Whether a change puts a content where another one, or none, is."""
    old, new = change.old, change.new
    return isinstance(new, File) and not (isinstance(old, File) and old.digest == new.digest)


def contents(changes: Iterable[Change]) -> list[tuple[RelPath, File]]:
    """Each content that the changes need once, with a path that it can be read from; the smallest first."""
    wanted: dict[Digest, tuple[RelPath, File]] = {}
    for change in changes:
        if isinstance(change.new, File) and needs_content(change):
            wanted.setdefault(change.new.digest, (change.path, change.new))
    return sorted(wanted.values(), key=lambda each: each[1].size)


class Turns:
    """Says when a transfer has to make room for what is more urgent.

    It has its slice first, from its first byte on, and gets as much time as what came between has taken.
    """

    def __init__(self, urgent: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._urgent, self._clock = urgent, clock
        self._since: float | None = None
        self._left: float | None = None
        self._least = SLICE

    def begin(self) -> None:
        """A transfer begins, or goes on."""
        between = 0.0 if self._left is None else self._clock() - self._left
        self._least = min(max(SLICE, between), LONGEST_SLICE)
        self._since = self._left = None

    def over(self) -> bool:
        """Asked before each piece: whether to stop here."""
        now = self._clock()
        if self._since is None:
            self._since = now
        if now - self._since < self._least or not self._urgent():
            return False
        self._left = now
        return True


class Metered:
    """A staging that tells a meter of each piece, and is put off when its turn is over.

    PutOff ends a `supply` then. A large content is left in its middle if the staging keeps what has
    arrived; `free` says whether it may end between two others.
    """

    def __init__(
        self,
        staging: Staging,
        meter: Meter,
        side: str,
        beat: Callable[[], None],
        turns: Turns | None = None,
        *,
        free: bool = False,
        begun: dict[Digest, int] | None = None,
    ) -> None:
        """`begun` remembers how much of a content that was put off has been told of."""
        self._staging, self._meter, self._side, self._beat = staging, meter, side, beat
        self._turns, self._free = turns, free
        self._begun = {} if begun is None else begun
        self._told: dict[Digest, int] = {}
        # Asked once, not for each content: of a protocol that is a long question.
        self._expecting = staging if isinstance(staging, Expecting) else None
        self._assembling = staging if isinstance(staging, Assembling) else None
        self._put_off: set[Digest] = set()
        self._over = False
        self.arrived: dict[Digest, int] = {}
        """What has been put whole, and its bytes, as far as is known before `finish`."""
        self.size = 0

    def expect(self, wanted: Sequence[tuple[RelPath, File]]) -> None:
        """Expecting, as far as the staging is."""
        if self._expecting is not None:
            self._expecting.expect(wanted)

    def begun(self, file: File) -> int:
        """Expecting, as far as the staging is."""
        start = self._expecting.begun(file) if self._expecting is not None else 0
        self._tell_start(file, start)
        return start

    def basis(self, path: RelPath, file: File) -> Basis | None:
        """Assembling, as far as the staging is."""
        found = self._assembling.basis(path, file) if self._assembling is not None else None
        self._tell_start(file, 0 if found is None else found.start)
        return found

    def _tell_start(self, file: File, start: int) -> None:
        """What arrived before counts as moved, once."""
        self._told[file.digest] = start
        news = start - self._begun.pop(file.digest, 0)
        if news > 0:
            self._meter.moved(self._side, news)

    def over(self) -> bool:
        """Yielding."""
        if self._turns is not None and self._turns.over() and self._free:
            self._over = True
        return self._over

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        self.size += file.size
        self._staging.put(file, self._count(file, chunks))
        if file.digest in self._put_off:
            raise PutOff
        self.arrived[file.digest] = file.size
        self._meter.came()

    def send(self) -> bool:
        """Send without waiting, if the staging can do that."""
        if not isinstance(self._staging, Eager):
            return False
        self._staging.send()
        return True

    def finish(self) -> Mapping[Digest, str]:
        """What did not arrive, apart from what was put off."""
        failed = self._staging.finish()
        return {digest: why for digest, why in failed.items() if digest not in self._put_off}

    def _count(self, file: File, chunks: Iterable[bytes]) -> Iterable[bytes]:
        keeps = self._expecting is not None or self._assembling is not None
        turns = self._turns if keeps and file.size >= LARGE else None
        told = self._told.pop(file.digest, 0)
        try:
            for chunk in chunks:
                if turns is not None and turns.over():
                    turns = None
                    if not isinstance(chunks, Winding):
                        raise PutOff
                    chunks.wind_up()
                self._beat()  # a transfer may take hours
                self._meter.moved(self._side, len(chunk))
                told += len(chunk)
                yield chunk
        except PutOff:
            self._begun[file.digest] = told
            self._put_off.add(file.digest)
            raise
