"""The sending side of parcels: contents on their way to the machine, many in one compressed stream.

A parcel file is begun ahead of need, so that a save costs no round trip for it; the helper unpacks
while it grows. What the machine has already, under another name or in part, is not sent again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from devsync import ports
from devsync.core.snapshot import Digest, File, RelPath
from devsync.replica.arrival import KEPT_FROM
from devsync.replica.channel import Answer, HelperChannel, Refusal, nonsense
from devsync.replica.delta import FROM, Blocks, Copy, Piece, difference
from devsync.replica.packing import Packing
from devsync.replica.parcel import ABORTED, LEFT, PUT_OFF
from devsync.replica.press import Press
from devsync.replica.walk import told

ASKED = 64
"""Of so many large files, the largest, the machine is asked what it has of them before any travels."""

Where = Callable[[File], RelPath | None]
"""The path of a file on the machine that holds this content already, if one is known."""


class Parcels:
    """Makes parcels over one SFTP channel and one helper; the next one is always begun already."""

    def __init__(self, sftp: ports.Sftp, helper: HelperChannel, tmp: bytes, codecs: Collection[str]) -> None:
        """`tmp` ends with a slash; `codecs` are what the helper can open."""
        self._sftp, self._helper, self._tmp = sftp, helper, tmp
        self.press = Press(codecs)
        self.codec = self.press.codec
        self._numbers = count()
        self._stem = f"parcel-{os.urandom(4).hex()}"
        self._next: tuple[str, ports.Writing] | None = None
        self.doubtful: set[Digest] = set()
        """Contents that did not come out as they should: these are sent whole."""
        self.parts: dict[Digest, int] = {}
        """How many bytes of contents that were cut off, or put off, the machine has."""
        self.compared: tuple[Digest, RelPath, Blocks] | None = None
        """What a content that was put off is compared with: the machine need not tell it again."""

    def prepare(self) -> None:
        """Begin the next parcel's file, for when it is needed."""
        if self._next is None:
            name = f"{self._stem}-{next(self._numbers)}"
            self._next = name, self._sftp.begin_file(self._tmp + name.encode("ascii"), 0o600)
            self._sftp.hurry()

    def parcel(self, where: Where) -> Parcel:
        """A new parcel, into which contents are put."""
        self.prepare()
        assert self._next is not None
        (name, writing), self._next = self._next, None
        return Parcel(self, name, writing, where)

    def abandon(self, name: str) -> None:
        """Nothing more comes: the helper, which follows the file, sees that it is gone."""
        self._sftp.remove(self._tmp + name.encode("ascii"))
        self._sftp.hurry()

    def forget(self) -> None:
        """What was begun ahead is not there any more."""
        self._next = None

    def close(self) -> None:
        """Leave no file behind that was begun ahead."""
        if self._next is not None:
            self.abandon(self._next[0])
            self._next = None

    def unpack(self, name: str) -> Answer:
        """Let the helper begin to unpack."""
        return self._helper.ask("unpack", name=name, codec=self.codec)

    def blocks(self, path: RelPath) -> Answer:
        """Let the helper tell what a large file there is made of."""
        return self._helper.ask("blocks", path=path)

    def hurry(self) -> None:
        """Everything is on its way when this returns."""
        self._sftp.hurry()


