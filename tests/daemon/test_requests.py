"""What the daemon answers, asked over its socket: status, start, stop, keepalive, run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from devsync.core.jobs import Order
from devsync.daemon import supervisor as pauses
from devsync.daemon.activities import Activities, Kept
from devsync.daemon.board import Board, Facts, IdleFacts, LinkFacts, SyncFacts
from devsync.daemon.client import Client, Refused
from devsync.daemon.control import Control
from devsync.daemon.engine import Permission
from devsync.daemon.inbox import Inbox, Synchronised
from devsync.daemon.jobs import JobKeeper
from devsync.daemon.link import Link
from devsync.daemon.parts import Parts
from devsync.daemon.requests import handlers
from devsync.daemon.status import Identity, as_json, state
from devsync.daemon.supervisor import Supervisor
from devsync.ports import Connection, DevsyncError, Halted, Power, Terminal, Unavailable
from tests.daemon.rig import PATIENCE, until
from tests.fakes.clock import HandWoundClock
from tests.fakes.connection import FakeConnection
from tests.fakes.jobs import FakeDesk, FakeNotifier, FakeRecords
from tests.fakes.jupyter import FakeJupyter
from tests.fakes.machine import MemoryMachine


class FakeCommand:
    """A command that echoes its input, until it has ended or is closed."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, object]] = queue.Queue()
        self.ended: Future[int] = Future()
        self.input: queue.Queue[bytes] = queue.Queue()
        self.deaf = False

    def pump(
        self, spawn: Callable[..., Any], out: Callable[[bytes], None], err: Callable[[bytes], None]
    ) -> None:
        err(b"begins\n")
        while chunk := self.input.get(timeout=PATIENCE):
            out(chunk)

    def wait(self) -> int:
        return self.ended.result(PATIENCE)

    def feed(self, data: bytes) -> None:
        if self.deaf:
            raise Unavailable("the other end has closed the stream")
        self.input.put(data)

    def end_of_input(self) -> None:
        self.input.put(b"")
        if not self.ended.done():
            self.ended.set_result(7)

    def resize(self, columns: int, rows: int) -> None:
        self.events.put(("resize", (columns, rows)))

    def signal(self, number: int) -> None:
        self.events.put(("signal", number))

    def close(self) -> None:
        if not self.ended.done():
            self.ended.set_exception(Unavailable("the stream was closed here"))
        self.input.put(b"")
        self.events.put(("close", None))


