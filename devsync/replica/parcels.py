"""The sending side of parcels: contents on their way to the machine, many in one compressed stream.

A parcel file is begun ahead of need, so that a save costs no round trip for it; the helper unpacks
while it grows. What the machine has already, under another name or in part, is not sent again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import count

from devsync import ports
from devsync.core.snapshot import Digest, File, RelPath
from devsync.replica.channel import Answer, HelperChannel, Refusal, nonsense
from devsync.replica.codec import packer
from devsync.replica.parcel import ABORTED, HEAD, NUMBER
from devsync.replica.walk import told

BLOCK = 1 << 20
"""Bytes that are compressed together."""

Where = Callable[[File], RelPath | None]
"""The path of a file on the machine that holds this content already, if one is known."""


class Parcels:
    """Makes parcels over one SFTP channel and one helper; the next one is always begun already."""

    def __init__(self, sftp: ports.Sftp, helper: HelperChannel, tmp: bytes, codecs: Collection[str]) -> None:
        """`tmp` ends with a slash; `codecs` are what the helper can open."""
        self._sftp, self._helper, self._tmp = sftp, helper, tmp
        self.codec, self._pack = packer(codecs)
        self._numbers = count()
        self._stem = f"parcel-{os.urandom(4).hex()}"
        self._next: tuple[str, ports.Writing] | None = None
        self.doubtful: set[Digest] = set()
        """Contents that were not where they were believed to be: these are sent."""

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

    def pack(self, block: bytes) -> bytes:
        """A block as it goes into a parcel."""
        packed = self._pack(block) if self._pack is not None else block
        if len(packed) >= len(block):
            return HEAD.pack(len(block), 0) + block
        return HEAD.pack(len(packed), len(block)) + packed

    def hurry(self) -> None:
        """Everything is on its way when this returns."""
        self._sftp.hurry()


class Parcel:
    """Implements ports.Staging."""

    def __init__(self, parcels: Parcels, name: str, writing: ports.Writing, where: Where) -> None:
        self._parcels, self._name, self._writing, self._where = parcels, name, writing, where
        self._buffer = bytearray()
        self._put: set[Digest] = set()
        self._unpacking: Answer | None = None
        self._closing: ports.Pending[None] | None = None
        self._problems: dict[Digest, str] = {}
        self._lost = ""

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        if file.digest in self._put:
            return
        self._put.add(file.digest)
        source = None if file.digest in self._parcels.doubtful else self._where(file)
        if source is not None:
            self._record(file, {"from": source, "head": file.size, "tail": 0})
            self._add(NUMBER.pack(0))
            return
        self._record(file, {})
        try:
            for chunk in chunks:
                if chunk:
                    self._add(NUMBER.pack(len(chunk)))
                    self._add(chunk)
            self._add(NUMBER.pack(0))
        except (ports.ContentChanged, OSError) as error:
            self._add(NUMBER.pack(ABORTED))
            self._problems[file.digest] = str(error) if not isinstance(error, OSError) else told(error)

    def send(self) -> None:
        """The parcel is complete: everything is on its way when this returns, and nothing is awaited."""
        if self._closing is None:
            self._flush()
            self._writing.write(NUMBER.pack(0))
            self._closing = self._writing.close()
            self._begin()
            self._parcels.hurry()

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
        assert self._unpacking is not None
        try:
            told_there = self._unpacking.result()
        except Refusal as error:
            return dict.fromkeys(self._put, lost or error.message)
        if not isinstance(told_there, dict) or not self._put.issuperset(told_there):
            raise nonsense("problems of contents that were not sent")
        self._parcels.doubtful.update(told_there)
        return {**{digest: str(text) for digest, text in told_there.items()}, **self._problems}

    def _record(self, file: File, more: Mapping[str, object]) -> None:
        header = json.dumps({"digest": file.digest, "size": file.size, **more}).encode("ascii")
        self._add(NUMBER.pack(len(header)) + header)

    def _add(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= BLOCK:
            block = bytes(self._buffer[:BLOCK])
            del self._buffer[:BLOCK]
            self._writing.write(self._parcels.pack(block))
            self._begin()

    def _flush(self) -> None:
        if self._buffer:
            self._writing.write(self._parcels.pack(bytes(self._buffer)))
            self._buffer.clear()

    def _begin(self) -> None:
        """Unpacking begins with the first block: it goes on while the others travel."""
        if self._unpacking is None:
            self._unpacking = self._parcels.unpack(self._name)
