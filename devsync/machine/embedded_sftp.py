"""The embedded machine's SFTP server: `python -m devsync.machine.embedded_sftp`, on its standard streams.

A program of its own, as OpenSSH's sftp-server is one: the SSH server starts it like any command, so
it has a process group, a home and an end like one. Standard library only, one thread, requests are
done in the order they came. Names are bytes, whatever they are.

Where version 3 leaves something open, it does what OpenSSH does: `symlink` takes the target first,
and `rename` refuses a name that is taken.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from devsync.machine import embedded_sftp_wire as wire
from devsync.machine.embedded_sftp_wire import Fields, Malformed, Wanted

MAX_PACKET = 256 * 1024
MAX_DATA = MAX_PACKET - 1024
NAMES_AT_ONCE = 100
EXTENSIONS = {
    "posix-rename@openssh.com": "1",
    "fsync@openssh.com": "1",
    "hardlink@openssh.com": "1",
    "limits@openssh.com": "1",
    "statvfs@openssh.com": "2",
}


@dataclass
class Listing:
    """A folder that is being listed: what of it has not been told yet."""

    path: bytes
    names: list[bytes]


@dataclass
class Opened:
    """A file that is open."""

    descriptor: int
    append: bool


@dataclass
class Server:
    """The requests of one client. `answer` takes a request and gives its reply, both without lengths."""

    _handles: dict[bytes, Opened | Listing] = field(default_factory=dict)
    _count: int = 0

    def answer(self, packet: memoryview) -> bytes:
        """Do what the packet asks. A problem of any kind becomes the status of that request alone."""
        if not packet:
            return wire.status(0, wire.BAD_MESSAGE, "empty packet")
        kind = packet[0]
        if kind == wire.INIT:
            return wire.hello(EXTENSIONS)
        fields = Fields(packet[1:])
        number = 0
        try:
            number = fields.u32()
            work = self._REQUESTS.get(kind)
            if work is None:
                return wire.status(number, wire.UNSUPPORTED, "no such request")
            return work(self, number, fields)
        except Malformed as error:
            return wire.status(number, wire.BAD_MESSAGE, str(error))
        except OSError as error:
            return wire.failed(number, error)
        except OverflowError:
            return wire.status(number, wire.FAILURE, "a number is too large for this machine")

    def close(self) -> None:
        for handle in self._handles.values():
            if isinstance(handle, Opened):
                os.close(handle.descriptor)
        self._handles.clear()

    # ---- handles

    def _remember(self, number: int, what: Opened | Listing) -> bytes:
        self._count += 1
        handle = self._count.to_bytes(4, "big")
        self._handles[handle] = what
        return struct.pack(">BI", wire.HANDLE, number) + wire.string(handle)

    def _file(self, fields: Fields) -> Opened:
        handle = self._handles.get(fields.string())
        if not isinstance(handle, Opened):
            raise Malformed("no such file handle")
        return handle

    def _open(self, number: int, fields: Fields) -> bytes:
        path, wish, wanted = fields.path(), fields.u32(), Wanted.read(fields)
        mode = 0o666 if wanted.mode is None else wanted.mode
        descriptor = os.open(path, wire.open_flags(wish) | os.O_CLOEXEC, mode)
        return self._remember(number, Opened(descriptor, bool(wish & wire.APPEND)))

    def _close(self, number: int, fields: Fields) -> bytes:
        handle = self._handles.pop(fields.string(), None)
        if handle is None:
            raise Malformed("no such handle")
        if isinstance(handle, Opened):
            os.close(handle.descriptor)
        return wire.done(number)

    def _read(self, number: int, fields: Fields) -> bytes:
        opened, offset, size = self._file(fields), fields.u64(), fields.u32()
        data = os.pread(opened.descriptor, min(size, MAX_DATA), offset)
        if not data and size:
            return wire.status(number, wire.EOF)
        return struct.pack(">BI", wire.DATA, number) + wire.string(data)

    def _write(self, number: int, fields: Fields) -> bytes:
        opened, offset, data = self._file(fields), fields.u64(), fields.data()
        while data:
            # A file opened for appending takes no offset.
            count = (
                os.write(opened.descriptor, data)
                if opened.append
                else os.pwrite(opened.descriptor, data, offset)
            )
            data, offset = data[count:], offset + count
        return wire.done(number)

    def _fstat(self, number: int, fields: Fields) -> bytes:
        return wire.attributes_reply(number, os.fstat(self._file(fields).descriptor))

    def _fsetstat(self, number: int, fields: Fields) -> bytes:
        opened = self._file(fields)
        Wanted.read(fields).apply(opened.descriptor)
        return wire.done(number)

    # ---- folders

    def _opendir(self, number: int, fields: Fields) -> bytes:
        path = fields.path()
        return self._remember(number, Listing(path, [b".", b"..", *os.listdir(path)]))

    def _readdir(self, number: int, fields: Fields) -> bytes:
        listing = self._handles.get(fields.string())
        if not isinstance(listing, Listing):
            raise Malformed("no such folder handle")
        entries: list[bytes] = []
        while listing.names and len(entries) < NAMES_AT_ONCE:
            name = listing.names.pop()
            try:
                found = os.lstat(os.path.join(listing.path, name))
            except FileNotFoundError:
                continue  # it went away since the folder was listed
            entries.append(wire.entry(name, found))
        if not entries:
            return wire.status(number, wire.EOF)
        return struct.pack(">BII", wire.NAME, number, len(entries)) + b"".join(entries)

    def _mkdir(self, number: int, fields: Fields) -> bytes:
        path, wanted = fields.path(), Wanted.read(fields)
        os.mkdir(path, 0o777 if wanted.mode is None else wanted.mode)
        return wire.done(number)

    def _rmdir(self, number: int, fields: Fields) -> bytes:
        os.rmdir(fields.path())
        return wire.done(number)

    # ---- names

    def _stat(self, number: int, fields: Fields) -> bytes:
        return wire.attributes_reply(number, os.stat(fields.path()))

    def _lstat(self, number: int, fields: Fields) -> bytes:
        return wire.attributes_reply(number, os.lstat(fields.path()))

    def _setstat(self, number: int, fields: Fields) -> bytes:
        path = fields.path()
        Wanted.read(fields).apply(path)
        return wire.done(number)

    def _realpath(self, number: int, fields: Fields) -> bytes:
        return wire.name_reply(number, os.path.realpath(fields.path()))

    def _readlink(self, number: int, fields: Fields) -> bytes:
        return wire.name_reply(number, os.readlink(fields.path()))

    def _symlink(self, number: int, fields: Fields) -> bytes:
        target, path = fields.string(), fields.path()
        if b"\0" in target:
            raise Malformed("a name holds a zero byte")
        os.symlink(target, path)
        return wire.done(number)

    def _remove(self, number: int, fields: Fields) -> bytes:
        os.unlink(fields.path())
        return wire.done(number)

    def _rename(self, number: int, fields: Fields) -> bytes:
        old, new = fields.path(), fields.path()
        if stat.S_ISREG(os.lstat(old).st_mode):
            os.link(old, new, follow_symlinks=False)  # fails if the new name is taken
            os.unlink(old)
        elif os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        else:
            # RACE: a folder or a link that gets the new name just now is replaced; OpenSSH's server
            # has the same window.
            os.rename(old, new)
        return wire.done(number)

    # ---- extensions

    def _extended(self, number: int, fields: Fields) -> bytes:
        name = fields.string()
        if name == b"posix-rename@openssh.com":
            old, new = fields.path(), fields.path()
            os.rename(old, new)
        elif name == b"hardlink@openssh.com":
            old, new = fields.path(), fields.path()
            os.link(old, new)
        elif name == b"fsync@openssh.com":
            os.fsync(self._file(fields).descriptor)
        elif name == b"statvfs@openssh.com":
            return wire.space(number, os.statvfs(fields.path()))
        elif name == b"limits@openssh.com":
            return struct.pack(">BIQQQQ", wire.EXTENDED_REPLY, number, MAX_PACKET, MAX_DATA, MAX_DATA, 0)
        else:
            return wire.status(number, wire.UNSUPPORTED, "no such extension")
        return wire.done(number)

    _REQUESTS = {  # noqa: RUF012 (a table, never changed; an annotation would make it a field)
        3: _open,
        4: _close,
        5: _read,
        6: _write,
        7: _lstat,
        8: _fstat,
        9: _setstat,
        10: _fsetstat,
        11: _opendir,
        12: _readdir,
        13: _remove,
        14: _mkdir,
        15: _rmdir,
        16: _realpath,
        17: _stat,
        18: _rename,
        19: _readlink,
        20: _symlink,
        wire.EXTENDED: _extended,
    }


# ---------------------------------------------------------------- the streams


def _packets(read: Callable[[int], bytes], flush: Callable[[], None]) -> Iterator[memoryview]:
    """The packets that come in, until the end; `flush` is called before each wait for more."""
    buffer = b""
    while True:
        at = 0
        while len(buffer) - at >= 4:
            size = int.from_bytes(buffer[at : at + 4], "big")
            if size > MAX_PACKET:
                return
            if len(buffer) - at - 4 < size:
                break
            yield memoryview(buffer)[at + 4 : at + 4 + size]
            at += 4 + size
        flush()
        more = read(MAX_PACKET)
        if not more:
            return
        buffer = buffer[at:] + more


def serve(reading: int, writing: int) -> None:
    """Answer the requests on one descriptor on the other one, until the first one ends."""
    server = Server()
    replies: list[bytes] = []
    waiting = 0

    def flush() -> None:
        nonlocal waiting
        data, waiting = memoryview(b"".join(replies)), 0
        replies.clear()
        while data:
            data = data[os.write(writing, data) :]

    for packet in _packets(lambda size: os.read(reading, size), flush):
        reply = server.answer(packet)
        replies.append(wire.string(reply))
        waiting += len(reply)
        if waiting > MAX_PACKET:
            flush()
    server.close()


if __name__ == "__main__":
    try:
        serve(0, 1)
    except BrokenPipeError:
        sys.exit(1)  # the client is gone
