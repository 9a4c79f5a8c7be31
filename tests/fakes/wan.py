"""A long line on one computer: a TCP proxy with delay, a rate and faults, in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType

PIECE = 32 * 1024
HELD = 4 * 1024 * 1024


class Wan:
    """Forward 127.0.0.1:`port` to 127.0.0.1:`to` for as long as the `with` block lasts.

    `delay` is the time one way, in seconds; `rate` is bytes per second and direction. A new connection
    waits for one round trip. `carried` is how many bytes have come in, on all connections, both ways. The
    methods may be called from any thread.
    """

    def __init__(self, to: int, *, delay: float = 0.0, rate: float | None = None) -> None:
        self.to = to
        self.delay = delay
        self.rate = rate
        self.port = 0
        self.accepted = 0
        self.carried = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name=f"wan to {to}")

    def __enter__(self) -> Wan:
        self._thread.start()
        assert self._ready.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._over.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy did not end"

    def cut(self) -> None:
        """Reset every connection that is open now."""
        self._call(self._reset)

    def blackhole(self, on: bool) -> None:
        """Let nothing pass, and keep every connection open; or let it pass again."""
        self._call(self._passable.clear if on else self._passable.set)

    def _call(self, action: Callable[[], object]) -> None:
        """Do it in the loop, and return when it is done."""
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._loop.call_soon_threadsafe(act)
        done.wait(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._passable = asyncio.Event()
        self._passable.set()
        self._ends: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        self._reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _reset(self) -> None:
        for end in self._ends:
            sock = end.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # by `_serve`; the callback that asyncio itself has added here cannot bear it

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = {writer}
        self._ends |= ends
        try:
            await asyncio.sleep(2 * self.delay)
            await self._passable.wait()
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.to)
            ends.add(there_writer)
            self._ends |= ends
            for end in ends:
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._direction(reader, there_writer))
                group.create_task(self._direction(there_reader, writer))
        except* OSError:
            pass  # one end is gone, and so is the other in a moment
        finally:
            self._ends -= ends
            for end in ends:
                end.transport.abort()

    async def _direction(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each piece leaves `delay` after the line had room for it; what is on the line is bounded."""
        line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD // PIECE)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._leave(line, writer))
            free = self._loop.time()
            while True:
                data = await reader.read(PIECE)
                self.carried += len(data)
                free = max(free, self._loop.time()) + (len(data) / self.rate if self.rate else 0.0)
                await line.put((free + self.delay, data))
                if not data:
                    return

    async def _leave(self, line: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await line.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            await self._passable.wait()
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
