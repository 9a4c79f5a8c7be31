"""A port of the machine on this computer: listens on 127.0.0.1 and carries every connection over the link.

The supervisor's thread accepts. Each connection has two more threads, one a direction, both made by `spawn`;
the one that brings bytes here (it opened the way) closes everything when both have come to their end. While
it waits, the link's own thread hands to the client what it has room for: an echo then costs one turn less.
"""

from __future__ import annotations

import errno
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Literal

from devsync.ports import ByteStream, Connection, DevsyncError, NeedsUser, Spawn, Unavailable

ALTERNATIVES = 20
"""So many ports above a busy one are tried."""

LINK_WITHIN = 10.0
"""Seconds for which a new connection waits for the link."""

PIECE = 128 * 1024
BACKLOG = 128
RESET = struct.pack("ii", 1, 0)  # as SO_LINGER: what closes the socket resets the connection

State = Literal["open", "waiting", "closed"]
Link = Callable[[float], Connection | None]
"""The connection to the machine, waiting for it for so many seconds; None if it is still away then."""


class Tunnel:
    """A ports.Service. `wanted` is the local port that was asked for, `port` the one in use (0: none now).

    `sent` and `received` are bytes since it was made, to the machine and from it. `problem` says why the last
    connection failed, for people; it is empty once one has succeeded.
    """

    def __init__(self, local: int, remote: int, link: Link, spawn: Spawn) -> None:
        self.name = f"tunnel {local}"
        self.wanted = local
        self.remote = remote
        self.port = 0
        self.sent = 0
        self.received = 0
        self.problem = ""
        self._link = link
        self._spawn = spawn
        self._live: set[_Passage] = set()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._waker: socket.socket | None = None

    @property
    def state(self) -> State:
        """open: the link is there; waiting: new connections wait for it; closed: nobody listens."""
        if not self.port:
            return "closed"
        return "waiting" if self._link(0.0) is None else "open"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._live)

    def run(self, stop: threading.Event) -> None:
        """Raises NeedsUser if no port is free."""
        self._stop = stop
        woken, self._waker = socket.socketpair()
        try:
            with _listen(self.wanted) as listener:
                self.port = listener.getsockname()[1]
                self._accept(listener, woken, stop)
        finally:
            self.port = 0
            self._end_all()
            woken.close()
            self._waker.close()

    def interrupt(self) -> None:
        if self._waker is None:
            return  # `run` has yet to begin, and will see that `stop` is set
        try:
            self._waker.send(b"!")
        except OSError:
            pass  # `run` has ended

    def _accept(self, listener: socket.socket, woken: socket.socket, stop: threading.Event) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while not stop.is_set():
                ready = {key.fileobj for key, _ in selector.select()}
                if listener not in ready or stop.is_set():
                    continue
                try:
                    client, _ = listener.accept()
                except OSError as error:  # it went away again, or there are too many open files
                    self.problem = f"a connection could not be taken: {error.strerror}"
                    stop.wait(0.1)
                    continue
                self._take(client)

    def _take(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        passage = _Passage(self, client)
        with self._changed:
            self._live.add(passage)
        try:
            self._spawn(f"{self.name} in", passage.run)
        except RuntimeError:  # no further thread
            self.problem = f"{self.connections} connections are too many"
            client.close()
            self.forget(passage)

    def _end_all(self) -> None:
        for passage in list(self._live):  # not under the lock, which whoever delivers asks for
            passage.abort()
        with self._changed:
            self._changed.wait_for(lambda: not self._live, timeout=3)

    # What a passage needs of its tunnel.

    def reach(self, client: socket.socket, take: Callable[[bytes], int]) -> ByteStream | None:
        """Open the way to the remote port, waiting for the link; None if it cannot be."""
        deadline = time.monotonic() + LINK_WITHIN
        while not self._stop.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                self.problem = "the machine is out of reach"
                return None
            connection = self._link(min(left, 0.5))
            if connection is None:
                if _has_left(client):
                    return None
                continue
            try:
                stream = connection.forward("localhost", self.remote, take)
            except ConnectionRefusedError:
                self.problem = f"nobody listens on port {self.remote} there"
                return None
            except Unavailable:
                self._stop.wait(0.05)  # the link is lost, and its provider has yet to notice
            except DevsyncError as error:
                self.problem = error.message
                return None
            else:
                self.problem = ""
                return stream
        return None

    def spawn(self, body: Callable[[], None]) -> threading.Thread:
        return self._spawn(f"{self.name} out", body)

    def count(self, sent: int = 0, received: int = 0) -> None:
        with self._changed:
            self.sent += sent
            self.received += received

    def forget(self, passage: _Passage) -> None:
        with self._changed:
            self._live.discard(passage)
            self._changed.notify_all()


class _Passage:
    """One connection. An orderly end of a direction is passed on as such; anything else resets the client."""

    def __init__(self, tunnel: Tunnel, client: socket.socket) -> None:
        self._tunnel = tunnel
        self._client = client
        self._stream: ByteStream | None = None
        self._broken = False
        self._delivering = False
        self._lock = threading.Lock()

    def run(self) -> None:
        """Open the way, then bring here what the machine sends; close everything in the end."""
        stream = self._tunnel.reach(self._client, self._take)
        with self._lock:
            self._stream = stream
        outward: threading.Thread | None = None
        try:
            if stream is None or self._broken:
                self.abort()
                return
            outward = self._tunnel.spawn(lambda: self._send(stream))
            self._deliver(stream)
        except RuntimeError:  # no further thread
            self.abort()
        finally:
            if outward is not None:
                outward.join()
            if stream is not None:
                stream.close()
            self._client.close()
            self._tunnel.forget(self)

    def abort(self) -> None:
        """From any thread: reset the client and close the stream; both directions end."""
        with self._lock:
            self._broken = True
            stream = self._stream
            # Whoever waits on the client must wake, but the client must not see an orderly end: a reply that
            # was cut would look complete. So our sending side is shut only if it is full, with no way out.
            how = socket.SHUT_RDWR if self._delivering else socket.SHUT_RD
            try:
                self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self._client.shutdown(how)
            except OSError:
                pass  # the client has left
        if stream is not None:
            stream.close()

    def _take(self, data: bytes) -> int:
        """In the link's own thread, while `_deliver` waits: pass on what the client has room for."""
        if self._broken:
            return 0
        try:
            size = self._client.send(data, socket.MSG_DONTWAIT)
        except OSError:  # no room, or the client has left, which `_deliver` then sees
            return 0
        self._tunnel.count(received=size)
        return size

    def _deliver(self, stream: ByteStream) -> None:
        try:
            while data := stream.recv(PIECE):
                self._delivering = True
                if self._broken:
                    return
                self._client.sendall(data)
                self._delivering = False
                self._tunnel.count(received=len(data))
            if not self._broken:
                self._client.shutdown(socket.SHUT_WR)
        except (OSError, Unavailable):
            self.abort()

    def _send(self, stream: ByteStream) -> None:
        room = memoryview(bytearray(PIECE))
        try:
            while size := self._client.recv_into(room):
                stream.send(room[:size])
                self._tunnel.count(sent=size)
            if not self._broken:
                stream.shutdown_write()
        except (OSError, Unavailable):
            self.abort()


def _listen(wanted: int) -> socket.socket:
    """Listen on `wanted`, or on the next free port above it. Raises NeedsUser if there is none."""
    last = min(wanted + ALTERNATIVES, 65535)
    for port in range(wanted, last + 1):
        try:
            _claim_for_ipv6(port)
            return _bind(socket.AF_INET, ("127.0.0.1", port))
        except PermissionError as error:
            raise NeedsUser(
                f"port {port} may not be used on this computer", hint="choose one above 1023 as tunnel.local"
            ) from error
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise NeedsUser(f"port {port} cannot be used on this computer: {error.strerror}") from error
    raise NeedsUser(
        f"the ports {wanted} to {last} are all in use on this computer",
        hint="close what uses them, or choose another one as tunnel.local in devsync.toml",
    )


def _claim_for_ipv6(port: int) -> None:
    """Raise OSError if somebody else is `localhost` for those who ask for its IPv6 address first."""
    try:
        probe = _bind(socket.AF_INET6, ("::1", port))
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise
        return  # no IPv6 here
    probe.close()


def _bind(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _has_left(client: socket.socket) -> bool:
    """Whether the client was reset, or has ended, without having said anything."""
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
