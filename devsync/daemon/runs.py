"""`run`: a command on the machine with the client's input, output and signals, between two barriers."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from typing import Any

from devsync.core.jobs import Job, Order
from devsync.daemon.barrier import Barrier
from devsync.daemon.control import Session
from devsync.daemon.frames import END_OF_STDIN, STDERR, STDIN, STDOUT, Broken
from devsync.daemon.inbox import Synchronised
from devsync.daemon.parts import Parts, RunningCommand
from devsync.ports import Connection, DevsyncError, Terminal, Unavailable

AWAY = 15.0
"""Seconds for which a run waits for a machine that is out of reach and not on its way up."""


@dataclass(frozen=True)
class _Wishes:
    """What a client asks for besides the order. `timeout` is in seconds, for the first barrier."""

    sync: bool
    pull: bool
    anyway: bool
    deallocate: bool
    timeout: float | None
    terminal: Terminal | None

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> _Wishes:
        terminal = Terminal(**args["terminal"]) if args.get("terminal") else None
        timeout = None if args.get("timeout") is None else float(args["timeout"])
        flags = (bool(args.get("sync", True)), bool(args.get("pull", True)), bool(args.get("anyway")))
        return cls(*flags, bool(args.get("then_deallocate")), timeout, terminal)


class Runs:
    """What starts commands. Each runs in the thread of its client's session, with a few of its own."""

    def __init__(self, parts: Parts, barrier: Barrier) -> None:
        self._parts, self._barrier = parts, barrier
        self.carried: set[str] = set()
        """The ids of the runs that are under way."""

    def run(self, session: Session, args: dict[str, Any]) -> object:
        """Flush, run a command, carry its streams, flush back: the command's exit status."""
        order, wishes = _order(args), _Wishes.of(args)
        origin = self._origin()
        self._bring_over(session, wishes)
        connection = self._parts.link.connection(10.0)
        if connection is None:
            raise Unavailable("the machine is out of reach", hint="devsync status says why")
        session.event({"starting": True})  # a client that has given up meanwhile starts nothing
        with _Recorded(self._parts, self.carried, order, origin.result()) as record:
            record.status = status = self._carry(session, connection, order, wishes.terminal)
        left: dict[str, str] = {}
        if wishes.pull:
            try:
                left = _left(self._barrier.flush(session, None, AWAY))
            except DevsyncError as error:
                left = {".": error.message}  # how the command ended must not get lost by that
        stays = {"stays": self._let_go(session)} if wishes.deallocate else {}
        return {"status": status, "unsettled": left, **stays}

    def _let_go(self, session: Session) -> str:
        """Deallocate the machine, unless something else works there: then why it stays, else empty."""
        session.event({"progress": "deallocating the machine"})
        done = self._parts.release()
        while True:
            try:
                return done.result(0.5)
            except FutureTimeout:
                if self._parts.supervisor.stopping.is_set():
                    return "the daemon is stopping"
            except DevsyncError as error:
                return error.message  # how the command ended must not get lost by that

    def detach(self, session: Session, args: dict[str, Any]) -> object:
        """Flush and start a detached job, which from then on needs nobody."""
        order, origin = _order(args), self._origin()
        self._bring_over(session, _Wishes.of(args))
        return {"job": self._parts.jobs.start(order, origin.result()).to_json()}

    def _origin(self) -> Future[Mapping[str, str | None]]:
        """The state of the project, found out while the barrier is awaited."""
        found: Future[Mapping[str, str | None]] = Future()

        def ask() -> None:
            try:
                found.set_result(self._parts.origin())
            except OSError:
                found.set_result({})  # it is asked for the record only

        self._parts.supervisor.spawn("origin", ask)
        return found

    def _bring_over(self, session: Session, wishes: _Wishes) -> None:
        if not wishes.sync:
            return
        try:
            left = _left(self._barrier.flush(session, wishes.timeout, AWAY))
        except Unavailable as error:
            hint = error.hint or "devsync status"
            raise Unavailable(
                f"not started: {error.message}", hint=f"{hint}; --no-sync runs on what is there"
            ) from error
        if left and not wishes.anyway:
            lines = "".join(f"\n  {ascii(path)[1:-1]}: {why}" for path, why in sorted(left.items())[:10])
            raise DevsyncError(
                f"not started: {len(left)} files there are not what they are here:{lines}",
                hint="--anyway runs the command all the same",
            )

    def _carry(
        self, session: Session, connection: Connection, order: Order, terminal: Terminal | None
    ) -> int:
        command = self._parts.start_command(connection, order, terminal)
        outcome: Future[int] = Future()

        def follow() -> None:
            try:
                command.pump(
                    self._parts.supervisor.spawn,
                    lambda data: session.frames.send(STDOUT, data),
                    lambda data: session.frames.send(STDERR, data),
                )
                outcome.set_result(command.wait())
            except Exception as error:  # noqa: BLE001 (told to whoever waits for the outcome)
                outcome.set_exception(error)
            _tell(session, {"ended": True})  # the client answers, which ends `listen`

        feed = _Feed(session, command)
        spawn = self._parts.supervisor.spawn
        threads = [spawn("run", follow), spawn("run-input", feed.run)]
        try:
            _listen(session, command, feed)
        finally:
            command.close()
            feed.end()
            for thread in threads:
                thread.join()
        return outcome.result()


