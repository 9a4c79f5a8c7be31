"""Contents on their way from the machine: many ahead of need, and of a large one only what is new.

A large content that this side has in part, or in an older version, comes as a parcel that the helper
makes for it, or from where it was cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from devsync import ports
from devsync.core.older import Assembling, Basis, Winding, Yielding
from devsync.core.snapshot import Digest, File, RelPath
from devsync.replica.channel import HelperChannel, Refusal, nonsense
from devsync.replica.codec import Open, openers
from devsync.replica.delta import FROM
from devsync.replica.home import PARCEL
from devsync.replica.parcel import Records, blocks
from devsync.replica.walk import Blocked

AHEAD_BYTES = 16 << 20
AHEAD_FILES = 256
"""So much is asked for before the first of it has been taken."""


class Fetching:
    """Reads from one folder over one SFTP channel; without a helper no version is compared."""

    def __init__(
        self, sftp: ports.Sftp, place: Callable[[RelPath], bytes], helper: HelperChannel | None = None
    ) -> None:
        """`place` gives the path of a file as the SFTP server has it."""
        self._sftp, self._place, self._helper = sftp, place, helper
        self._tried: set[Digest] = set()
        """What has come in less than its whole. If it did not come out right, it comes whole."""

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: ports.Staging) -> None:
        """Hand the contents to a staging."""
        try:
            self._supply(wanted, staging)
        except ports.PutOff:
            self._tried.difference_update(file.digest for _, file in wanted)  # to go on is no second try
            raise

    def _supply(self, wanted: Sequence[tuple[RelPath, File]], staging: ports.Staging) -> None:
        ahead: deque[tuple[File, Iterable[bytes]]] = deque()
        size = 0
        yielding = staging if isinstance(staging, Yielding) else None
        for path, file in wanted:
            if yielding is not None and yielding.over():
                while ahead:
                    _hand_over(ahead, staging)  # what was asked for is on its way
                raise ports.PutOff
            basis = self._basis(path, file, staging)
            room = AHEAD_BYTES - file.size if basis is None else -1
            while ahead and (size > room or len(ahead) >= AHEAD_FILES):
                size -= _hand_over(ahead, staging)
            if basis is not None:
                try:
                    staging.put(file, self._rest(path, file, basis))
                finally:
                    basis.close()
                continue
            ahead.append((file, self._sftp.read_file(self._place(path), file.size)))
            size += file.size
        while ahead:
            _hand_over(ahead, staging)

    def _basis(self, path: RelPath, file: File, staging: ports.Staging) -> Basis | None:
        if file.size < FROM or file.digest in self._tried or not isinstance(staging, Assembling):
            return None
        self._tried.add(file.digest)
        return staging.basis(path, file)

    def _rest(self, path: RelPath, file: File, basis: Basis) -> Iterable[bytes]:
        """What comes behind the beginning that is here."""
        older = basis.blocks() if self._helper is not None and basis.start < file.size else None
        parcel = None if older is None else self._parcel(path, file, basis.start, older)
        if parcel is None:
            content: Iterable[bytes] = self._sftp.read_file(self._place(path), file.size, basis.start)
        else:
            content = self._unpacked(file, basis, *parcel)
        return Exactly(file.size - basis.start, content)

    def _parcel(
        self, path: RelPath, file: File, start: int, older: list[object]
    ) -> tuple[str, Open, int] | None:
        """A parcel that the helper has made: its name, its codec, its bytes. None if it is not worth it."""
        assert self._helper is not None
        known = openers()
        asked = self._helper.ask(
            "pack",
            path=path,
            digest=file.digest,
            size=file.size,
            start=start,
            older=older,
            codecs=sorted(known),
        )
        try:
            answer = asked.result()
        except Refusal:
            return None
        return None if answer is None else _parcel_from_json(answer, known, file.size)

    def _unpacked(self, file: File, basis: Basis, name: str, opener: Open, size: int) -> Iterator[bytes]:
        path = self._place(f".devsync/tmp/{name}")
        stream = _Stream(self._sftp.read_file(path, size))
        records = Records(blocks(stream.exactly, opener))
        try:
            header = records.header()
            if header is None or (header["digest"], header.get("start", 0)) != (file.digest, basis.start):
                raise nonsense("a parcel with another content")
            for piece in records.pieces():
                yield from [piece] if isinstance(piece, bytes) else basis.part(*piece)
        except Blocked as error:
            raise ports.ContentChanged(str(error)) from error
        except (ValueError, KeyError, TypeError) as error:
            raise nonsense(f"a parcel that is none: {error}") from error
        finally:
            self._sftp.remove(path)  # nobody waits for it


class _Stream:
    """Contents that are read in pieces of another size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._here = iter(chunks), b""

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes. ValueError at the end."""
        parts, missing = [self._here[:size]], size - len(self._here[:size])
        self._here = self._here[size:]
        while missing:
            chunk = next(self._chunks, b"")
            if not chunk:
                raise ValueError("it ends before its end")
            parts.append(chunk[:missing])
            self._here = chunk[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def _parcel_from_json(answer: Any, known: Any, longest: int) -> tuple[str, Open, int]:
    if not isinstance(answer, list) or [type(part) for part in answer] != [str, str, int]:
        raise nonsense("no parcel")
    name, codec, size = answer
    proper = name.startswith(PARCEL) and "/" not in name and "\0" not in name
    if not proper or codec not in known or not 0 < size <= 2 * longest:
        raise nonsense("a parcel that cannot be")
    return name, known[codec], size


class Exactly:
    """A content, no longer than announced: its digest is for the receiving side to compare."""

    def __init__(self, size: int, content: Iterable[bytes]) -> None:
        self._left, self._content, self._chunks = size, content, iter(content)
        self._wound_up = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise ports.ContentChanged("it is longer than it was")
            return chunk
        if self._left:
            raise ports.PutOff if self._wound_up else ports.ContentChanged("it is shorter than it was")
        raise StopIteration

    def wind_up(self) -> None:
        """See core.older.Winding. PutOff at once, if the content cannot end but where it is."""
        if not isinstance(self._content, Winding):
            raise ports.PutOff
        self._wound_up = True
        self._content.wind_up()


def _hand_over(ahead: deque[tuple[File, Iterable[bytes]]], staging: ports.Staging) -> int:
    file, content = ahead.popleft()
    staging.put(file, Exactly(file.size, content))
    return file.size
