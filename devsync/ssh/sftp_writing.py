"""A file that an SFTP client writes piece by piece, as its owner comes by the pieces."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from devsync.ssh import sftp_wire as wire
from devsync.ssh.sftp_lane import BATCH, Lane, Operation

AHEAD = 4 * 1024 * 1024
"""Bytes that may be under way before `write` waits for the first of them."""


class FileWriting:
    """Implements ports.Writing. The first failure is kept for `close`; what follows it is not sent."""

    def __init__(
        self, lane: Lane, path: bytes, opening: Operation[bytes], largest: Callable[[], int]
    ) -> None:
        """`largest` tells how many bytes the server takes in one write, as far as is known by now."""
        self._lane, self._path, self._opening, self._largest = lane, path, opening, largest
        self._under_way: deque[tuple[Operation[None], int]] = deque()
        self._at = self._waiting = 0
        self._failure: Exception | None = None

    def write(self, data: bytes) -> int:
        """Bytes that are not acknowledged. Raises Unavailable; anything else is told by `close`."""
        handle = self._handle()
        size = min(self._largest(), BATCH)
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if self._failure is None:
                sending = self._lane.begin(self._send(handle, self._at, piece))
                self._under_way.append((sending, len(piece)))
                self._at += len(piece)
                self._waiting += len(piece)
        while self._under_way and (self._waiting > AHEAD or self._under_way[0][0].done):
            self._reap()
        return self._waiting

    def close(self) -> Operation[None]:
        """Close the file; the result is the first failure, if there was one."""
        return self._lane.begin(self._end(self._handle()))

    def _handle(self) -> bytes:
        """The handle; waits if the file was not begun early enough."""
        if self._failure is None:
            try:
                return self._opening.result()
            except OSError as failure:
                self._failure = failure
        return b""

    def _reap(self) -> None:
        operation, size = self._under_way.popleft()
        self._waiting -= size
        try:
            operation.result()
        except OSError as failure:
            self._failure = self._failure or failure

    async def _send(self, handle: bytes, at: int, piece: bytes) -> None:
        place = wire.big(at) + wire.number(len(piece))
        answer = await self._lane.send(wire.WRITE, handle, place, piece, bulk=True)
        (await answer.reply()).done(self._path)

    async def _end(self, handle: bytes) -> None:
        if not handle:
            raise self._failure or AssertionError("a file without a handle has a failure")
        # As bulk, so that it does not overtake the contents that still wait for room.
        closing = await self._lane.send(wire.CLOSE, handle, bulk=True)
        # Every status is awaited: any of them may be the one that lost something.
        while self._under_way:
            operation, _ = self._under_way.popleft()
            try:
                await operation.joined()
            except OSError as failure:
                self._failure = self._failure or failure
        (await closing.reply()).done(self._path)
        if self._failure is not None:
            raise self._failure