class Answering(Inbox):
    """Answers requests at once, unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__(0)
        self.permitted: list[Permission | None] = []
        self.answers: list[Synchronised | DevsyncError | None] = []

    def request(self, permission: Permission | None = None) -> Future[Synchronised]:
        self.permitted.append(permission)
        answer = self.answers.pop(0) if self.answers else Synchronised((), {})
        reply: Future[Synchronised] = Future()
        if isinstance(answer, Synchronised):
            reply.set_result(answer)
        elif answer is not None:
            reply.set_exception(answer)
        return reply


class Daemon:
    """Everything that requests act on, with a machine that is connected."""

    def __init__(self, folder: Path) -> None:
        self.path, self.clock, self.board = folder / "control.sock", HandWoundClock(), Board()
        self.supervisor, self.inbox = Supervisor(self.board), Answering()
        self.machine = MemoryMachine(Power.RUNNING)
        self.link = Link(self.machine, lambda address: FakeConnection(), self.board, self.clock)
        self.saved: list[Kept] = []
        self.released: Future[str] = Future()
        self.accepted: list[str] = []
        self.activities = Activities(self.clock, None, self.saved.append)
        self.command = FakeCommand()
        self.started: list[tuple[Order, Terminal | None]] = []
        self.desk, self.records, self.told = FakeDesk(), FakeRecords(), FakeNotifier()
        self.jupyter = FakeJupyter()
        self.jobs = JobKeeper(
            link=self.link,
            open_desk=self.desk.open,
            board=self.board,
            activities=self.activities,
            records=self.records,
            notifier=self.told,
        )
        parts = Parts(
            board=self.board,
            inbox=self.inbox,
            link=self.link,
            activities=self.activities,
            supervisor=self.supervisor,
            identity=Identity("my-model", "/home/me/my-model", 4711, "2026-11-22T12:00:00Z", "memory"),
            tunnels=lambda: [{"local": 8888, "remote": 8888, "state": "open", "bytes": 0}],
            open_tunnel=lambda remote: remote + 1,
            open_jupyter=self.jupyter.open,
            start_command=self.start_command,
            accept_host_key=self.accepted.append,
            jobs=self.jobs,
            records=self.records,
            clock=self.clock,
            origin=lambda: {"commit": "c0ffee", "branch": "main", "difference": None},
            release=lambda: self.released,
            past=lambda within, replay: {"within": within, "replay": replay},
        )
        self.supervisor.add(Control(self.path, handlers(parts), self.supervisor.spawn))
        self.supervisor.add(self.link, reports=True)
        until(lambda: self.board.read().link.state == "connected")

    def start_command(self, connection: Connection, order: Order, terminal: Terminal | None) -> FakeCommand:
        self.started.append((order, terminal))
        return self.command

    def client(self) -> Client:
        client = Client.connect(self.path, PATIENCE)
        assert client is not None
        return client

    def watching(self) -> None:
        self.board.post(sync=SyncFacts(activity="watching", synchronised=1))


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.01)
    made = Daemon(tmp_path)
    yield made
    made.supervisor.stop()


# ------------------------------------------------------------ looking

CONTRACT: Mapping[str, set[str]] = {
    "machine": {"provider", "state", "host", "billed"},
    "connection": {"state", "rtt_ms"},
    "sync": {
        *("mode", "files", "pending", "in_flight", "conflicts", "last_sync", "uploaded_bytes"),
        *("downloaded_bytes", "halted"),
    },
    "idle": {"verdict", "since", "deallocate_at"},
    "jobs": {"running"},
}


def test_status_has_every_key_of_the_contract(daemon: Daemon) -> None:
    daemon.watching()
    with daemon.client() as client:
        status = client.call("status")
    for group, keys in CONTRACT.items():
        assert keys <= set(status[group]), group
    assert {"project", "root", "state", "since", "pid", "tunnels"} <= set(status)
    assert (status["project"], status["pid"], status["state"]) == ("my-model", 4711, "watching")
    assert status["machine"] | {"progress": None} == {
        "provider": "memory", "state": "running", "host": "127.0.0.1", "billed": True, "progress": None,
    }  # fmt: skip
    assert status["connection"] == {"state": "connected", "rtt_ms": 41.0}
    assert status["watch"] == {}
    assert status["tunnels"] == [{"local": 8888, "remote": 8888, "state": "open", "bytes": 0}]


@pytest.mark.parametrize(
    "link, activity, halted, word",
    [
        ("away", "starting", None, "starting"),
        ("connecting", "starting", None, "connecting"),
        ("connected", "connecting", None, "connecting"),
        ("connected", "synchronising", None, "synchronising"),
        ("connected", "watching", None, "watching"),
        ("connecting", "watching", None, "connecting"),
        ("off", "watching", None, "offline"),
        ("connected", "halted", "too many deletions", "halted"),
        ("off", "halted", "too many deletions", "halted"),
    ],
)
def test_the_one_word(link: str, activity: str, halted: str | None, word: str) -> None:
    facts = Facts(sync=SyncFacts(activity=activity, halted=halted), link=LinkFacts(state=link))
    assert state(facts) == word
    assert as_json(facts, Identity("p", "/p", 1, "now", "ssh"), [], {})["state"] == word


def test_follow_tells_changes_until_one_more_synchronisation(daemon: Daemon) -> None:
    daemon.watching()
    seen: list[int] = []

    def hear(event: dict[str, Any]) -> None:
        seen.append(event["sync"]["files"])
        facts = daemon.board.read().sync
        done = facts.synchronised + (facts.files == 2)
        daemon.board.post(sync=replace(facts, files=facts.files + 1, synchronised=done))

    with daemon.client() as client:
        status = client.call("follow", hear, until="synchronised", beyond=1)
    assert seen == [0, 1, 2, 3]
    assert status["sync"]["files"] >= 3


def test_follow_ends_with_what_needs_the_user(daemon: Daemon) -> None:
    daemon.board.trouble("sync", Halted("the local side is empty", hint="bring it back"))
    with daemon.client() as client, pytest.raises(Refused) as caught:
        client.call("follow", until="synchronised", beyond=0)
    assert (caught.value.exit_status, caught.value.kind) == (4, "Halted")


def test_idle_of_a_machine_that_nothing_is_known_of(daemon: Daemon) -> None:
    with daemon.client() as client:
        assert client.call("idle")["verdict"] == "busy"
        daemon.board.post(idle=IdleFacts(verdict={"verdict": "idle", "signals": []}))
        assert client.call("idle") == {"verdict": "idle", "signals": [], "last": None}


def test_idle_of_a_machine_that_was_let_go(daemon: Daemon) -> None:
    last = {"at": "2026-01-31T12:00:00Z", "reason": "quiet", "ended": ["job 1"], "left": {}}
    with daemon.client() as client:
        daemon.board.post(idle=IdleFacts(last=last))
        assert client.call("idle")["last"] is None, "it may be back"
        daemon.link.deallocate(threading.Event())
        assert client.call("idle")["last"] == last


def test_the_past_is_asked_for_a_week_at_most(daemon: Daemon) -> None:
    with daemon.client() as client:
        assert client.call("past", within=1e9, replay={"cpu": 30.0}) == {
            "within": 604800.0,
            "replay": {"cpu": 30.0},
        }


# ------------------------------------------------------------ acting


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00"])
def test_keepalive_is_kept_and_taken_back(daemon: Daemon, text: str) -> None:
    with daemon.client() as client:
        client.call("keepalive", until=text)
        assert daemon.saved == [datetime.fromisoformat("2026-01-31T12:00:00+00:00")]
        assert daemon.activities.keepalive() is not None
        client.call("keepalive", until=None)
        assert daemon.saved[-1] is None
        with pytest.raises(Refused) as caught:
            client.call("keepalive", until="soon")
        assert caught.value.exit_status == 2


def test_start_lifts_what_held_it_up(daemon: Daemon) -> None:
    daemon.board.trouble("sync", Halted("too many deletions"))
    with daemon.client() as client:
        answer = client.call("start", accept_deletions=True, accept_host_key="SHA256:x")
    assert answer["beyond"] == 0
    assert daemon.inbox.permitted == [Permission(deletions=True)]
    assert daemon.accepted == ["SHA256:x"]
    assert not daemon.board.read().troubles


def test_flush_tells_what_was_left_and_when_it_was_late(daemon: Daemon) -> None:
    daemon.inbox.answers = [Synchronised(("a",), {"b": "keeps changing"}), None]
    with daemon.client() as client:
        assert client.call("flush") == {"conflicts": ["a"], "unsettled": {"b": "keeps changing"}}
        with pytest.raises(Refused, match="not everything was carried over in time") as caught:
            client.call("flush", timeout=0.01)
        assert caught.value.exit_status == 3


def test_a_flush_that_waits_ends_with_the_daemon(daemon: Daemon) -> None:
    daemon.inbox.answers = [None]
    with daemon.client() as client:
        client.send("flush")
        until(lambda: daemon.inbox.permitted)
        daemon.supervisor.end()
        assert client.receive()["error"]["exit_status"] == 3


def test_stop_flushes_and_ends(daemon: Daemon) -> None:
    events: list[dict[str, Any]] = []
    with daemon.client() as client:
        client.call("stop", events.append, timeout=PATIENCE)
    daemon.supervisor.wait()
    assert daemon.inbox.permitted == [None]
    assert events[-1]["billed"] is True


def test_a_deallocation_that_fails_leaves_the_machine_watched(daemon: Daemon) -> None:
    daemon.machine.fail("deallocate", DevsyncError("a lock forbids it"))
    with daemon.client() as client:
        with pytest.raises(Refused, match="a lock forbids it"):
            client.call("stop", deallocate=True, timeout=PATIENCE)
        assert not daemon.supervisor.stopping.is_set()
        until(lambda: daemon.board.read().link.state == "connected")
        client.call("deallocate", timeout=PATIENCE)
    assert daemon.machine.power() is Power.DEALLOCATED
