"""Many contents in one file that arrives piece by piece, unpacked while it does. Travels (Python 3.8).

A parcel is a run of blocks, each compressed by itself:

    4 bytes   length of what follows, packed; 0 is the end of the parcel
    4 bytes   length of it unpacked; 0 says that it was not compressed
    …         the block

Unpacked and joined they are a run of records:

    4 bytes   length of the header
    …         header, JSON: {"digest", "size"}; perhaps {"start": bytes} that have arrived before and are
              not sent again, and {"from": path} of a file that is there already
    4 bytes   length of a piece of content, and the piece; 0 ends the content, ABORTED gives it up, LEFT
              puts it off, to be gone on with, COPY takes a piece from that file: 8 bytes where it begins,
              8 bytes its length
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, Callable  # noqa: UP035 (an alias is evaluated: Python 3.8)

from devsync.core.snapshot import Digest
from devsync.replica.arrival import Arrival, Cut
from devsync.replica.codec import Open
from devsync.replica.delta import Copy, Piece
from devsync.replica.digests import open_file
from devsync.replica.home import Home, discard
from devsync.replica.older import Older
from devsync.replica.walk import Blocked, told

NUMBER = struct.Struct(">I")
HEAD = struct.Struct(">II")
PART = struct.Struct(">QQ")
ABORTED = 0xFFFFFFFF
COPY = 0xFFFFFFFE
LEFT = 0xFFFFFFFD
LONGEST_BLOCK = 1 << 22
LONGEST_HEADER = 1 << 16
LONGEST = 1 << 62

PATIENCE = 30.0
"""Seconds without a further byte after which the sender is taken for gone."""

PUT_OFF = "put off"
"""What is told of a content that was LEFT: as much as has come of it is kept."""

Gone = Callable[[], bool]
"""Whether the near side has hung up."""


def hung_up(stdin: BinaryIO) -> Gone:
    """Asks whether the other end of `stdin` is closed, without reading from it."""
    poll = select.poll()
    poll.register(stdin, getattr(select, "POLLRDHUP", 0))

    def gone() -> bool:
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    return gone


def unpack(
    home: Home, name: str, opener: Open, gone: Gone, beat: Callable[[], None] = lambda: None
) -> dict[Digest, str]:
    """Stage every content of the parcel `name` in tmp; the contents that did not come out, and why.

    `beat` is called with each block that has come.

    Begins before the parcel is complete and follows it while it grows. The parcel is removed. Cut if it
    does not end.
    """
    problems: dict[Digest, str] = {}
    try:
        with _Tail(home.tmp, name, gone) as tail:
            content = Records(_beating(beat, blocks(tail.exactly, opener)))
            while (header := content.header()) is not None:
                problem = _unpack_one(home, header, content)
                if problem:
                    problems[header["digest"]] = problem
    finally:
        discard(home.tmp, name)
    return problems


def _beating(beat: Callable[[], None], blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        beat()
        yield block


def _unpack_one(home: Home, header: dict[str, Any], content: Records) -> str:
    try:
        with ExitStack() as opened:
            source = header.get("from")
            older = None if source is None else opened.enter_context(Older(home.root, source))
            arrival = opened.enter_context(
                Arrival(home, header["digest"], header["size"], header.get("start", 0))
            )
            for piece in content.pieces():
                for part in whole(piece, older):
                    arrival.write(part)
            return "" if arrival.finish() else "it changed while it was sent"
    except (OSError, Blocked) as error:
        content.skip()
        return str(error) if isinstance(error, Blocked) else told(error)


def whole(piece: Piece, older: Older | None) -> Iterable[bytes]:
    """The bytes of a piece. Blocked if it is a part of something that is not there, or not so long."""
    if isinstance(piece, bytes):
        return [piece]
    if older is None:
        raise Blocked("a part of a file that is not named")
    return older.part(piece.start, piece.size)


class _Tail:
    """Reads a file that somebody else is still writing."""

    def __init__(self, folder: int, name: str, gone: Gone) -> None:
        self._folder, self._name, self._gone = folder, name, gone
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Tail:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def exactly(self, size: int) -> bytes:
        """The next `size` bytes, waiting for them."""
        found = b""
        pause, deadline = 0.0005, time.monotonic() + PATIENCE
        while len(found) < size:
            piece = self._read(size - len(found))
            if piece:
                found += piece
                pause, deadline = 0.0005, time.monotonic() + PATIENCE
            elif self._gone() or time.monotonic() > deadline:
                raise Cut("the parcel was cut off")
            else:
                time.sleep(pause)
                pause = min(2 * pause, 0.01)
        return found

    def _read(self, size: int) -> bytes:
        if self._file is None:
            try:
                self._file = os.fdopen(open_file(self._folder, self._name), "rb", buffering=0)
            except FileNotFoundError:
                return b""
        found = self._file.read(size) or b""
        if not found and not os.fstat(self._file.fileno()).st_nlink:
            raise Cut("the parcel was given up")
        return found


def blocks(exactly: Callable[[int], bytes], opener: Open) -> Iterator[bytes]:
    """The blocks of a parcel of which `exactly` gives the next bytes. ValueError for what is no parcel."""
    while True:
        (packed,) = NUMBER.unpack(exactly(NUMBER.size))
        if packed == 0:
            return
        (size,) = NUMBER.unpack(exactly(NUMBER.size))
        if packed > LONGEST_BLOCK or size > LONGEST_BLOCK:
            raise ValueError("a block that is too long")
        block = exactly(packed)
        yield opener(block, size) if size else block


class Records:
    """The records in the blocks; ValueError, KeyError or TypeError where there are none."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._buffer = memoryview(b"")
        self._open = False
        self._left = 0  # bytes of the piece that has begun

    def header(self) -> dict[str, Any] | None:
        """The next record's header; None at the end of the parcel."""
        first = self._take(NUMBER.size, at_end=True)
        if not first:
            return None
        (length,) = NUMBER.unpack(first)
        if length > LONGEST_HEADER:
            raise ValueError("a header that is too long")
        header = json.loads(self._take(length).decode("ascii"))
        digest = header["digest"]
        start = header.get("start", 0)
        if len(digest) != 64 or digest.strip("0123456789abcdef") or not 0 <= start <= header["size"]:
            raise ValueError("a header that names no content")
        self._open = True
        return dict(header)

    def pieces(self) -> Iterator[Piece]:
        """The record's content. Blocked if the sender gave it up, Cut if he put it off."""
        while self._open:
            while self._left:  # also what a reader before this one has left: its disk was full, say
                piece = self._some(self._left)
                self._left -= len(piece)
                yield piece
            (length,) = NUMBER.unpack(self._take(NUMBER.size))
            if length == ABORTED:
                self._open = False
                raise Blocked("it changed while it was read")
            if length == LEFT:
                self._open = False
                raise Cut(PUT_OFF)
            if length == COPY:
                start, size = PART.unpack(self._take(PART.size))
                if start + size > LONGEST:
                    raise ValueError("a part that no file has")
                yield Copy(start, size)
            else:
                self._open, self._left = length > 0, length

    def skip(self) -> None:
        """Go on behind the record's content."""
        try:
            for _ in self.pieces():
                pass
        except Blocked:
            pass  # given up, and so it would have been

    def _take(self, size: int, at_end: bool = False) -> bytes:
        found = b""
        while len(found) < size:
            piece = self._some(size - len(found), at_end and not found)
            if not piece:
                break
            found += piece
        return found

    def _some(self, most: int, at_end: bool = False) -> bytes:
        if not self._buffer:
            block = next(self._blocks, b"")
            if not block and not at_end:
                raise ValueError("a parcel that ends within a record")
            self._buffer = memoryview(block)
        piece = bytes(self._buffer[:most])
        self._buffer = self._buffer[most:]
        return piece
