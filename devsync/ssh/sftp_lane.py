"""One SFTP channel's requests and replies: many operations in flight, no thread, bounded on both sides.

An operation is a coroutine: it awaits room for a request (`Lane.send`) and the reply to it (`Answer`).
Replies move the coroutines on while the lane's one owner waits for any of them, so a thousand files are
a thousand little straight-line programs and cost the round trips of one.

Why it cannot lock up: `send` may block while the server, blocked on its own replies, reads nothing. So
at any moment either all that was asked for and not yet received fits into the smallest pipe, and the
server always gets rid of its replies; or all that was sent and not yet answered fits, and `send` returns.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from devsync.ports import ByteStream, Unavailable
from devsync.ssh import sftp_wire as wire

T = TypeVar("T")

PIPE = 64 * 1024
"""Bytes that every stream takes in without being read."""
BATCH = 128 * 1024
"""The most that is handed to the stream at once: paramiko copies what is left of it for every packet."""
STATUS_SIZE = 64
"""About how long a reply is that carries no content."""
_GREETING = -1
MAX_OPERATIONS = 1024
"""How many operations may be begun before the next call waits for some to end."""


class _Suspended:
    """What a coroutine waits for; `waiter` is the operation that goes on afterwards."""

    waiter: Operation[Any] | None = None

    def __await__(self) -> Generator[_Suspended, None, None]:
        yield self


class Answer(_Suspended):
    """A reply that is on its way; `await reply()`."""

    def __init__(self, sent: int, due: int) -> None:
        self.sent = sent
        self.due = due
        self.arrived: wire.Reply | None = None

    async def reply(self) -> wire.Reply:
        """The reply, once it is here."""
        if self.arrived is None:
            await self
        assert self.arrived is not None
        return self.arrived


@dataclass(order=True)
class _Wish:
    """Somebody waits for room or for a gate. Contents wait behind everything else, then age decides."""

    bulk: bool
    age: int
    sent: int = field(default=0, compare=False)
    due: int = field(default=0, compare=False)
    turn: _Suspended = field(default_factory=_Suspended, compare=False)


class Operation(_Suspended, Generic[T]):
    """A coroutine under way; what `ports.Pending` promises."""

    def __init__(self, lane: Lane, body: Coroutine[_Suspended, None, T], age: int) -> None:
        self._lane = lane
        self._body = body
        self.age = age
        self.done = False
        self._value: T | None = None
        self._error: Exception | None = None

    def result(self) -> T:
        """Wait for the end. Raises what the operation raised, Unavailable if the link broke."""
        self._lane.wait(self)
        return self._outcome()

    async def joined(self) -> T:
        """The same, from within another operation."""
        if not self.done:
            await self
        return self._outcome()

    def _outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # None only where T allows it

    def step(self, error: Exception | None = None) -> bool:
        """Run until the next wait, or to the end, and return whether it is the end; for the lane alone."""
        try:
            waits_for = self._body.throw(error) if error else self._body.send(None)
        except StopIteration as end:
            self.done, self._value = True, end.value
        except wire.Malformed as lie:
            self.done, self._error = True, self._lane.lose(nonsense(lie))
        except Exception as failure:  # noqa: BLE001  whatever a source of chunks raises is its file's result
            self.done, self._error = True, failure
        else:
            waits_for.waiter = self
        return self.done


class Gate:
    """Something limited, as handles or read-ahead: whoever began first gets it first."""

    def __init__(self, lane: Lane, free: int) -> None:
        self._lane = lane
        self._free = free
        self._queue: list[_Wish] = []
        lane.gates.append(self)

    async def enter(self, amount: int = 1) -> None:
        """Go on as soon as anything is free, and take `amount` of it."""
        if self._free <= 0:
            wish = _Wish(False, self._lane.age, amount)
            heapq.heappush(self._queue, wish)
            await wish.turn
        else:
            self._free -= amount

    def leave(self, amount: int = 1) -> None:
        """Give `amount` back."""
        self._free += amount
        while self._queue and self._free > 0:
            self._admit(heapq.heappop(self._queue))

    def hurry(self, operation: Operation[Any]) -> bool:
        """Let `operation` through if it stands here: it is awaited, and nothing else would move it."""
        for wish in self._queue:
            if wish.turn.waiter is operation:
                self._queue.remove(wish)
                heapq.heapify(self._queue)
                self._admit(wish)
                return True
        return False

    def _admit(self, wish: _Wish) -> None:
        self._free -= wish.sent
        self._lane.wake(wish.turn)


def nonsense(lie: wire.Malformed) -> Unavailable:
    """The error for a peer that is no SFTP server."""
    return Unavailable(
        f"the machine's SFTP server sent nonsense: {lie}",
        hint="does a start-up file there (.bashrc) print something for sessions without a terminal?",
    )


class Lane:
    """The requests of one channel. One owner; a second thread is refused, `interrupt` excepted."""

    def __init__(self, stream: ByteStream, max_outstanding_bytes: int) -> None:
        self._stream = stream
        self._most = max_outstanding_bytes
        self._framer = wire.Framer()
        self._lost: Unavailable | None = None
        self._owner = threading.RLock()
        self._ages = 0
        self._out = bytearray()
        self._answers: dict[int, Answer] = {}
        self._requests = 0
        self._sent = self._due = 0  # bytes of the requests that are not answered, and of their replies
        self._queued = 0  # bytes that the requests in `_out` carry or ask for
        self._on_wire = 0
        self._wishes: list[_Wish] = []
        self._ready: deque[Operation[Any]] = deque()
        self._live: set[Operation[Any]] = set()
        self._running: Operation[Any] | None = None
        self.gates: list[Gate] = []

    # ------------------------------------------------------------ for the owner

    def begin(self, body: Coroutine[_Suspended, None, T]) -> Operation[T]:
        """Start an operation. Its first request is sent at once if nothing else is under way, else
        together with those that follow it: at the latest when somebody waits."""
        if self._lost is not None:
            body.close()
            raise self.gone()
        if self._running is not None:  # a part of the one that runs
            return self._enlist(body, self._running.age)
        with self._alone():
            self._ages += 1
            operation = self._enlist(body, self._ages)
            self._advance()
            if not self._on_wire:
                self._send_out()
            while len(self._live) > MAX_OPERATIONS and self._answers:
                self._turn(operation)
        return operation

    def wait(self, operation: Operation[Any]) -> None:
        """Return when it has ended."""
        with self._alone():
            while not operation.done:
                self._turn(operation)

    def turn(self, awaited: Operation[Any]) -> None:
        """Take in something that the server sent, and let the operations go on."""
        with self._alone():
            self._turn(awaited)

    def hurry(self) -> None:
        """Send what is queued, without waiting for more of it."""
        with self._alone():
            self._advance()
            if self._out:
                self._send_out()

    def nudge(self) -> None:
        """Let those go on who may."""
        with self._alone():
            self._advance()

    def lose(self, why: Unavailable) -> Unavailable:
        """End everything: close the stream, and let each operation fail."""
        if self._lost is None:
            self._lost = why
            self._stream.close()
            self._answers.clear()
            self._wishes.clear()
            self._ready.clear()
            for operation in [each for each in self._live if each is not self._running]:
                self._run(operation, self.gone())
        return self.gone()

    def gone(self) -> Unavailable:
        """Why nothing works any more, as a fresh exception."""
        assert self._lost is not None
        return Unavailable(self._lost.message, hint=self._lost.hint)

    def interrupt(self) -> None:
        """From any thread: whoever waits here gets Unavailable."""
        self._stream.close()

    def close(self) -> None:
        """End it; from another thread than the owner's the same as `interrupt`."""
        if not self._owner.acquire(blocking=False):
            return self.interrupt()
        try:
            self.lose(Unavailable("the SFTP channel is closed"))
        finally:
            self._owner.release()

    # ------------------------------------------------------------ for the operations

    @property
    def age(self) -> int:
        """Of the operation that runs: what began first has the smallest."""
        return self._running.age if self._running else self._ages

    async def send(
        self, kind: int, *parts: bytes | memoryview, due: int = STATUS_SIZE, bulk: bool = False
    ) -> Answer:
        """Send a request as soon as there is room for it and for its reply of about `due` bytes."""
        if self._lost is not None:
            raise self.gone()
        size = 9 + sum(map(len, parts))
        await self.room(size, due=due, bulk=bulk)
        self._requests = (self._requests + 1) & 0xFFFFFFFF
        self._out += wire.header(kind, self._requests, size)
        for part in parts:
            self._out += part
        return self._expect(self._requests, size, due)

    async def room(self, size: int, *, due: int = STATUS_SIZE, bulk: bool = True) -> None:
        """Wait until a request of `size` bytes could be sent."""
        wish = _Wish(bulk, self.age, size, due)
        if (self._wishes and not wish < self._wishes[0]) or not self._fits(wish):
            heapq.heappush(self._wishes, wish)
            await wish.turn

    async def ask(self, kind: int, *parts: bytes, due: int = STATUS_SIZE) -> wire.Reply:
        """Send a request and wait for its reply."""
        return await (await self.send(kind, *parts, due=due)).reply()

    async def greet(self) -> wire.Reply:
        """The first exchange on the channel."""
        self._out += wire.hello()
        return await self._expect(_GREETING, 9, STATUS_SIZE).reply()

    def wake(self, reason: _Suspended) -> None:
        """What somebody may have waited for is here."""
        if reason.waiter is not None:
            self._ready.append(reason.waiter)
            reason.waiter = None

    # ------------------------------------------------------------ inside

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._running is not None or not self._owner.acquire(blocking=False):
            raise RuntimeError("an SFTP client has one owner, and its sources must not wait for it")
        try:
            yield
        finally:
            self._owner.release()

    def _enlist(self, body: Coroutine[_Suspended, None, T], age: int) -> Operation[T]:
        operation = Operation(self, body, age)
        self._live.add(operation)
        self._ready.append(operation)
        return operation

    def _turn(self, awaited: Operation[Any]) -> None:
        self._advance()
        if self._answers:
            self._send_out()
            self._take_in()
            self._advance()
        elif not awaited.done and not any(gate.hurry(awaited) for gate in self.gates):
            raise RuntimeError("an SFTP operation waits for nothing")

    def _advance(self) -> None:
        while True:
            if self._ready:
                self._run(self._ready.popleft())
            elif self._wishes and self._fits(self._wishes[0]):
                self.wake(heapq.heappop(self._wishes).turn)
            else:
                return

    def _run(self, operation: Operation[Any], error: Exception | None = None) -> None:
        if operation.done:
            return
        outer, self._running = self._running, operation
        try:
            ended = operation.step(error)
        finally:
            self._running = outer
        if ended:
            self._live.discard(operation)
            self.wake(operation)

    def _fits(self, wish: _Wish) -> bool:
        sent, due = self._sent + wish.sent, self._due + wish.due
        never_stuck = due <= PIPE or sent <= PIPE
        return not self._answers or (never_stuck and sent + due <= self._most)

    def _expect(self, request: int, sent: int, due: int) -> Answer:
        answer = self._answers[request] = Answer(sent, due)
        self._sent += sent
        self._due += due
        self._queued += max(sent, due)
        if self._queued >= BATCH:  # carried, or asked for
            self._send_out(min(BATCH, len(self._out)))
        return answer

    def _send_out(self, least: int = 1) -> None:
        """Send what is queued, in pieces of `least` bytes or more."""
        out, self._out = memoryview(self._out), bytearray()
        at = 0
        try:
            while len(out) - at >= least:
                while self._stream.pending():
                    self._take_in()
                self._stream.send(out[at : at + BATCH])
                at += BATCH
        except Unavailable as lost:
            raise self.lose(lost) from lost
        self._out += out[at:]
        self._queued = len(self._out)
        self._on_wire = len(self._answers)

    def _take_in(self) -> None:
        try:
            data = self._stream.recv(256 * 1024)
            if not data:
                raise Unavailable("the machine's SFTP server ended the connection")
            for packet in self._framer.feed(data):
                self._accept(wire.Reply(packet))
        except wire.Malformed as lie:
            raise self.lose(nonsense(lie)) from lie
        except Unavailable as lost:
            raise self.lose(lost) from lost

    def _accept(self, reply: wire.Reply) -> None:
        request = _GREETING if reply.kind == wire.SERVER_VERSION else reply.request
        answer = self._answers.pop(request, None)
        if answer is None:
            raise wire.Malformed("a reply to a request that was never sent")
        self._sent -= answer.sent
        self._due -= answer.due
        self._on_wire = max(0, self._on_wire - 1)
        answer.arrived = reply
        self.wake(answer)
