"""Writes a parcel (see `parcel`), and what the helper tells of its files. Travels (Python 3.8).

The way from the machine: it is told the blocks of the version that is here already, and makes a parcel
of the one record that is needed besides, which is fetched like any file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from typing import Callable  # noqa: UP035 (an alias is evaluated: Python 3.8)

from devsync.core.snapshot import Digest, RelPath
from devsync.replica.codec import Pack, packer
from devsync.replica.delta import FROM, PATIENCE, Blocks, Copy, Piece, difference
from devsync.replica.home import PARCEL, Home, discard, write_all
from devsync.replica.older import Older
from devsync.replica.parcel import COPY, HEAD, NUMBER, PART
from devsync.replica.walk import Blocked

BLOCK = 1 << 20
"""Bytes that are compressed together."""

RUN = 16 << 20
"""After so many bytes that need not be sent, what there is to tell of them is told: the other end waits."""

Write = Callable[[bytes], object]


class Packing:
    """Puts records into blocks, and hands each on that is full."""

    def __init__(self, write: Write, pack: Pack | None) -> None:
        """`write` takes the next bytes of the parcel; `pack` compresses a block."""
        self._write, self._pack = write, pack
        self._buffer = bytearray()
        self._run: Copy | None = None
        self._silent = 0

    def begin(self, digest: Digest, size: int, *, start: int = 0, source: RelPath | None = None) -> None:
        """A record: a content, the bytes of it that are there, and the file that has parts of it."""
        header: dict[str, object] = {"digest": digest, "size": size}
        if start:
            header["start"] = start
        if source is not None:
            header["from"] = source
        text = json.dumps(header).encode("ascii")
        self._add(NUMBER.pack(len(text)), text)

    def add(self, piece: Piece) -> None:
        """The content's next piece."""
        run = self._run
        if isinstance(piece, Copy):
            follows = run is not None and run.start + run.size == piece.start
            if run is None or not follows:
                self._end_run()
                self._run = piece
            else:
                self._run = Copy(run.start, run.size + piece.size)
            self._silent += piece.size
            if self._silent >= RUN:
                self._end_run()
                self.flush()
        elif piece:
            self._end_run()
            self._add(NUMBER.pack(len(piece)), piece)

    def end(self, how: int = 0) -> None:
        """The content is complete, or ABORTED, or LEFT."""
        self._end_run()
        self._add(NUMBER.pack(how))

    def flush(self) -> None:
        """Hand on what there is, full or not."""
        self._silent = 0
        if self._buffer:
            self._hand_on(bytes(self._buffer))
            self._buffer.clear()

    def close(self) -> None:
        """The parcel is complete."""
        self.flush()
        self._write(NUMBER.pack(0))

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            self._add(NUMBER.pack(COPY), PART.pack(run.start, run.size))

    def _add(self, *parts: bytes) -> None:
        for part in parts:
            self._buffer += part
        while len(self._buffer) >= BLOCK:
            self._silent = 0
            self._hand_on(bytes(self._buffer[:BLOCK]))
            del self._buffer[:BLOCK]

    def _hand_on(self, block: bytes) -> None:
        packed = self._pack(block) if self._pack is not None else block
        if len(packed) >= len(block):
            self._write(HEAD.pack(len(block), 0) + block)
        else:
            self._write(HEAD.pack(len(packed), len(block)) + packed)


def tell_blocks(home: Home, path: RelPath) -> Blocks | None:
    """The blocks of a file that is there; None if it is not, or is too small to be worth it."""
    try:
        with Older(home.root, path) as older:
            return older.blocks() if older.size >= FROM else None
    except (OSError, Blocked, ValueError):
        return None


def pack_difference(
    home: Home,
    content: tuple[RelPath, Digest, int],
    start: int,
    older: Blocks,
    codecs: Collection[str],
) -> tuple[str, str, int] | None:
    """Make a parcel of a content (path, digest, bytes) from `start` on, against what the other end has.

    Its name in tmp, its codec and its size; None if the content is not there so, or too little of it is in
    `older`. The other end removes it.
    """
    path, digest, size = content
    codec, pack = packer(codecs)
    name = f"{PARCEL}{os.urandom(8).hex()}"
    target = home.open_staging(name)
    try:
        packing = Packing(lambda data: write_all(target, data), pack)
        packing.begin(digest, size, start=start)
        with Older(home.root, path) as file:
            if file.size != size:
                raise Blocked("it has changed")
            for piece in _worthwhile(difference(file.part(start, size - start), older, start), size - start):
                packing.add(piece)
        packing.end()
        packing.close()
        return name, codec, os.fstat(target).st_size
    except (OSError, Blocked):
        discard(home.tmp, name)
        return None
    finally:
        os.close(target)


def _worthwhile(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """The pieces. Blocked once it is clear that too many of them are new."""
    new = known = 0
    for piece in pieces:
        if isinstance(piece, Copy):
            known += piece.size
        else:
            new += len(piece)
        if new > size * 3 // 4 or (new > PATIENCE and known < new // 4):
            raise Blocked("there is too little that is known")
        yield piece
