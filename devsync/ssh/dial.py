"""The way to the SSH port: a TCP connection or the process of a ProxyCommand, and the wire made of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Protocol

from devsync.ports import Unavailable

DEAD_AFTER = 10.0
"""Seconds without an acknowledgement, or without room for a single byte, after which the path is dead."""

READ_AHEAD = 256 * 1024


class Socket(Protocol):
    """What a wire is made of: a socket, or a channel of another session that behaves like one."""

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


class Wire:
    """What the SSH library takes for its socket.

    It reads ahead, so that a packet costs no system call of its own; it remembers when bytes last came; it
    ends a write that makes no progress; and closing it wakes whoever waits in it. One thread reads, and
    writes are one at a time.
    """

    def __init__(self, under: Socket, ended: Callable[[], None] = lambda: None) -> None:
        """`ended` is called once, after the wire was closed."""
        self.heard = time.monotonic()
        self.stuck = False
        self._under = under
        self._ended = ended
        self._ahead = memoryview(b"")
        self._stalled: float | None = None
        self._closing = threading.Lock()
        self._closed = False  # the library looks at this name, as every socket has it

    def settimeout(self, seconds: float | None) -> None:
        self._under.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        if not self._ahead:
            self._ahead = memoryview(self._under.recv(READ_AHEAD))
            self.heard = time.monotonic()
        data, self._ahead = bytes(self._ahead[:size]), self._ahead[size:]
        return data

    def send(self, data: bytes) -> int:
        try:
            sent = self._under.send(data)
        except TimeoutError:
            now = time.monotonic()
            if self._stalled is None:
                self._stalled = now
            if now - self._stalled >= DEAD_AFTER:
                self.stuck = True
                self.close()
            raise
        self._stalled = None
        return sent

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        try:
            # RACE: closing alone would leave a thread that already waits in recv or send where it is.
            self._under.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster
        try:
            self._under.close()
        finally:
            self._ended()


def tcp(host: str, port: int, timeout: float) -> socket.socket:
    """A connection to host:port, the name resolved anew. Raises Unavailable, a sentence for each cause."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"the name {host} could not be resolved", hint="check the name, the network and the VPN"
        ) from error
    deadline = time.monotonic() + timeout
    problem: OSError | None = None
    for tried, (family, kind, protocol, _, address) in enumerate(found):
        # A first address that leads nowhere (broken IPv6, often) must leave time for the next one.
        left = (deadline - time.monotonic()) / (len(found) - tried)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(max(left, 0.1))
            sock.connect(address)
            _tune(sock)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise _unreachable(f"{host}:{port}", problem, timeout)


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    user_timeout = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux only
    if user_timeout is not None:
        sock.setsockopt(socket.IPPROTO_TCP, user_timeout, int(DEAD_AFTER * 1000))


def _unreachable(place: str, problem: OSError | None, timeout: float) -> Unavailable:
    if isinstance(problem, ConnectionRefusedError):
        return Unavailable(
            f"{place} refuses the connection: no SSH server listens there",
            hint="the machine may still be starting; else check ssh.port in devsync.toml",
        )
    if isinstance(problem, TimeoutError):
        return Unavailable(
            f"{place} did not answer within {timeout:g} s",
            hint="check that the machine runs and that its firewall lets you in",
        )
    reason = problem.strerror if problem and problem.strerror else str(problem)
    return Unavailable(f"{place} cannot be reached: {reason}", hint="check the network and the VPN")


def proxy(command: str) -> Wire:
    """A wire to the standard input and output of a ProxyCommand, which ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )
    return Wire(ours, lambda: _end(process))


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # it ended by itself (macOS says 'not permitted' of a group of zombies)
        try:
            process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            continue
        return
