"""Commands and byte streams on the machine: a channel of the session in the shape that `ports` asks for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, Protocol

from devsync.ports import DevsyncError, Unavailable

PACKET = 32 * 1024 - 64
"""Bytes in one SSH packet, as OpenSSH takes them. Larger pieces would be copied again for each packet."""

EVERYTHING = 16 * 1024 * 1024
"""More than is ever held for a channel: emptying its buffer is cheap, taking a part of it is not."""

NO_STATUS = -1


class Pipe(Protocol):
    """Where the SSH library's thread puts what arrives for a channel, and where its reader waits."""

    def feed(self, data: bytes, /) -> None: ...
    def read(self, size: int, timeout: float | None = None, /) -> bytes: ...
    def read_ready(self) -> bool: ...
    def close(self) -> None: ...


class Channel(Protocol):
    """The part of the SSH library's channel that is used here."""

    in_buffer: Any  # a Pipe, which may be another one; a class of the library's, say its stubs
    in_window_sofar: int
    in_window_threshold: int
    closed: bool
    eof_received: bool | int
    exit_status: int
    status_event: threading.Event

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def recv_stderr(self, size: int, /) -> bytes: ...
    def recv_ready(self) -> bool: ...
    def shutdown_write(self) -> None: ...
    def resize_pty(self, width: int, height: int) -> None: ...
    def close(self) -> None: ...


Take = Callable[[bytes], int]
"""Takes what it can of these bytes without waiting, and says how much; raises nothing."""

Lost = Callable[[], DevsyncError | None]
"""Why a channel is of no use: the link under it is gone, or it was refused. None while it stands."""


class _Reader:
    """One direction of a channel, read in large pieces and handed out in the size that is asked for."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self.held = memoryview(b"")

    def take(self, size: int) -> bytes:
        if not self.held:
            data = self._read(EVERYTHING)
            if len(data) <= size:
                return data
            self.held = memoryview(data)
        piece, self.held = bytes(self.held[:size]), self.held[size:]
        return piece


class Shortcut:
    """A pipe that offers what arrives to `take` first, so that a small answer waits for no other thread.

    Only while a reader waits and the pipe is empty: nothing that came before can still be on its way. It is
    the reader who acknowledges, so when it is time for that, what arrives is left to it.
    """

    def __init__(self, channel: Channel, take: Take) -> None:
        self._channel = channel
        self._pipe: Pipe = channel.in_buffer
        self._take = take
        self.awaited = False
        self._ended = False
        self._lock = threading.Lock()

    def feed(self, data: bytes) -> None:
        channel = self._channel
        with self._lock:
            if self.awaited and channel.in_window_sofar <= channel.in_window_threshold:
                taken = self._take(data)
                channel.in_window_sofar += taken  # the reader, who counts as well, is waiting
                data = data[taken:]
            if data:
                self.awaited = False
                self._pipe.feed(data)

    def read(self, size: int, timeout: float | None = None) -> bytes:
        with self._lock:
            self.awaited = not self._ended and not self._pipe.read_ready()
        return self._pipe.read(size, timeout)

    def end(self) -> None:
        """`take` is not called any more, and is not being called, when this returns."""
        with self._lock:
            self._ended = True
            self.awaited = False

    def read_ready(self) -> bool:
        return self._pipe.read_ready()

    def close(self) -> None:
        self._pipe.close()


class ChannelStream:
    """A ports.ByteStream over a channel."""

    def __init__(self, channel: Channel, lost: Lost, take: Take | None = None) -> None:
        self._channel = channel
        self._lost = lost
        self._closed = False
        self._out = _Reader(channel.recv)
        self._shortcut = None if take is None else Shortcut(channel, take)
        if self._shortcut is not None:
            channel.in_buffer = self._shortcut  # what has come already is read first: it is in the pipe below

    def send(self, data: bytes | memoryview) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            try:
                sent = self._channel.send(bytes(rest[:PACKET]))
            except OSError as error:
                raise self._gone() from error
            if not sent:
                raise self._gone()
            rest = rest[sent:]

    def recv(self, size: int) -> bytes:
        return self._receive(self._out, size)

    def pending(self) -> bool:
        channel = self._channel
        return bool(self._out.held) or channel.recv_ready() or bool(channel.eof_received) or channel.closed

    def shutdown_write(self) -> None:
        try:
            self._channel.shutdown_write()
        except OSError as error:
            raise self._gone() from error

    def close(self) -> None:
        self._closed = True
        if self._shortcut is not None:
            self._shortcut.end()
        try:
            self._channel.close()
        except OSError:
            pass  # the link is gone, and the channel with it

    def _receive(self, reader: _Reader, size: int) -> bytes:
        try:
            data = reader.take(size)
        except OSError as error:  # it had to tell the machine that there is room again
            raise self._gone() from error
        if data:
            return data
        # The library ends a read in the same way when the other end said so, when the stream was closed here
        # and when the link broke; only the first is an end that may be believed.
        if self._closed:
            raise self._gone()
        if not self._channel.eof_received and self._lost() is not None:
            raise self._gone()
        return b""

    def _gone(self) -> DevsyncError:
        lost = self._lost()
        if lost is not None:
            return lost
        return Unavailable(
            "the stream was closed here" if self._closed else "the other end has closed the stream"
        )


class ChannelProcess(ChannelStream):
    """A ports.Process over a channel. Take its output before `wait`: else it waits to get rid of it."""

    def __init__(self, channel: Channel, lost: Lost, refusal: type[Exception]) -> None:
        """`refusal` is what the library raises when something is asked of a channel that has ended."""
        super().__init__(channel, lost)
        self._refusal = refusal
        self._err = _Reader(channel.recv_stderr)

    def recv_stderr(self, size: int) -> bytes:
        return self._receive(self._err, size)

    def resize(self, columns: int, rows: int) -> None:
        try:
            self._channel.resize_pty(columns, rows)
        except (OSError, self._refusal) as error:
            raise self._gone() from error

    def wait(self) -> int:
        self._channel.status_event.wait()
        status = self._channel.exit_status
        if status != NO_STATUS:
            return status
        if self._closed or self._lost() is not None:
            raise self._gone()
        raise DevsyncError("the command ended, and the machine did not say how")


def signal_status(name: str) -> int:
    """The exit status of a process that signal `name` (as SSH writes it, without SIG) ended: 128 + n."""
    try:
        return 128 + signal.Signals[f"SIG{name}"]
    except KeyError:
        return 255  # a signal that this system does not have
