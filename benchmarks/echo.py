"""What a tunnel leads to: a server that takes bytes, gives bytes, or echoes; and its clients.

As a program: `python -m benchmarks.echo` prints its port, and ends with its input. The first byte of a
connection says what is wanted: `u` and everything until the end is counted and the count returned, `d` and a
number is answered with so many bytes, `e` and all is echoed.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PIECE = 256 * 1024
NUMBER = struct.Struct(">Q")
ECHO = b"x" * 64


def up(port: int, size: int) -> float:
    """Bytes per second to the server."""
    piece = memoryview(bytes(PIECE))
    with _connected(port, b"u") as sock:
        began = time.perf_counter()
        left = size
        while left:
            sent = min(left, PIECE)
            sock.sendall(piece[:sent])
            left -= sent
        sock.shutdown(socket.SHUT_WR)
        (counted,) = NUMBER.unpack(_exactly(sock, NUMBER.size))
        took = time.perf_counter() - began
    assert counted == size, f"{counted} bytes of {size} arrived"
    return size / took


def down(port: int, size: int) -> float:
    """Bytes per second from the server."""
    room = bytearray(PIECE)
    with _connected(port, b"d") as sock:
        began = time.perf_counter()
        sock.sendall(NUMBER.pack(size))
        left = size
        while left:
            got = sock.recv_into(room)
            assert got, f"{left} bytes of {size} are missing"
            left -= got
        return size / (time.perf_counter() - began)


@contextmanager
def echoing(port: int) -> Iterator[Echo]:
    """A connection whose round trips can be timed."""
    with _connected(port, b"e") as sock:
        yield Echo(sock)


class Echo:
    """Round trips, one after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def once(self) -> float:
        """The milliseconds of one."""
        began = time.perf_counter()
        self._sock.sendall(ECHO)
        assert _exactly(self._sock, len(ECHO)) == ECHO
        return 1000 * (time.perf_counter() - began)


@contextmanager
def _connected(port: int, wish: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(wish)
        yield sock


def _exactly(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = sock.recv(size - len(found))
        assert piece, "the connection ended too early"
        found += piece
    return found


@contextmanager
def served() -> Iterator[int]:
    """The port of a server in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.echo"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()  # which ends it


def _serve(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = memoryview(bytearray(PIECE))
    with sock:
        wish = sock.recv(1)
        if wish == b"u":
            counted = 0
            while got := sock.recv_into(room):
                counted += got
            sock.sendall(NUMBER.pack(counted))
        elif wish == b"d":
            (left,) = NUMBER.unpack(_exactly(sock, NUMBER.size))
            while left:
                piece = room[: min(left, PIECE)]
                sock.sendall(piece)
                left -= len(piece)
        elif wish == b"e":
            while got := sock.recv_into(room):
                sock.sendall(room[:got])


def main() -> None:
    """Be the server."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=_serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
