"""What an SFTP client hands out and holds meanwhile: open handles, and contents that are read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from devsync.ssh import sftp_wire as wire
from devsync.ssh.sftp_lane import Gate, Lane, Operation


class Opened:
    """A handle for looking, as a field, in `async with`; one of those that the server bears."""

    def __init__(self, lane: Lane, handles: Gate, kind: int, path: bytes, *fields: bytes) -> None:
        self._lane = lane
        self._handles = handles
        self._request = (kind, path, fields)
        self._handle = b""

    async def __aenter__(self) -> bytes:
        kind, path, fields = self._request
        await self._handles.enter()
        try:
            reply = await self._lane.ask(kind, wire.string(path), *fields)
            self._handle = wire.string(reply.expect(wire.HANDLE, path).string())
        except Exception:
            self._handles.leave()
            raise
        return self._handle

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not GeneratorExit:  # the client was forgotten, and nobody would drive the request
            await self._lane.ask(wire.CLOSE, self._handle)
            self._handles.leave()


class Download:
    """What has been asked of a file, in its order; the first blocks are perhaps here already."""

    def __init__(self, ahead: Gate) -> None:
        self.ahead = ahead
        self.blocks: deque[tuple[Operation[bytes], int]] = deque()
        self.dropped = False
        self.wound_up = False

    def drop(self) -> None:
        """Nobody wants the rest."""
        self.dropped = True
        while self.blocks:
            self.ahead.leave(self.blocks.popleft()[1])


class Content:
    """An iterator over a file's content, in the hands of whoever wanted it."""

    def __init__(self, lane: Lane, download: Download, fetching: Operation[None]) -> None:
        self._lane = lane
        self._download = download
        self._fetching = fetching

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        blocks = self._download.blocks
        while not blocks and not self._fetching.done:
            self._lane.turn(self._fetching)
        if blocks:
            operation, length = blocks.popleft()
            try:
                found = operation.result()
            finally:
                self._download.ahead.leave(length)
            self._lane.nudge()
            if found:
                return found
        else:
            self._fetching.result()  # raises, if it failed
        self._download.drop()
        raise StopIteration

    def wind_up(self) -> None:
        """Ask for no more: it ends behind what is on its way."""
        self._download.wound_up = True

    def __del__(self) -> None:
        self._download.drop()
