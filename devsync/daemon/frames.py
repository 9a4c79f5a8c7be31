"""What goes over the control socket: a kind, a length, a body. Both ends use this; imports are light."""

from __future__ import annotations

import json
import socket
import struct
import threading
from typing import Any

JSON, STDIN, STDOUT, STDERR, END_OF_STDIN = b"J", b"I", b"O", b"E", b"X"

_HEAD = struct.Struct(">cI")
LONGEST = 64 * 1024 * 1024
"""Bytes of a body; more is taken for garbage."""


class Broken(Exception):
    """The other end is gone, or speaks something else."""


class Frames:
    """Frames over a connected socket. One thread may receive; any thread may send."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, kind: bytes, body: bytes) -> None:
        """Send one frame, waiting for room. Raises Broken."""
        try:
            with self._lock:
                self._socket.sendall(_HEAD.pack(kind, len(body)) + body)
        except OSError as error:
            raise Broken(str(error)) from error

    def send_json(self, value: object) -> None:
        """Send a value as a JSON frame."""
        self.send(JSON, json.dumps(value).encode())

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next frame as (kind, body); None at the end. Raises Broken."""
        try:
            head = self._file.read(_HEAD.size)
            if not head:
                return None
            kind, length = _HEAD.unpack(head)
            if length > LONGEST:
                raise Broken("a frame that is too long")
            body = self._file.read(length)
        except (OSError, ValueError, struct.error) as error:
            raise Broken(str(error)) from error
        if len(body) < length:
            raise Broken("cut off within a frame")
        return kind, body

    def receive_json(self) -> dict[str, Any] | None:
        """The next frame, which must be a JSON object; None at the end."""
        frame = self.receive()
        if frame is None:
            return None
        if frame[0] != JSON:
            raise Broken("bytes where JSON was due")
        return self.parse(frame[1])

    @staticmethod
    def parse(body: bytes) -> dict[str, Any]:
        """The JSON object in a body. Raises Broken."""
        try:
            value = json.loads(body)
        except ValueError as error:
            raise Broken("no JSON") from error
        if not isinstance(value, dict):
            raise Broken("no JSON object")
        return value

    def close(self) -> None:
        """End both directions; unblocks a receive in another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster
        self._file.close()
        self._socket.close()
