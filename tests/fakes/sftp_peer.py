"""An SFTP server in memory on the other end of a stream, honest or not, at any distance.

The stream's time is virtual: what was sent is answered one `round_trip` later, and `recv` moves the
clock instead of waiting. So a test can count round trips without a single real second.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from devsync.ports import Unavailable
from devsync.ssh import sftp_wire as wire

OK, EOF, NO_SUCH_FILE, DENIED, FAILURE, UNSUPPORTED = 0, 1, 2, 3, 4, 8


@dataclass(frozen=True)
class Request:
    """A request as the server sees it, behind its kind and number."""

    kind: int
    number: int
    body: bytes

    @property
    def fields(self) -> wire.Reply:
        """The body, to be read field by field."""
        return wire.Reply(bytes([self.kind]) + wire.number(self.number) + self.body)


Fault = Callable[[Request], "bytes | None"]
"""What the peer says instead of the truth; None for the truth."""


def reply(kind: int, number: int, body: bytes) -> bytes:
    """A whole packet."""
    return struct.pack(">IBI", len(body) + 5, kind, number) + body


def status(number: int, code: int, text: bytes = b"") -> bytes:
    """A status packet."""
    return reply(wire.STATUS, number, wire.number(code) + wire.string(text) + wire.string(b""))


class SftpPeer:
    """A `ports.ByteStream` whose other end is an SFTP server that holds `files` and `folders`.

    fault: may replace any reply. disorder: the replies to what came in one piece go out backwards.
    """

    def __init__(
        self,
        *,
        extensions: Iterable[tuple[bytes, bytes]] = (),
        fault: Fault | None = None,
        round_trip: float = 0.0,
        disorder: bool = False,
    ) -> None:
        self.files: dict[bytes, bytearray] = {}
        self.folders: set[bytes] = {b"/"}
        self.links: dict[bytes, bytes] = {}
        self.modes: dict[bytes, int] = {}
        self.now = 0.0
        self.closed = False
        self.requests: list[Request] = []
        self.sends: list[int] = []
        self.opened = self.most_opened = 0
        self._extensions = list(extensions)
        self.fault = fault
        self._round_trip = round_trip
        self._disorder = disorder
        self._framer = wire.Framer()
        self._handles: dict[bytes, tuple[bytes, list[bytes] | None]] = {}
        self._handle = 0
        self._replies: list[tuple[float, bytes]] = []
        self._ended = False

    # ------------------------------------------------------------ the stream

    def send(self, data: bytes | memoryview) -> None:
        if self.closed:
            raise Unavailable("the stream is closed")
        self.sends.append(len(data))
        answers = [answer for packet in self._framer.feed(bytes(data)) for answer in self._serve(packet)]
        if self._disorder:
            answers.reverse()
        self._replies += [(self.now + self._round_trip, answer) for answer in answers]

    def recv(self, size: int) -> bytes:
        if self.closed:
            raise Unavailable("the stream is closed")
        if not self._replies:
            assert self._ended, "the client waits for a reply to nothing"
            return b""
        self.now = max(self.now, self._replies[0][0])
        data = b""
        while self._replies and self._replies[0][0] <= self.now and len(data) < size:
            due, first = self._replies.pop(0)
            room = size - len(data)
            data += first[:room]
            if first[room:]:
                self._replies.insert(0, (due, first[room:]))
        return data

    def pending(self) -> bool:
        return bool(self._replies) and self._replies[0][0] <= self.now

    def unsent(self) -> int:
        """How many bytes of replies wait to be taken."""
        return sum(len(answer) for _, answer in self._replies)

    def end(self) -> None:
        """The server goes away after what it has said."""
        self._ended = True

    def shutdown_write(self) -> None:
        self.end()

    def close(self) -> None:
        self.closed = True

    # ------------------------------------------------------------ the server

    def _serve(self, packet: bytes) -> list[bytes]:
        if packet[0] == wire.INIT:
            pairs = b"".join(wire.string(name) + wire.string(value) for name, value in self._extensions)
            hello = Request(wire.INIT, wire.VERSION, b"")
            return [self._lie(hello) or reply(wire.SERVER_VERSION, wire.VERSION, pairs)]
        request = Request(packet[0], int.from_bytes(packet[1:5], "big"), packet[5:])
        self.requests.append(request)
        lie = self._lie(request)
        if lie is not None:
            return [lie] if lie else []
        return [self._answer(request)]

    def _lie(self, request: Request) -> bytes | None:
        return self.fault(request) if self.fault else None

    def _answer(self, request: Request) -> bytes:
        serve = {
            wire.OPEN: self._open,
            wire.CLOSE: self._close,
            wire.READ: self._read,
            wire.WRITE: self._write,
            wire.LSTAT: self._lstat,
            wire.SETSTAT: self._setstat,
            wire.OPENDIR: self._opendir,
            wire.READDIR: self._readdir,
            wire.REMOVE: self._remove,
            wire.MKDIR: self._mkdir,
            wire.RMDIR: self._rmdir,
            wire.REALPATH: lambda n, f: _names(n, [(b"/" + f.string().strip(b"./"), b"")]),
            wire.RENAME: self._rename,
            wire.READLINK: self._readlink,
            wire.SYMLINK: self._symlink,
            wire.EXTENDED: self._extended,
        }[request.kind]
        return serve(request.number, request.fields)

    def _exists(self, path: bytes) -> bool:
        return path in self.files or path in self.folders or path in self.links

    def _housed(self, path: bytes) -> bool:
        return (path.rpartition(b"/")[0] or b"/") in self.folders

    def _new_handle(self, path: bytes, names: list[bytes] | None) -> bytes:
        self._handle += 1
        handle = b"h%d" % self._handle
        self._handles[handle] = (path, names)
        self.opened += 1
        self.most_opened = max(self.opened, self.most_opened)
        return handle

    def _open(self, number: int, fields: wire.Reply) -> bytes:
        path, flags = fields.string(), fields.number()
        if not self._housed(path) or (path not in self.files and not flags & 0x08):
            return status(number, NO_SUCH_FILE, b"No such file")
        if flags & 0x10:
            self.files[path] = bytearray()
            self.modes[path] = fields.attributes().mode
        return reply(wire.HANDLE, number, wire.string(self._new_handle(path, None)))

    def _close(self, number: int, fields: wire.Reply) -> bytes:
        del self._handles[fields.string()]
        self.opened -= 1
        return status(number, OK)

    def _read(self, number: int, fields: wire.Reply) -> bytes:
        path, at, length = self._handles[fields.string()][0], fields.big(), fields.number()
        data = bytes(self.files[path][at : at + length])
        return reply(wire.DATA, number, wire.string(data)) if data else status(number, EOF)

    def _write(self, number: int, fields: wire.Reply) -> bytes:
        path, at, data = self._handles[fields.string()][0], fields.big(), fields.string()
        content = self.files[path]
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data
        return status(number, OK)

    def _attributes(self, path: bytes) -> bytes:
        kind = 0o040000 if path in self.folders else 0o120000 if path in self.links else 0o100000
        size = len(self.files.get(path, b""))
        mode = kind | self.modes.get(path, 0o755 if path in self.folders else 0o644)
        return struct.pack(">IQIII", 0x1 | 0x4 | 0x8, size, mode, 1, 1)

    def _lstat(self, number: int, fields: wire.Reply) -> bytes:
        path = fields.string()
        if not self._exists(path):
            return status(number, NO_SUCH_FILE)
        return reply(wire.ATTRS, number, self._attributes(path))

    def _setstat(self, number: int, fields: wire.Reply) -> bytes:
        path = fields.string()
        if not self._exists(path):
            return status(number, NO_SUCH_FILE)
        self.modes[path] = fields.attributes().mode & 0o7777
        return status(number, OK)

    def _opendir(self, number: int, fields: wire.Reply) -> bytes:
        path = fields.string()
        if path not in self.folders:
            return status(number, NO_SUCH_FILE)
        within = path.rstrip(b"/") + b"/"
        everything = [*self.files, *self.folders, *self.links]
        names = [
            p for p in everything if p.startswith(within) and p != within and b"/" not in p[len(within) :]
        ]
        return reply(wire.HANDLE, number, wire.string(self._new_handle(path, [b".", b"..", *names])))

    def _readdir(self, number: int, fields: wire.Reply) -> bytes:
        names = self._handles[fields.string()][1]
        if not names:
            return status(number, EOF)
        batch, names[:100] = names[:100], []
        return _names(number, [(name.rpartition(b"/")[2], self._attributes(name)) for name in batch])

    def _remove(self, number: int, fields: wire.Reply) -> bytes:
        path = fields.string()
        gone = self.files.pop(path, None) is not None or self.links.pop(path, None) is not None
        return status(number, OK if gone else NO_SUCH_FILE)

    def _mkdir(self, number: int, fields: wire.Reply) -> bytes:
        path = fields.string()
        if self._exists(path):
            return status(number, FAILURE, b"Failure")
        if not self._housed(path):
            return status(number, NO_SUCH_FILE)
        self.folders.add(path)
        return status(number, OK)

    def _rmdir(self, number: int, fields: wire.Reply) -> bytes:
        path = fields.string()
        if any(each.startswith(path + b"/") for each in (*self.files, *self.folders, *self.links)):
            return status(number, FAILURE, b"Failure")
        if path not in self.folders:
            return status(number, NO_SUCH_FILE)
        self.folders.remove(path)
        return status(number, OK)

    def _rename(self, number: int, fields: wire.Reply) -> bytes:
        old, new = fields.string(), fields.string()
        if self._exists(new):
            return status(number, FAILURE, b"Failure")
        return self._move(number, old, new)

    def _move(self, number: int, old: bytes, new: bytes) -> bytes:
        if not self._exists(old) or not self._housed(new):
            return status(number, NO_SUCH_FILE)
        if old in self.folders:
            self.folders = {_moved(path, old, new) for path in self.folders}
            self.files = {_moved(path, old, new): content for path, content in self.files.items()}
            self.links = {_moved(path, old, new): target for path, target in self.links.items()}
            return status(number, OK)
        self.files.pop(new, None), self.links.pop(new, None)
        if old in self.files:
            self.files[new] = self.files.pop(old)
        else:
            self.links[new] = self.links.pop(old)
        self.modes[new] = self.modes.pop(old, 0o644)
        return status(number, OK)

    def _readlink(self, number: int, fields: wire.Reply) -> bytes:
        target = self.links.get(fields.string())
        return status(number, NO_SUCH_FILE) if target is None else _names(number, [(target, b"")])

    def _symlink(self, number: int, fields: wire.Reply) -> bytes:
        target, path = fields.string(), fields.string()
        if self._exists(path):
            return status(number, FAILURE, b"Failure")
        self.links[path] = target
        return status(number, OK)

    def _extended(self, number: int, fields: wire.Reply) -> bytes:
        name = fields.string()
        if name not in [offered for offered, _ in self._extensions]:
            return status(number, UNSUPPORTED)
        if name == b"posix-rename@openssh.com":
            return self._move(number, fields.string(), fields.string())
        if name == b"hardlink@openssh.com":
            self.files[fields.string()] = self.files[fields.string()]
            return status(number, OK)
        if name == b"limits@openssh.com":
            numbers = struct.pack(">QQQQ", 256 * 1024, 255 * 1024, 255 * 1024, 1000)
            return reply(wire.EXTENDED_REPLY, number, numbers)
        if name == b"statvfs@openssh.com":
            return reply(
                wire.EXTENDED_REPLY, number, struct.pack(">11Q", 4096, 4096, 9, 9, 9, 9, 9, 9, 1, 0, 255)
            )
        return status(number, OK)


def _moved(path: bytes, old: bytes, new: bytes) -> bytes:
    return new + path[len(old) :] if (path + b"/").startswith(old + b"/") else path


def _names(number: int, entries: list[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(wire.string(name) + wire.string(b"") + (more or wire.number(0)) for name, more in entries)
    return reply(wire.NAME, number, wire.number(len(entries)) + body)
