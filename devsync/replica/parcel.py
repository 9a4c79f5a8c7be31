"""Many contents in one file that arrives piece by piece, unpacked while it does. Travels (Python 3.8).

A parcel is a run of blocks, each compressed by itself:

    4 bytes   length of what follows, packed; 0 is the end of the parcel
    4 bytes   length of it unpacked; 0 says that it was not compressed
    …         the block

Unpacked and joined they are a run of records:

    4 bytes   length of the header
    …         header, JSON: {"digest", "size"} and perhaps {"from": path, "head": bytes, "tail": bytes},
              which are taken from a file that is there already, before and after what follows
    4 bytes   length of a piece of content, and the piece; 0 ends the content, ABORTED gives it up
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import struct
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Callable  # noqa: UP035 (an alias is evaluated: Python 3.8)

from devsync.core.snapshot import Digest, RelPath, proper
from devsync.replica.codec import Open
from devsync.replica.digests import BLOCK, open_file
from devsync.replica.home import Home, discard, write_all
from devsync.replica.walk import Blocked, parent, told

NUMBER = struct.Struct(">I")
HEAD = struct.Struct(">II")
ABORTED = 0xFFFFFFFF
LONGEST_BLOCK = 1 << 22
LONGEST_HEADER = 1 << 16

PATIENCE = 30.0
"""Seconds without a further byte after which the sender is taken for gone."""

Gone = Callable[[], bool]
"""Whether the near side has hung up."""


class Cut(Blocked):
    """The parcel ends before its end."""


def hung_up(stdin: BinaryIO) -> Gone:
    """Asks whether the other end of `stdin` is closed, without reading from it."""
    poll = select.poll()
    poll.register(stdin, getattr(select, "POLLRDHUP", 0))

    def gone() -> bool:
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    return gone


def unpack(home: Home, name: str, opener: Open, gone: Gone) -> dict[Digest, str]:
    """Stage every content of the parcel `name` in tmp; the contents that did not come out, and why.

    Begins before the parcel is complete and follows it while it grows. The parcel is removed. Cut if it
    does not end.
    """
    problems: dict[Digest, str] = {}
    try:
        with _Tail(home.tmp, name, gone) as tail:
            content = _Content(_blocks(tail, opener))
            while (header := content.header()) is not None:
                problem = _unpack_one(home, header, content)
                if problem:
                    problems[header["digest"]] = problem
    finally:
        discard(home.tmp, name)
    return problems


def _unpack_one(home: Home, header: dict[str, Any], content: _Content) -> str:
    digest, size = header["digest"], header["size"]
    try:
        target = home.open_staging(digest)
    except OSError as error:
        content.skip()
        return told(error)
    found = hashlib.sha256()
    problem = ""
    try:
        for piece in _whole(home, header, content):
            found.update(piece)
            size -= len(piece)
            write_all(target, piece)
    except (OSError, Blocked) as error:
        problem = str(error) if isinstance(error, Blocked) else told(error)
        content.skip()
    finally:
        os.close(target)
    if not problem and (size or found.hexdigest() != digest):
        problem = "it changed while it was sent"
    if problem:
        discard(home.tmp, digest)
    return problem


def _whole(home: Home, header: dict[str, Any], content: _Content) -> Iterator[bytes]:
    """The content of a record, with what is taken from a file that is there already."""
    source = header.get("from")
    if source is not None:
        yield from _part(home.root, source, 0, header["head"])
    yield from content.pieces()
    if source is not None and header["tail"]:
        yield from _part(home.root, source, -header["tail"], header["tail"])


def _part(root: int, path: RelPath, start: int, size: int) -> Iterator[bytes]:
    if not proper(path):
        raise Blocked("a part of something that is no path")
    with parent(root, path) as (folder, name):
        descriptor = open_file(folder, name)
    try:
        os.lseek(descriptor, start, os.SEEK_END if start < 0 else os.SEEK_SET)
        while size:
            piece = os.read(descriptor, min(BLOCK, size))
            if not piece:
                raise Blocked("the file that a part was to be taken from is shorter now")
            size -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


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


def _blocks(tail: _Tail, opener: Open) -> Iterator[bytes]:
    while True:
        (packed,) = NUMBER.unpack(tail.exactly(NUMBER.size))
        if packed == 0:
            return
        (size,) = NUMBER.unpack(tail.exactly(NUMBER.size))
        if packed > LONGEST_BLOCK or size > LONGEST_BLOCK:
            raise ValueError("a block that is too long")
        block = tail.exactly(packed)
        yield opener(block, size) if size else block


class _Content:
    """The records in the blocks."""

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
        if len(digest) != 64 or digest.strip("0123456789abcdef") or header["size"] < 0:
            raise ValueError("a header that names no content")
        self._open = True
        return dict(header)

    def pieces(self) -> Iterator[bytes]:
        """The record's content. Blocked if the sender gave it up."""
        while self._open:
            while self._left:  # also what a reader before this one has left: its disk was full, say
                piece = self._some(self._left)
                self._left -= len(piece)
                yield piece
            (length,) = NUMBER.unpack(self._take(NUMBER.size))
            if length == ABORTED:
                self._open = False
                raise Blocked("it changed while it was read")
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
