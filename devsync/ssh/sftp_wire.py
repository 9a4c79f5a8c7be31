"""The bytes of SFTP version 3: fields into packets and back, and what a server's refusals mean.

Everything that arrives is hostile until it is parsed: whatever is cut, oversized or of the wrong kind
is `Malformed`, and never costs more memory than `PACKET_LIMIT`.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from devsync.ports import Attributes

VERSION = 3
PACKET_LIMIT = 1024 * 1024
"""The longest reply that is believed. No server's reply is longer than 256 KiB."""
NAME_LIMIT = 1024
"""The longest name in a folder that is believed; file systems stop at 255 characters."""

INIT, OPEN, CLOSE, READ, WRITE, LSTAT = 1, 3, 4, 5, 6, 7
SETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR = 9, 11, 12, 13, 14, 15
REALPATH, RENAME, READLINK, SYMLINK, EXTENDED = 16, 18, 19, 20, 200
SERVER_VERSION, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201

FOR_READING, FOR_WRITING = 0x01, 0x02 | 0x08 | 0x10  # write, create, truncate

_OK, _EOF = 0, 1
_HAS_SIZE, _HAS_OWNER, _HAS_MODE, _HAS_TIMES, _HAS_MORE = 0x1, 0x2, 0x4, 0x8, 0x80000000

# Version 3 ends at 8; the others belong to later versions, and some servers send them all the same.
_ERRNO = {
    2: errno.ENOENT,
    3: errno.EACCES,
    5: errno.EBADMSG,
    6: errno.ENOTCONN,
    7: errno.ENOTCONN,
    8: errno.EOPNOTSUPP,
    10: errno.ENOENT,
    11: errno.EEXIST,
    12: errno.EROFS,
    14: errno.ENOSPC,
    15: errno.EDQUOT,
    18: errno.ENOTEMPTY,
    19: errno.ENOTDIR,
    21: errno.ELOOP,
}


class Malformed(Exception):
    """The peer does not speak SFTP, or lies about lengths. Nothing after it can be believed."""


class EndOfFile(Exception):
    """The server's way to say that there is no more."""


@dataclass(frozen=True)
class Space:
    """What is left where a path is: bytes in all, bytes and files that may still be made."""

    total: int
    free: int
    free_files: int


@dataclass(frozen=True)
class Limits:
    """What the server says it bears: bytes for each read and each write, open handles."""

    read: int = 32 * 1024
    write: int = 32 * 1024
    handles: int = 64


def number(value: int) -> bytes:
    """An unsigned 32-bit field."""
    return struct.pack(">I", value)


def big(value: int) -> bytes:
    """An unsigned 64-bit field."""
    return struct.pack(">Q", value)


def string(value: bytes) -> bytes:
    """A field of bytes with its length before it."""
    return struct.pack(">I", len(value)) + value


def mode_only(mode: int) -> bytes:
    """Attributes that say nothing but the permissions."""
    return struct.pack(">II", _HAS_MODE, mode & 0o7777)


def header(kind: int, request: int, size: int) -> bytes:
    """What begins a packet that has `size` bytes in all."""
    return struct.pack(">IBI", size - 4, kind, request)


def hello() -> bytes:
    """The first packet, the only one without a request's number."""
    return header(INIT, VERSION, 9)


class Framer:
    """Cuts a stream of bytes into packets, and holds at most one that is incomplete."""

    def __init__(self, limit: int = PACKET_LIMIT) -> None:
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that `data` completes, without their length."""
        self._held += data
        at = 0
        while len(self._held) - at >= 4:
            length = int.from_bytes(self._held[at : at + 4], "big")
            if not 1 <= length <= self._limit:
                raise Malformed(f"a packet of {length} bytes")
            if len(self._held) - at - 4 < length:
                break
            yield bytes(memoryview(self._held)[at + 4 : at + 4 + length])
            at += 4 + length
        del self._held[:at]


class Reply:
    """A packet from the server, read field by field."""

    __slots__ = ("_at", "_data", "kind", "request")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 1
        self.kind = data[0]
        self.request = self.number()  # in the server's first packet this is its version

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise Malformed("a field that is longer than its packet")
        return self._data[start : self._at]

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def big(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        return self._take(self.number())

    def attributes(self) -> Attributes:
        """What is said of a file; what is not said is 0."""
        flags = self.number()
        size = self.big() if flags & _HAS_SIZE else 0
        if flags & _HAS_OWNER:
            self._take(8)
        mode = self.number() if flags & _HAS_MODE else 0
        mtime = 0
        if flags & _HAS_TIMES:
            self.number()
            mtime = self.number()
        for _ in range(self.number() if flags & _HAS_MORE else 0):
            self.string(), self.string()
        return Attributes(size, mode, mtime)

    def extensions(self) -> dict[str, bytes]:
        """The pairs that end the server's first packet."""
        found = {}
        while self._at < len(self._data):
            name = self.string().decode("ascii", "replace")
            found[name] = self.string()
        return found

    # ------------------------------------------------- what a request expects, or the server's refusal

    def expect(self, kind: int, path: bytes) -> Reply:
        """This reply, if it is of that kind. Raises OSError or EndOfFile if it is a refusal."""
        if self.kind == kind:
            return self
        refusal = self._refusal(path) if self.kind == STATUS else None
        if refusal is not None:
            raise refusal
        raise Malformed(f"a reply of kind {self.kind} where {kind} was due")

    def done(self, path: bytes) -> None:
        """Return if the server says that it did it."""
        if self.kind != STATUS:
            raise Malformed(f"a reply of kind {self.kind} where a status was due")
        refusal = self._refusal(path)
        if refusal is not None:
            raise refusal

    def entries(self, path: bytes) -> list[tuple[bytes, Attributes]]:
        """The names in a reply to READDIR, READLINK or REALPATH."""
        self.expect(NAME, path)
        found = []
        for _ in range(self.number()):
            name = self.string()
            self.string()  # a line for people
            found.append((name, self.attributes()))
        if not found:
            raise Malformed("a list of no names")
        return found

    def limits(self) -> Limits:
        """The answer to limits@openssh.com; 0 there means that no limit is known."""
        self.big()
        usual = Limits()
        read, write, handles = (self.big() for _ in range(3))
        return Limits(read or usual.read, write or usual.write, handles or usual.handles)

    def space(self) -> Space:
        """The answer to statvfs@openssh.com."""
        _, unit, blocks, _, free, _, _, free_files = (self.big() for _ in range(8))
        return Space(unit * blocks, unit * free, free_files)

    def _refusal(self, path: bytes) -> Exception | None:
        code = self.number()
        text = self.string().decode("utf-8", "replace") if self._at < len(self._data) else ""
        if code in (_OK, _EOF):
            return EndOfFile() if code else None
        number = _ERRNO.get(code, errno.EIO)
        said = os.strerror(number) if code in _ERRNO else f"the server says: {text[:200]}"
        return OSError(number, said, os.fsdecode(path))