class Parcel:
    """Implements ports.Staging and core.older.Expecting."""

    def __init__(self, parcels: Parcels, name: str, writing: ports.Writing, where: Where) -> None:
        self._parcels, self._name, self._writing, self._where = parcels, name, writing, where
        self._packing = Packing(self._write, parcels.press.pack)
        self._asked: dict[Digest, tuple[RelPath, Answer]] = {}
        self._put: set[Digest] = set()
        self._starts: dict[Digest, int] = {}
        self._left: dict[Digest, int] = {}
        self._unpacking: Answer | None = None
        self._closing: ports.Pending[None] | None = None
        self._problems: dict[Digest, str] = {}
        self._lost = ""

    def expect(self, wanted: Sequence[tuple[RelPath, File]]) -> None:
        # Now, since the helper answers in order: once it unpacks, it tells nothing until that is done.
        large = [(path, file) for path, file in wanted if file.size >= FROM and self._is_new(file)]
        for path, file in sorted(large, key=lambda each: -each[1].size)[:ASKED]:
            self._asked[file.digest] = (path, self._parcels.blocks(path))

    def _is_new(self, file: File) -> bool:
        known = self._parcels.compared
        if file.digest in self._parcels.doubtful or (known is not None and known[0] == file.digest):
            return False
        return self._where(file) is None

    def begun(self, file: File) -> int:
        if file.digest in self._put:
            return 0
        start = min(self._parcels.parts.pop(file.digest, 0), file.size)
        self._starts[file.digest] = start
        return start

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        if file.digest in self._put:
            return
        self._put.add(file.digest)
        doubtful = file.digest in self._parcels.doubtful
        there = None if doubtful else self._where(file)
        if there is not None:
            self._record(file, 0, there, [Copy(0, file.size)], _Source(()))
            return
        older_at, older = self._older(file)
        start, source = self._starts.pop(file.digest, 0), _Source(chunks)
        pieces = source if older is None else difference(source, older, start)
        self._record(file, start, older_at, pieces, source)
        if file.digest in self._left and older_at is not None and older is not None:
            self._parcels.compared = (file.digest, older_at, older)

    def _older(self, file: File) -> tuple[RelPath | None, Blocks | None]:
        """Where the machine has an older version of a content, and of which blocks."""
        known = self._parcels.compared
        if known is not None and known[0] == file.digest:
            self._parcels.compared = None
            return known[1:]
        if file.digest not in self._asked:
            return None, None
        path, answer = self._asked.pop(file.digest)
        try:
            value = answer.result()
            return (None, None) if value is None else (path, Blocks.from_json(value))
        except Refusal:
            return None, None  # it goes whole
        except ValueError as error:
            raise nonsense(str(error)) from error

    def _record(
        self, file: File, start: int, older_at: RelPath | None, pieces: Iterable[Piece], source: _Source
    ) -> None:
        self._packing.begin(file.digest, file.size, start=start, source=older_at)
        there = start
        try:
            for piece in pieces:
                self._packing.add(piece)
                there += piece.size if isinstance(piece, Copy) else len(piece)
                if isinstance(piece, Copy):
                    self._parcels.hurry()  # what little there is to send does not wait for more
            self._packing.end(LEFT if source.put_off else 0)
            if source.put_off:
                self._left[file.digest] = there if file.size >= KEPT_FROM else 0
        except (ports.ContentChanged, OSError) as error:
            self._packing.end(ABORTED)
            self._problems[file.digest] = str(error) if not isinstance(error, OSError) else told(error)

    def send(self) -> None:
        """The parcel is complete: everything is on its way when this returns, and nothing is awaited."""
        if self._closing is None:
            self._packing.close()
            self._closing = self._writing.close()
            self._parcels.hurry()

    @property
    def is_unpacking(self) -> bool:
        """Whether the helper is at it, as far as is known, and answers nothing else before it is done."""
        return self._unpacking is not None and self._unpacking.value is None

    def land(self) -> str:
        """Wait until every byte is acknowledged; what went wrong, or ""."""
        self.send()
        assert self._closing is not None
        try:
            self._closing.result()
        except OSError as error:
            if not self._lost:
                self._lost = told(error)
                self._parcels.abandon(self._name)
        return self._lost

    def finish(self) -> Mapping[Digest, str]:
        lost = self.land()
        if self._left:
            self._parcels.prepare()  # for what is so urgent, while the helper unpacks the end of this one
        assert self._unpacking is not None
        try:
            told_there = self._unpacking.result()
        except Refusal as error:
            return dict.fromkeys(self._put, lost or error.message)
        if not isinstance(told_there, dict) or not self._put.issuperset(told_there):
            raise nonsense("problems of contents that were not sent")
        for digest, text in told_there.items():
            if digest not in self._left or text != PUT_OFF:
                self._parcels.doubtful.add(digest)
                self._parcels.parts.pop(digest, None)
            elif self._left[digest]:
                self._parcels.parts[digest] = self._left[digest]
        return {**{digest: str(text) for digest, text in told_there.items()}, **self._problems}

    def _write(self, data: bytes) -> None:
        """The parcel's next bytes. Unpacking begins with the first: it goes on while the others travel."""
        self._parcels.press.sent(self._writing.write(data))
        if self._unpacking is None:
            self._unpacking = self._parcels.unpack(self._name)


class _Source:
    """Chunks that end where they are put off: what was read until then is told all the same."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.put_off = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except ports.PutOff:
            self.put_off = True


def parts_from_json(value: Any) -> dict[Digest, int]:
    """The contents that the machine has in part, as it tells of them; ValueError for anything else."""
    if not isinstance(value, dict) or not all(type(size) is int and size > 0 for size in value.values()):
        raise ValueError("no parts")
    return value
