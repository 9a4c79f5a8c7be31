"""What the daemon answers on its control socket: one function for each request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from devsync.daemon.board import Board, Facts, Trouble
from devsync.daemon.control import Handler, Session
from devsync.daemon.engine import Permission
from devsync.daemon.frames import END_OF_STDIN, STDERR, STDIN, STDOUT, Broken
from devsync.daemon.idle import Activities
from devsync.daemon.inbox import Inbox, Synchronised
from devsync.daemon.link import Link
from devsync.daemon.status import Identity, as_json, state
from devsync.daemon.supervisor import Supervisor
from devsync.daemon.tasks import TASKS
from devsync.ports import Connection, DevsyncError, Misuse, Terminal, Unavailable

PATIENCE = 0.25
"""Seconds between two events of `follow` at least while facts change quickly."""

PERMISSIONS = ("accept_deletions", "rejoin", "take_over", "accept_arrivals")
"""What `start` may allow, in the order of Permission."""

LOOK_UP = 0.5
"""Seconds after which somebody who waits looks whether there still is hope."""


class RunningCommand(Protocol):
    """A command on the machine, as `work` starts it."""

    def pump(
        self, spawn: Callable[..., Any], out: Callable[[bytes], None], err: Callable[[bytes], None]
    ) -> None: ...
    def wait(self) -> int: ...
    def feed(self, data: bytes) -> None: ...
    def end_of_input(self) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def signal(self, number: int) -> None: ...
    def close(self) -> None: ...


T = TypeVar("T")

StartCommand = Callable[[Connection, Sequence[str], Terminal | None], RunningCommand]


@dataclass(frozen=True)
class Parts:
    """What requests act on."""

    board: Board
    inbox: Inbox
    link: Link
    activities: Activities
    supervisor: Supervisor
    identity: Identity
    tunnels: Callable[[], list[Mapping[str, object]]]
    start_command: StartCommand
    accept_host_key: Callable[[str], None]
    watching: Callable[[], Mapping[str, object]] = dict
    """How each side is watched; for `local`, in words, what is not."""


def handlers(parts: Parts) -> dict[str, Handler]:
    """Every request by name."""
    requests = _Requests(parts)
    return {
        "status": requests.status,
        "follow": requests.follow,
        "flush": requests.flush,
        "idle": requests.idle,
        "keepalive": requests.keepalive,
        "start": requests.start,
        "deallocate": requests.deallocate,
        "stop": requests.stop,
        "run": requests.run,
        **{name: requests.task(name) for name in TASKS},
    }


class _Requests:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # ------------------------------------------------------------ looking

    def status(self, _session: Session, _args: dict[str, Any]) -> object:
        return self._status(self._parts.board.read())

    def _status(self, facts: Facts) -> dict[str, object]:
        parts = self._parts
        return as_json(facts, parts.identity, parts.tunnels(), parts.watching())

    def follow(self, session: Session, args: dict[str, Any]) -> object:
        """Tell each change, for ever; or `until` one more synchronisation than `beyond` is complete."""
        seen = -1
        while True:
            seen, facts = self._parts.board.wait(seen, LOOK_UP)
            session.event(self._status(facts))
            if args.get("until") == "synchronised":
                self._raise_trouble(facts)
                if facts.sync.synchronised > int(args.get("beyond", 0)):
                    return self._status(facts)
            if self._parts.supervisor.stopping.wait(PATIENCE if args.get("until") is None else 0.05):
                raise self._ending()

    def _raise_trouble(self, facts: Facts) -> None:
        for trouble in facts.troubles.values():
            if trouble.needs_user:
                raise _Told(trouble)

    def idle(self, _session: Session, _args: dict[str, Any]) -> object:
        facts = self._parts.board.read()
        if facts.idle.verdict:
            return dict(facts.idle.verdict)
        off = not self._parts.link.wanted
        why = f"is {facts.link.power}" if off else "is out of reach, so nothing is known"
        nothing = {"since": None, "deallocate_at": None, "signals": list[object]()}
        return {"verdict": "idle" if off else "busy", "reason": f"the machine {why}", **nothing}

    # ------------------------------------------------------------ acting

    def flush(self, session: Session, args: dict[str, Any]) -> object:
        answer = self._flush(session, args.get("timeout"))
        return {"conflicts": list(answer.conflicts), "unsettled": answer.unsettled}

    def task(self, name: str) -> Handler:
        """One of TASKS, done by the sync loop."""

        def handle(session: Session, args: dict[str, Any]) -> object:
            inbox = self._parts.inbox
            return self._behind(session, lambda: inbox.ask(lambda engine: TASKS[name](engine, args)), None)

        return handle

    def keepalive(self, _session: Session, args: dict[str, Any]) -> object:
        until = args.get("until")
        self._parts.activities.keep_until(None if until is None else _moment(until))
        return None

    def start(self, _session: Session, args: dict[str, Any]) -> object:
        """The user wants the machine, and may allow what held it up.

        To `follow` with the `beyond` of the answer is to wait until everything is as it should be.
        """
        facts = self._parts.board.read()
        if args.get("accept_host_key"):
            self._parts.accept_host_key(str(args["accept_host_key"]))
        allowed = (bool(args.get(name)) for name in PERMISSIONS)
        permission = Permission(*allowed)
        beyond = facts.sync.synchronised
        if state(facts) == "watching" and permission == Permission():
            beyond -= 1  # there is nothing to wait for
        else:
            self._parts.inbox.request(permission)
        self._parts.board.acted()
        self._parts.link.wake()
        self._parts.supervisor.retry()
        return {"pid": os.getpid(), "beyond": beyond}

    def deallocate(self, session: Session, args: dict[str, Any]) -> object:
        """Flush if that is possible, then let the machine go; returns when it is deallocated."""
        if self._parts.board.read().link.state == "connected":
            session.event({"progress": "flushing"})
            try:
                self._flush(session, args.get("timeout"))
            except DevsyncError as error:
                session.event({"warning": f"not everything was brought over: {error.message}"})
        session.event({"progress": "deallocating the machine"})
        try:
            self._parts.link.deallocate(self._parts.supervisor.stopping)
        except DevsyncError:
            self._parts.link.resume()  # what is still billed must be watched
            raise
        return {"machine": self._parts.board.read().link.power}

    def stop(self, session: Session, args: dict[str, Any]) -> object:
        """Flush, if the machine is within reach, and end the daemon."""
        try:
            if args.get("deallocate"):
                self.deallocate(session, args)
            elif self._parts.board.read().link.state == "connected" and not args.get("now"):
                session.event({"progress": "flushing"})
                self._flush(session, args.get("timeout"))
        except DevsyncError as error:
            if args.get("deallocate"):
                raise
            session.event({"warning": f"not everything was brought over: {error.message}"})
        link = self._parts.board.read().link
        session.event({"stopping": os.getpid(), "machine": link.power, "billed": link.billed})
        self._parts.supervisor.end()
        return None

    def _flush(self, session: Session, timeout: float | None) -> Synchronised:
        """Wait until everything that was changed before now is on the other side, if there is hope for it."""
        return self._behind(session, self._parts.inbox.request, timeout)

    def _behind(self, session: Session, ask: Callable[[], Future[T]], timeout: float | None) -> T:
        """What comes of a request that stands behind a barrier."""
        self._stop_without_hope()
        trouble = self._parts.board.read().troubles.get("link")
        if trouble is not None:
            session.event({"progress": f"{trouble.message}; waiting for the machine"})
        reply = ask()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_UP if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                return reply.result(min(left, LOOK_UP))
            except FutureTimeout:
                self._stop_without_hope()
                if left == 0:
                    raise self._late() from None

    def _stop_without_hope(self) -> None:
        """Nothing can be carried over before somebody acts: whoever waits is told so."""
        facts = self._parts.board.read()
        if self._parts.supervisor.stopping.is_set():
            raise self._ending()
        if not self._parts.link.wanted:
            raise Unavailable(f"the machine is {facts.link.power}", hint="devsync start brings it back")
        for service in ("link", "sync"):
            trouble = facts.troubles.get(service)
            if trouble is not None and trouble.needs_user:
                raise _Told(trouble)

    def _ending(self) -> DevsyncError:
        return self._parts.supervisor.failure or Unavailable("the daemon is stopping", hint="devsync start")

    def _late(self) -> Unavailable:
        troubles = self._parts.board.read().troubles.values()
        why = "; ".join(trouble.message for trouble in troubles) or "still at work"
        return Unavailable(f"not everything was carried over in time: {why}", hint="devsync status")

    # ------------------------------------------------------------ running

    def run(self, session: Session, args: dict[str, Any]) -> object:
        """Flush, run a command, carry its streams, flush back: the command's exit status."""
        if args.get("sync", True):
            self._barrier(session, bool(args.get("anyway")))
        connection = self._parts.link.connection(10.0)
        if connection is None:
            raise Unavailable("the machine is out of reach", hint="devsync status says why")
        terminal = Terminal(**args["terminal"]) if args.get("terminal") else None
        self._parts.activities.running(+1)
        self._parts.board.runs(+1)
        try:
            status = self._carry(session, connection, args["words"], terminal)
        finally:
            self._parts.board.runs(-1)
            self._parts.activities.running(-1)
        left: dict[str, str] = {}
        if args.get("pull", True):
            try:
                answer = self._flush(session, args.get("timeout"))
                left = dict.fromkeys(answer.conflicts, "a conflict is open") | answer.unsettled
            except DevsyncError as error:
                left = {".": error.message}  # how the command ended must not get lost by that
        return {"status": status, "unsettled": left}

    def _barrier(self, session: Session, anyway: bool) -> None:
        answer = self._flush(session, None)
        left = {**dict.fromkeys(answer.conflicts, "a conflict is open"), **answer.unsettled}
        if left and not anyway:
            lines = "".join(f"\n  {ascii(path)[1:-1]}: {why}" for path, why in sorted(left.items())[:10])
            raise DevsyncError(
                f"not started: {len(left)} files there are not what they are here:{lines}",
                hint="--anyway runs the command all the same",
            )

    def _carry(
        self, session: Session, connection: Connection, words: Sequence[str], terminal: Terminal | None
    ) -> int:
        command = self._parts.start_command(connection, words, terminal)
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
            try:
                session.event({"ended": True})  # the client answers, which ends `listen`
            except Broken:
                pass  # it has hung up, which ends `listen` too

        thread = self._parts.supervisor.spawn("run", follow)
        try:
            self._listen(session, command)
        finally:
            command.close()
            thread.join()
        return outcome.result()

    def _listen(self, session: Session, command: RunningCommand) -> None:
        """Pass on what the client sends, until it says that it has seen the end."""
        while True:
            frame = session.frames.receive()
            if frame is None:
                raise Broken("the client hung up")
            kind, body = frame
            wish = {} if kind in (STDIN, END_OF_STDIN) else session.frames.parse(body)
            if wish.get("op") == "seen":
                return
            try:
                if kind == STDIN:
                    command.feed(body)
                elif kind == END_OF_STDIN:
                    command.end_of_input()
                if "signal" in wish:
                    command.signal(int(wish["signal"]))
                if "columns" in wish:
                    command.resize(int(wish["columns"]), int(wish["rows"]))
            except DevsyncError:
                pass  # it has ended, or takes no more input: how it ended is what counts


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise Misuse(f"no moment: {text!r}", hint="as in 2026-01-31T12:00:00+00:00") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


class _Told(DevsyncError):
    """A trouble of a service, told to whoever waits."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message, hint=trouble.hint)
        self.exit_status = trouble.exit_status
        self.kind = trouble.kind
        self.details = trouble.details
