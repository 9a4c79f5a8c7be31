"""The fields of SFTP version 3, as the embedded machine's server reads and writes them. Pure."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass

INIT, VERSION = 1, 2
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = range(6)
UNSUPPORTED = 8

READ, WRITE, APPEND, CREATE, TRUNCATE, EXCLUSIVE = 1, 2, 4, 8, 16, 32
HAS_SIZE, HAS_OWNER, HAS_MODE, HAS_TIMES = 1, 2, 4, 8

_CODES = {
    errno.ENOENT: NO_SUCH_FILE,
    errno.ENOTDIR: NO_SUCH_FILE,
    errno.ELOOP: NO_SUCH_FILE,
    errno.EBADF: NO_SUCH_FILE,
    errno.EACCES: PERMISSION_DENIED,
    errno.EPERM: PERMISSION_DENIED,
    errno.ENAMETOOLONG: BAD_MESSAGE,
    errno.EINVAL: BAD_MESSAGE,
    errno.ENOSYS: UNSUPPORTED,
}


class Malformed(Exception):
    """A request that does not hold what it must hold."""


class Fields:
    """Reads the fields of a request one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def _take(self, size: int) -> memoryview:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise Malformed("a field is cut off")
        self._at += size
        return taken

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self._take(8), "big")

    def data(self) -> memoryview:
        return self._take(self.u32())

    def string(self) -> bytes:
        return bytes(self.data())

    def path(self) -> bytes:
        """A name; the empty one is the home, where this process was started."""
        path = self.string()
        if b"\0" in path:
            raise Malformed("a name holds a zero byte")
        return path or b"."


def open_flags(wish: int) -> int:
    """The system's flags for those of an open request."""
    reads, writes = bool(wish & READ), bool(wish & WRITE)
    if not reads and not writes:
        raise Malformed("opened neither for reading nor for writing")
    flags = os.O_RDONLY if not writes else os.O_RDWR if reads else os.O_WRONLY
    options = ((APPEND, os.O_APPEND), (CREATE, os.O_CREAT), (TRUNCATE, os.O_TRUNC), (EXCLUSIVE, os.O_EXCL))
    for asked, flag in options:
        flags |= flag if wish & asked else 0
    return flags


@dataclass
class Wanted:
    """The attributes that a request names; None where it says nothing."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    times: tuple[int, int] | None = None

    @classmethod
    def read(cls, fields: Fields) -> Wanted:
        flags = fields.u32()
        wanted = cls()
        if flags & HAS_SIZE:
            wanted.size = fields.u64()
        if flags & HAS_OWNER:
            wanted.owner = (fields.u32(), fields.u32())
        if flags & HAS_MODE:
            wanted.mode = fields.u32() & 0o7777
        if flags & HAS_TIMES:
            wanted.times = (fields.u32(), fields.u32())
        return wanted

    def apply(self, target: bytes | int) -> None:
        """Give them to a file. The times come last, since the others would change them."""
        if self.size is not None:
            os.truncate(target, self.size)
        if self.mode is not None:
            os.chmod(target, self.mode)
        if self.owner is not None:
            os.chown(target, *self.owner)
        if self.times is not None:
            os.utime(target, self.times)


# ---------------------------------------------------------------- replies


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def hello(extensions: Mapping[str, str]) -> bytes:
    """The answer to the client's first packet; `extensions` by name, with their versions."""
    offered = (text.encode() for pair in extensions.items() for text in pair)
    return struct.pack(">BI", VERSION, 3) + b"".join(map(string, offered))


def status(number: int, code: int, message: str = "") -> bytes:
    return struct.pack(">BII", STATUS, number, code) + string(message.encode()) + string(b"")


def done(number: int) -> bytes:
    return status(number, OK)


def failed(number: int, error: OSError) -> bytes:
    """The status that comes nearest to what the system said."""
    return status(number, _CODES.get(error.errno or 0, FAILURE), error.strerror or "failure")


def attributes(found: os.stat_result) -> bytes:
    flags = HAS_SIZE | HAS_OWNER | HAS_MODE | HAS_TIMES
    times = (int(found.st_atime) & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)
    return struct.pack(">IQIIIII", flags, found.st_size, found.st_uid, found.st_gid, found.st_mode, *times)


def attributes_reply(number: int, found: os.stat_result) -> bytes:
    return struct.pack(">BI", ATTRS, number) + attributes(found)


def name_reply(number: int, name: bytes) -> bytes:
    return struct.pack(">BII", NAME, number, 1) + string(name) + string(name) + struct.pack(">I", 0)


def space(number: int, found: os.statvfs_result) -> bytes:
    """What statvfs@openssh.com tells of a file system; its flags are read-only (1) and no set-uid (2)."""
    blocks = (found.f_bsize, found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail)
    files = (found.f_files, found.f_ffree, found.f_favail)
    flags = found.f_flag & (os.ST_RDONLY | os.ST_NOSUID)
    return struct.pack(
        ">BI11Q", EXTENDED_REPLY, number, *blocks, *files, found.f_fsid, flags, found.f_namemax
    )


def entry(name: bytes, found: os.stat_result) -> bytes:
    """A name in a listing, with the line for people who look at it."""
    when = time.strftime("%b %e %Y", time.localtime(found.st_mtime))
    owner = f"{found.st_uid:8} {found.st_gid:8}"
    line = f"{stat.filemode(found.st_mode)} {found.st_nlink:3} {owner} {found.st_size:12} {when} "
    return string(name) + string(line.encode() + name) + attributes(found)
