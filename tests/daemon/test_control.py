"""The control socket: answers its own user, survives everybody, ends when told."""

from __future__ import annotations

import json
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devsync.daemon import supervisor
from devsync.daemon.board import Board
from devsync.daemon.client import Client, Refused
from devsync.daemon.control import Control, Session
from devsync.daemon.frames import JSON, LONGEST, STDOUT, Broken, Frames
from devsync.daemon.lock import Held, ProjectLock
from devsync.daemon.supervisor import Supervisor
from devsync.daemon.systemd import Notify
from devsync.ports import DevsyncError, Halted, Unavailable
from tests.daemon.rig import PATIENCE, until


class Daemon:
    """A control socket in a thread, with a few requests."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sock"
        self.hung_up = threading.Event()
        self.waiting = threading.Event()
        self.supervisor = Supervisor(Board())
        handlers = {
            "echo": self.echo,
            "count": self.count,
            "fail": self.fail,
            "wait": self.wait,
            "bug": self.bug,
        }
        self.control = Control(self.path, handlers, self.supervisor.spawn)
        self.supervisor.add(self.control)

    def echo(self, session: Session, args: dict[str, Any]) -> object:
        return args

    def count(self, session: Session, args: dict[str, Any]) -> object:
        for number in range(args["to"]):
            session.event({"number": number})
        session.frames.send(STDOUT, b"\0bytes")
        return args["to"]

    def fail(self, session: Session, args: dict[str, Any]) -> object:
        error = Halted("too many deletions", hint="accept them")
        error.details = {"fingerprint": "SHA256:x"}  # type: ignore[attr-defined]  # as some errors have
        raise error

    def wait(self, session: Session, args: dict[str, Any]) -> object:
        self.waiting.set()
        try:
            while True:
                session.event({"tick": 1})
                self.hung_up.wait(0.001)
        except Broken:
            self.hung_up.set()
            raise

    def bug(self, session: Session, args: dict[str, Any]) -> object:
        raise KeyError("a bug")

    def client(self, timeout: float | None = PATIENCE) -> Client:
        client = Client.connect(self.path, timeout)
        assert client is not None
        return client

    def raw(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        connection.connect(str(self.path))
        return connection


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.supervisor.stop()


def test_a_request_is_answered_and_the_next_one_too(daemon: Daemon) -> None:
    with daemon.client() as client:
        value: dict[str, Any] = {"text": "ü \udcff\n", "number": 1.5, "none": None, "deep": [{"a": []}]}
        assert client.call("echo", **value) == value
        assert client.call("echo") == {}


def test_events_and_bytes_come_before_the_result(daemon: Daemon) -> None:
    with daemon.client() as client:
        client.send("count", to=3)
        frames = [client.frames.receive() for _ in range(5)]
    assert [json.loads(frame[1]) for frame in frames[:3] if frame] == [
        {"event": {"number": number}} for number in range(3)
    ]
    assert frames[3] == (STDOUT, b"\0bytes")
    assert frames[4] is not None and json.loads(frames[4][1]) == {"result": 3}


def test_an_error_arrives_with_its_exit_status_and_details(daemon: Daemon) -> None:
    with daemon.client() as client:
        with pytest.raises(Refused) as caught:
            client.call("fail")
        error = caught.value
        assert (error.message, error.hint, error.exit_status, error.kind, error.details) == (
            "too many deletions", "accept them", 4, "Halted", {"fingerprint": "SHA256:x"},
        )  # fmt: skip
        with pytest.raises(Refused, match="does not know 'future'") as caught:
            client.call("future")
        assert "devsync stop, then devsync start" in caught.value.hint
        assert client.call("echo") == {}, "the conversation goes on"


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">cI", JSON, LONGEST + 1),
        struct.pack(">cI", JSON, 7) + b"no json",
        struct.pack(">cI", JSON, 2) + b"[]",
        struct.pack(">cI", STDOUT, 2) + b"{}",
        struct.pack(">cI", JSON, 100) + b'{"op": "ec',
        b"J",
        b"",
    ],
)
def test_garbage_ends_that_conversation_alone(daemon: Daemon, garbage: bytes) -> None:
    with daemon.raw() as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    with daemon.client() as client:
        assert client.call("echo", still="here") == {"still": "here"}


def test_a_bug_ends_that_conversation_alone(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    with daemon.client() as client, pytest.raises(Unavailable, match="went away"):
        client.call("bug")
    until(lambda: "control-session failed" in caplog.text)
    with daemon.client() as client:
        assert client.call("echo") == {}


def test_a_client_that_hangs_up_is_noticed(daemon: Daemon) -> None:
    client = daemon.client()
    client.send("wait")
    assert daemon.waiting.wait(PATIENCE)
    client.close()
    assert daemon.hung_up.wait(PATIENCE)
    client.close()


def test_many_clients_at_once(daemon: Daemon) -> None:
    answers: list[object] = []

    def ask(number: int) -> None:
        with daemon.client() as client:
            answers.extend(client.call("echo", number=number)["number"] for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(answers, key=repr) == sorted([number for number in range(8) for _ in range(20)], key=repr)


def test_only_the_user_may_connect(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stat.S_IMODE(daemon.path.stat().st_mode) == 0o600
    monkeypatch.setattr("os.getuid", lambda: 12345)
    with daemon.raw() as connection:
        assert connection.recv(1) == b""


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as old:
        old.bind(str(path))
    assert Client.connect(path) is None
    daemon = Daemon(tmp_path)
    with daemon.client() as client:
        assert client.call("echo") == {}
    daemon.supervisor.stop()
    assert not path.exists()
    assert Client.connect(path) is None


def test_an_end_hangs_up_on_whoever_is_there(daemon: Daemon) -> None:
    silent, busy = daemon.client(), daemon.client()
    busy.send("wait")
    assert daemon.waiting.wait(PATIENCE)
    daemon.supervisor.stop()
    with pytest.raises(Unavailable, match="the daemon went away"):
        silent.receive()
    with pytest.raises(Unavailable):
        while True:
            busy.receive()
    with pytest.raises(Unavailable):
        silent.call("echo", much="x" * 1_000_000)
    silent.close()
    busy.close()


def test_a_listener_that_fails_is_tried_again(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    failed = threading.Event()
    listener = daemon.control._listener

    class Exhausted:
        def accept(self) -> object:
            daemon.control._listener = listener
            failed.set()
            raise OSError(24, "too many open files")

    daemon.control._listener = Exhausted()  # type: ignore[assignment]  # as much of one as is used
    with daemon.client() as client:
        assert client.call("echo") == {}
    with daemon.client() as client:
        assert failed.wait(PATIENCE)
        assert client.call("echo") == {}


def test_a_daemon_that_does_not_answer_in_time_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "deaf.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        deaf.bind(str(path))
        deaf.listen()
        client = Client.connect(path, 0.01)
        assert client is not None
        with client, pytest.raises(Unavailable, match="went away"):
            client.call("status")


# ------------------------------------------------------------ the lock, and systemd


def test_a_project_has_one_owner_who_is_named(tmp_path: Path) -> None:
    lock = ProjectLock(tmp_path / "lock")
    with pytest.raises(Held) as caught:
        ProjectLock(tmp_path / "lock")
    assert caught.value.pid is not None
    assert str(caught.value.pid) in caught.value.message
    lock.release()
    ProjectLock(tmp_path / "lock").release()


def test_a_lock_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DevsyncError, match="cannot be locked") as caught:
        ProjectLock(tmp_path / "missing" / "lock")
    assert not isinstance(caught.value, Held)


@pytest.mark.parametrize("abstract", [True, False])
def test_systemd_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"@{tmp_path}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + address[1:] if abstract else address)
        systemd.settimeout(PATIENCE)
        notify = Notify(address)
        notify.ready()
        notify.status("watching")
        notify.stopping()
        assert [systemd.recv(100) for _ in range(3)] == [b"READY=1", b"STATUS=watching", b"STOPPING=1"]
    notify.ready()  # nobody is there any more
    Notify(None).ready()


def test_frames_from_many_threads_do_not_mix() -> None:
    ours, theirs = map(Frames, socket.socketpair())
    bodies = [bytes([number]) * 100_000 for number in range(8)]
    senders = [threading.Thread(target=ours.send, args=(STDOUT, body)) for body in bodies]
    for sender in senders:
        sender.start()
    assert sorted(frame[1] for _ in bodies if (frame := theirs.receive())) == bodies
    for sender in senders:
        sender.join()
    ours.close()
    assert theirs.receive() is None
    until(lambda: _broken(theirs))
    theirs.close()


def _broken(frames: Frames) -> bool:
    try:
        frames.send(STDOUT, b"x" * 100_000)
    except Broken:
        return True
    return False