class _Feed:
    """Gives a command its input in a thread of its own: one that reads nothing must not delay a signal.

    The client sends only so much that was not yet taken, so what waits here is bounded.
    """

    def __init__(self, session: Session, command: RunningCommand) -> None:
        self._session, self._command = session, command
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def give(self, piece: bytes) -> None:
        """Pass this on next; an empty piece is the end of the input."""
        self._waiting.put(piece)

    def end(self) -> None:
        """Nobody takes any more."""
        self._waiting.put(None)

    def run(self) -> None:
        """Pass everything on until `end`."""
        while (piece := self._waiting.get()) is not None:
            try:
                if piece:
                    self._command.feed(piece)
                else:
                    self._command.end_of_input()
            except DevsyncError:
                pass  # it has ended, or takes no more input: how it ended is what counts
            _tell(self._session, {"taken": len(piece)})


class _Recorded:
    """Counts a run while it runs, and writes down how it ended."""

    def __init__(
        self, parts: Parts, carried: set[str], order: Order, origin: Mapping[str, str | None]
    ) -> None:
        self._parts, self._carried = parts, carried
        self._began = parts.clock.monotonic()
        self._job = Job(
            id=secrets.token_hex(4),
            command=order.command,
            started=parts.clock.now().timestamp(),
            name=order.name,
            detached=False,
            env=tuple(sorted(order.env)),
            origin=origin,
        )
        self.status: int | None = None

    def __enter__(self) -> _Recorded:
        self._carried.add(self._job.id)
        self._parts.records.write(self._job)
        self._parts.activities.running(+1)
        self._parts.board.runs(+1)
        return self

    def __exit__(self, *exc: object) -> None:
        self._parts.board.runs(-1)
        self._parts.activities.running(-1)
        self._carried.discard(self._job.id)
        seconds = self._parts.clock.monotonic() - self._began
        how = {"state": "lost"} if self.status is None else {"state": "ended", "status": self.status}
        ended = self._parts.clock.now().timestamp()
        self._parts.records.write(replace(self._job, ended=ended, seconds=seconds, **how))


def _listen(session: Session, command: RunningCommand, feed: _Feed) -> None:
    """Pass on what the client sends, until it says that it has seen the end."""
    while True:
        frame = session.frames.receive()
        if frame is None:
            raise Broken("the client hung up")
        kind, body = frame
        if kind in (STDIN, END_OF_STDIN):
            feed.give(body)
            continue
        wish = session.frames.parse(body)
        if wish.get("op") == "seen":
            return
        try:
            if "signal" in wish:
                command.signal(int(wish["signal"]))
            if "columns" in wish:
                command.resize(int(wish["columns"]), int(wish["rows"]))
        except DevsyncError:
            pass  # it has ended: how is what counts


def _tell(session: Session, event: Mapping[str, object]) -> None:
    try:
        session.event(event)
    except Broken:
        pass  # it has hung up, which ends `listen` too


def _order(args: Mapping[str, Any]) -> Order:
    return Order(
        [str(word) for word in args["words"]],
        dict(args.get("env") or {}),
        args.get("name"),
        None if args.get("shown") is None else [str(word) for word in args["shown"]],
        bool(args.get("bare")),
    )


def _left(answer: Synchronised) -> dict[str, str]:
    return {**dict.fromkeys(answer.conflicts, "a conflict is open"), **answer.unsettled}
