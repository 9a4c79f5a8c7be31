"""A limit to what passes in a second: a bucket of tokens, and a stream that takes its bytes out of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from devsync.ports import ByteStream

BURST = 0.25
"""Seconds' worth of bytes that pass at once after a rest: a small file does not wait."""

PIECE = 32 * 1024
"""Bytes that are let through together."""


class Bucket:
    """Fills with `rate` bytes a second. Belongs to one thread; `clock` tells seconds."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate, self._clock = rate, clock
        self._level, self._seen = rate * BURST, clock()

    def take(self, size: int) -> float:
        """Take `size` bytes, on credit if need be: the seconds until they may pass."""
        now = self._clock()
        filled = self._level + (now - self._seen) * self._rate
        self._level, self._seen = min(filled, self._rate * BURST) - size, now
        return max(0.0, -self._level / self._rate)


class Limited:
    """Implements ports.ByteStream over another one; both directions take from the same bucket.

    Used by one thread at a time; `close` may come from any, and ends a wait.
    """

    def __init__(self, stream: ByteStream, bucket: Bucket) -> None:
        self._stream, self._bucket = stream, bucket
        self._closed = threading.Event()

    def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), PIECE):
            piece = view[start : start + PIECE]
            self._wait_for(len(piece))
            self._stream.send(piece)

    def recv(self, size: int) -> bytes:
        # What has come is paid for afterwards. Until then no more is taken, and in the end none is sent.
        data = self._stream.recv(min(size, PIECE))
        self._wait_for(len(data))
        return data

    def pending(self) -> bool:
        return self._stream.pending()

    def shutdown_write(self) -> None:
        self._stream.shutdown_write()

    def close(self) -> None:
        self._closed.set()
        self._stream.close()

    def _wait_for(self, size: int) -> None:
        seconds = self._bucket.take(size)
        if seconds:
            self._closed.wait(seconds)
