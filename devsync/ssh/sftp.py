"""A pipelined SFTP client over any stream of bytes (`ports.Sftp`): files by the thousand, few round trips.

Speaks SFTP version 3 and OpenSSH's extensions where the server offers them. Owns its stream and no
thread; one thread at a time may use it, only `interrupt` may come from another. Small operations reach
the server in the order of the calls; `write_file`, `read_file` and `list_folder` take several steps, so
what relies on their end waits for it. The client dies with its stream, and with the first packet
that makes no sense; nothing else that a server answers concerns more than the file in question.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from devsync.ports import Attributes, ByteStream, DevsyncError, Pending
from devsync.ssh import sftp_wire as wire
from devsync.ssh.sftp_content import Content, Download, Opened
from devsync.ssh.sftp_lane import BATCH, STATUS_SIZE, Answer, Gate, Lane
from devsync.ssh.sftp_wire import Space
from devsync.ssh.sftp_writing import FileWriting

MAX_HANDLES = 500
MAX_ENTRIES = 1_000_000
"""The most that one folder is believed to hold; their names 64 bytes long on average."""
LISTING_SIZE = 16 * 1024
LISTING_AHEAD = 16

_FSYNC = "fsync@openssh.com"
_HARDLINK = "hardlink@openssh.com"
_LIMITS = "limits@openssh.com"
_RENAME = "posix-rename@openssh.com"
_STATVFS = "statvfs@openssh.com"


class SftpClient:
    """See `ports.Sftp`. The constructor greets the server and waits for its answer.

    max_outstanding_bytes: how much may be under way, and as much again may be read ahead.
    Raises Unavailable if nobody answers there, or nobody who speaks SFTP.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        max_outstanding_bytes: int = 4 * 1024 * 1024,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._lane = Lane(stream, max_outstanding_bytes)
        self._max_entries = max_entries
        self._limits = wire.Limits()
        self.extensions: Mapping[str, bytes] = self._lane.begin(self._greet()).result()
        self._handles = Gate(self._lane, self._limits.handles)
        self._ahead = Gate(self._lane, max_outstanding_bytes)
        if _LIMITS in self.extensions:
            self._lane.begin(self._learn_limits(self._limits.handles))  # nobody waits for it

    async def _greet(self) -> Mapping[str, bytes]:
        hello = await self._lane.greet()
        if hello.request < wire.VERSION:
            raise DevsyncError(
                f"the machine's SFTP server speaks version {hello.request} of the protocol, not 3",
                hint="use OpenSSH's sftp-server there",
            )
        return hello.extensions()

    async def _learn_limits(self, handles: int) -> None:
        reply = await self._lane.ask(wire.EXTENDED, wire.string(_LIMITS.encode()))
        limits = reply.expect(wire.EXTENDED_REPLY, b"").limits()
        self._limits = limits
        self._handles.leave(max(1, min(limits.handles // 2, MAX_HANDLES)) - handles)

    # ------------------------------------------------------------ contents

    def write_file(
        self, path: bytes, chunks: Iterable[bytes], mode: int, durable: bool = False
    ) -> Pending[int]:
        """See `ports.Sftp`; `durable` has it on the server's disk before the result, if the server can.

        A file that fails for want of space fails with ENOSPC, where the server can tell.
        """
        return self._lane.begin(self._write(path, chunks, mode, durable))

    async def _write(self, path: bytes, chunks: Iterable[bytes], mode: int, durable: bool) -> int:
        await self._handles.enter()
        try:
            handle = await self._open_for_writing(path, mode)
            try:
                return await self._fill(handle, path, chunks, durable and _FSYNC in self.extensions)
            except Exception as failure:
                full = isinstance(failure, OSError) and failure.errno == errno.EIO and await self._full(path)
                await self._lane.ask(wire.REMOVE, wire.string(path))
                if full:
                    text = "no space left on the machine's disk"
                    raise OSError(errno.ENOSPC, text, os.fsdecode(path)) from failure
                raise
        finally:
            self._handles.leave()

    async def _fill(self, handle: bytes, path: bytes, chunks: Iterable[bytes], durable: bool) -> int:
        """Write and close. Every status is awaited: any of them may be the one that lost something."""
        acknowledgements: deque[Answer] = deque()
        try:
            size = await self._pour(handle, path, chunks, acknowledgements)
        except Exception:
            await self._lane.send(wire.CLOSE, handle)
            raise
        if durable:
            fsync = wire.string(_FSYNC.encode())
            acknowledgements.append(await self._lane.send(wire.EXTENDED, fsync, handle))
        acknowledgements.append(await self._lane.send(wire.CLOSE, handle))
        for answer in acknowledgements:
            (await answer.reply()).done(path)
        return size

    async def _pour(
        self, handle: bytes, path: bytes, chunks: Iterable[bytes], acknowledgements: deque[Answer]
    ) -> int:
        size, source = 0, iter(chunks)
        while True:
            # Room first: a source that is not begun holds no content in memory, and no file open.
            await self._lane.room(BATCH)
            chunk = next(source, None)
            if chunk is None:
                return size
            for piece in _pieces(chunk, min(self._limits.write, BATCH)):
                place = wire.big(size) + wire.number(len(piece))
                write = await self._lane.send(wire.WRITE, handle, place, piece, bulk=True)
                acknowledgements.append(write)
                size += len(piece)
            while acknowledgements and (early := acknowledgements[0].arrived):
                acknowledgements.popleft()
                early.done(path)

    def begin_file(self, path: bytes, mode: int) -> FileWriting:
        """See `ports.Sftp`."""
        opening = self._lane.begin(self._open_for_writing(path, mode))
        return FileWriting(self._lane, path, opening, lambda: self._limits.write)

    async def _open_for_writing(self, path: bytes, mode: int) -> bytes:
        flags = wire.number(wire.FOR_WRITING)
        reply = await self._lane.ask(wire.OPEN, wire.string(path), flags, wire.mode_only(mode))
        return wire.string(reply.expect(wire.HANDLE, path).string())

    def hurry(self) -> None:
        """See `ports.Sftp`."""
        self._lane.hurry()

    async def _full(self, path: bytes) -> bool:
        if _STATVFS not in self.extensions:
            return False
        try:
            space = await self._statvfs(os.path.dirname(path) or b".")
        except OSError:
            return False
        return space.free < BATCH or space.free_files == 0

    def read_file(self, path: bytes, size: int, start: int = 0) -> Iterable[bytes]:
        """See `ports.Sftp`. The first requests are made now, within what may be read ahead in all.

        So many files asked for first and then iterated in the same order cost no round trip each. An
        iterator that is dropped frees what was read ahead for it.
        """
        download = Download(self._ahead)
        return Content(self._lane, download, self._lane.begin(self._fetch(path, size, start, download)))

    async def _fetch(self, path: bytes, size: int, start: int, download: Download) -> None:
        async with Opened(
            self._lane, self._handles, wire.OPEN, path, wire.number(wire.FOR_READING), wire.number(0)
        ) as handle:
            await self._request_blocks(path, handle, size, start, download)

    async def _request_blocks(
        self, path: bytes, handle: bytes, size: int, at: int, download: Download
    ) -> None:
        while not download.dropped and not download.wound_up:
            # At the expected end one byte is asked for, to see that it is the end.
            most = 1 if at == size else min(self._limits.read, BATCH)
            length = min(size - at, most) if at < size else most
            await self._ahead.enter(length)
            block = self._lane.begin(self._read(path, handle, at, length))
            download.blocks.append((block, length))
            if at >= size and len(await block.joined()) < length:
                break
            at += length
        if download.wound_up:
            for block, _ in [*download.blocks]:  # the file stays open until they are here
                await block.joined()
        if download.dropped:
            download.drop()  # what was asked for while it happened

    async def _read(self, path: bytes, handle: bytes, at: int, length: int) -> bytes:
        """A block; shorter than `length` only if the file ends in it."""
        found = b""
        while len(found) < length:
            rest = length - len(found)
            place = wire.big(at + len(found)) + wire.number(rest)
            reply = await self._lane.ask(wire.READ, handle, place, due=STATUS_SIZE + rest)
            try:
                data = reply.expect(wire.DATA, path).string()
            except wire.EndOfFile:
                break
            if not 0 < len(data) <= rest:
                raise wire.Malformed(f"{len(data)} bytes where {rest} were asked for")
            found = found + data if found else data
        return found

    # ------------------------------------------------------------ folders

    def list_folder(self, path: bytes) -> Pending[Mapping[bytes, Attributes]]:
        """See `ports.Sftp`. EOVERFLOW if there is more than `max_entries`."""
        return self._lane.begin(self._list(path))

    async def _list(self, path: bytes) -> Mapping[bytes, Attributes]:
        async with Opened(self._lane, self._handles, wire.OPENDIR, path) as handle:
            return await self._entries(path, handle)

    async def _entries(self, path: bytes, handle: bytes) -> Mapping[bytes, Attributes]:
        found: dict[bytes, Attributes] = {}
        asked: deque[Answer] = deque()
        ahead, length, ended = 2, 0, False
        while not ended or asked:
            while not ended and len(asked) < ahead:
                asked.append(await self._lane.send(wire.READDIR, handle, due=LISTING_SIZE))
            try:
                entries = (await asked.popleft().reply()).entries(path)
            except wire.EndOfFile:
                ended = True
                continue
            ahead = min(2 * ahead, LISTING_AHEAD)
            for name, attributes in entries:
                if not name or len(name) > wire.NAME_LIMIT or b"/" in name or b"\0" in name:
                    raise OSError(errno.EBADMSG, f"no name for a file: {name[:80]!r}", os.fsdecode(path))
                found[name] = attributes
                length += len(name)
            if len(found) > self._max_entries or length > 64 * self._max_entries:
                raise OSError(errno.EOVERFLOW, "more entries than are believed", os.fsdecode(path))
        found.pop(b".", None)
        found.pop(b"..", None)
        return found

    # ------------------------------------------------------------ one request each

    def lstat(self, path: bytes) -> Pending[Attributes]:
        return self._lane.begin(self._lstat(path))

    async def _lstat(self, path: bytes) -> Attributes:
        reply = await self._lane.ask(wire.LSTAT, wire.string(path))
        return reply.expect(wire.ATTRS, path).attributes()

    def readlink(self, path: bytes) -> Pending[bytes]:
        return self._lane.begin(self._name(wire.READLINK, path))

    def realpath(self, path: bytes) -> Pending[bytes]:
        return self._lane.begin(self._name(wire.REALPATH, path))

    async def _name(self, kind: int, path: bytes) -> bytes:
        return (await self._lane.ask(kind, wire.string(path))).entries(path)[0][0]

    def mkdir(self, path: bytes, mode: int) -> Pending[None]:
        return self._do(path, wire.MKDIR, wire.string(path), wire.mode_only(mode))

    def rmdir(self, path: bytes) -> Pending[None]:
        return self._do(path, wire.RMDIR, wire.string(path))

    def remove(self, path: bytes) -> Pending[None]:
        return self._do(path, wire.REMOVE, wire.string(path))

    def rename(self, old: bytes, new: bytes) -> Pending[None]:
        return self._do(old, wire.RENAME, wire.string(old), wire.string(new))

    def replace(self, old: bytes, new: bytes) -> Pending[None]:
        return self._extended(_RENAME, old, old, new)

    def hardlink(self, old: bytes, new: bytes) -> Pending[None]:
        """Give a file a second name; OSError if `new` is taken (hardlink@openssh.com)."""
        return self._extended(_HARDLINK, old, old, new)

    def symlink(self, target: bytes, path: bytes) -> Pending[None]:
        # Target first: the order of every server in use, though the draft has the other one.
        return self._do(path, wire.SYMLINK, wire.string(target), wire.string(path))

    def set_mode(self, path: bytes, mode: int) -> Pending[None]:
        """Set the permissions. The server follows a symbolic link, so look first."""
        return self._do(path, wire.SETSTAT, wire.string(path), wire.mode_only(mode))

    def statvfs(self, path: bytes) -> Pending[Space]:
        """What is left where `path` is (statvfs@openssh.com)."""
        return self._lane.begin(self._statvfs(path))

    async def _statvfs(self, path: bytes) -> Space:
        self._need(_STATVFS, path)
        reply = await self._lane.ask(wire.EXTENDED, wire.string(_STATVFS.encode()), wire.string(path))
        return reply.expect(wire.EXTENDED_REPLY, path).space()

    def _extended(self, name: str, path: bytes, *paths: bytes) -> Pending[None]:
        return self._do(path, wire.EXTENDED, wire.string(name.encode()), *map(wire.string, paths), need=name)

    def _do(self, path: bytes, kind: int, *fields: bytes, need: str = "") -> Pending[None]:
        return self._lane.begin(self._ask_for(path, kind, fields, need))

    async def _ask_for(self, path: bytes, kind: int, fields: tuple[bytes, ...], need: str) -> None:
        self._need(need, path)
        (await self._lane.ask(kind, *fields)).done(path)

    def _need(self, extension: str, path: bytes) -> None:
        if extension and extension not in self.extensions:
            raise OSError(errno.EOPNOTSUPP, f"the server has no {extension}", os.fsdecode(path))

    # ------------------------------------------------------------ the end

    def interrupt(self) -> None:
        """From any thread: every wait ends with Unavailable, and so does every later call."""
        self._lane.interrupt()

    def close(self) -> None:
        """Close the stream; what is still under way fails with Unavailable."""
        self._lane.close()


def _pieces(chunk: bytes, most: int) -> Iterator[bytes | memoryview]:
    if len(chunk) <= most:
        if chunk:
            yield chunk
        return
    view = memoryview(chunk)
    for at in range(0, len(chunk), most):
        yield view[at : at + most]
