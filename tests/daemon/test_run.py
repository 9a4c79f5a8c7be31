"""The conversation of `run`: input, output, signals, and every way in which one of the two may go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devsync.core.jobs import Order
from devsync.daemon.client import Client, Refused
from devsync.daemon.frames import END_OF_STDIN, JSON, STDERR, STDIN, STDOUT, Frames
from devsync.daemon.inbox import Synchronised
from devsync.ports import DevsyncError, Terminal, Unavailable
from tests.daemon.rig import PATIENCE, until
from tests.daemon.test_requests import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.supervisor.stop()


class Run:
    """A client in the middle of a run."""

    def __init__(self, client: Client, **args: object) -> None:
        self.client, self.frames = client, client.frames
        self.out: dict[bytes, bytes] = {STDOUT: b"", STDERR: b""}
        self.events: list[dict[str, Any]] = []
        client.send("run", words=["train", "--fast"], **args)

    def step(self) -> dict[str, Any] | None:
        """Take one frame: the last one, with a result or an error, is returned."""
        frame = self.frames.receive()
        assert frame is not None
        kind, body = frame
        if kind in self.out:
            self.out[kind] += body
            return None
        answer = Frames.parse(body)
        if "event" not in answer:
            return answer
        self.events.append(answer["event"])
        if "ended" in answer["event"]:
            self.frames.send_json({"op": "seen"})
        return None

    def until_output(self, kind: bytes, text: bytes) -> None:
        while self.out[kind] != text:
            assert self.step() is None

    def end(self) -> dict[str, Any]:
        while (answer := self.step()) is None:
            pass
        return answer


def test_input_output_and_status(daemon: Daemon) -> None:
    with daemon.client() as client:
        run = Run(client, terminal={"term": "xterm", "columns": 80, "rows": 24})
        run.until_output(STDERR, b"begins\n")
        facts = daemon.board.read()
        assert facts.runs == 1
        assert [signal.active for signal in daemon.activities.signals() if signal.name == "jobs"] == [True]
        run.frames.send(STDIN, b"line\0\xff")
        run.until_output(STDOUT, b"line\0\xff")
        run.frames.send_json({"op": "wish", "signal": 2})
        run.frames.send_json({"op": "wish", "columns": 100, "rows": 50})
        assert daemon.command.events.get(timeout=PATIENCE) == ("signal", 2)
        assert daemon.command.events.get(timeout=PATIENCE) == ("resize", (100, 50))
        run.frames.send(END_OF_STDIN, b"")
        assert run.end() == {"result": {"status": 7, "unsettled": {}}}
        assert client.call("status")["jobs"] == {"running": 0}, "the conversation goes on"
    assert daemon.started == [(Order(["train", "--fast"]), Terminal("xterm", 80, 24))]
    assert daemon.inbox.permitted == [None, None], "a barrier before, and one after"
    assert daemon.command.events.get(timeout=PATIENCE) == ("close", None)


def test_a_client_that_vanishes_ends_the_command(daemon: Daemon) -> None:
    client = daemon.client()
    run = Run(client)
    run.until_output(STDERR, b"begins\n")
    client.close()
    assert daemon.command.events.get(timeout=PATIENCE) == ("close", None)
    until(lambda: daemon.board.read().runs == 0)


@pytest.mark.parametrize("garbage", [(JSON, b"no json"), (b"?", b""), (JSON, b'{"signal": "loud"}')])
def test_a_client_that_speaks_garbage_ends_the_command(daemon: Daemon, garbage: tuple[bytes, bytes]) -> None:
    with daemon.client() as client:
        run = Run(client)
        run.until_output(STDERR, b"begins\n")
        run.frames.send(*garbage)
        until(lambda: not daemon.command.events.empty())
    until(lambda: daemon.board.read().runs == 0)
    with daemon.client() as client:
        assert client.call("status")["pid"] == 4711


def test_input_that_nobody_reads_does_not_hide_the_status(daemon: Daemon) -> None:
    daemon.command.deaf = True
    with daemon.client() as client:
        run = Run(client)
        run.until_output(STDERR, b"begins\n")
        for _ in range(3):
            run.frames.send(STDIN, b"x" * 1000)
        daemon.command.end_of_input()
        assert run.end()["result"]["status"] == 7


def test_a_link_that_breaks_is_an_error(daemon: Daemon) -> None:
    with daemon.client() as client:
        run = Run(client)
        run.until_output(STDERR, b"begins\n")
        daemon.command.ended.set_exception(Unavailable("the connection was lost"))
        daemon.command.input.put(b"")
        assert run.end()["error"]["message"] == "the connection was lost"
    assert daemon.board.read().runs == 0


def test_a_bug_in_the_middle_hangs_nobody(daemon: Daemon) -> None:
    with daemon.client() as client:
        run = Run(client)
        run.until_output(STDERR, b"begins\n")
        daemon.command.ended.set_exception(ValueError("a bug"))
        daemon.command.input.put(b"")
        with pytest.raises(AssertionError):
            run.end()  # it hangs up
    until(lambda: daemon.board.read().runs == 0)


@pytest.mark.parametrize(
    "left",
    [Synchronised(("a",), {}), Synchronised((), {"b\udcff": "keeps changing"})],
    ids=["conflict", "late"],
)
def test_it_is_not_started_on_old_files_unless_told(daemon: Daemon, left: Synchronised) -> None:
    daemon.inbox.answers = [left, left]
    with daemon.client() as client:
        with pytest.raises(Refused, match="not started: 1 files") as caught:
            client.call("run", words=["train"])
        assert "--anyway" in caught.value.hint
        assert daemon.started == []
        daemon.command.end_of_input()
        assert Run(client, anyway=True).end()["result"]["status"] == 7


def test_124_a_machine_that_was_let_go_is_named_at_once(daemon: Daemon) -> None:
    daemon.link.deallocate(threading.Event())
    with daemon.client() as client, pytest.raises(Refused, match="the machine is deallocated") as caught:
        client.call("run", words=["train"])
    assert "devsync start" in caught.value.hint
    assert daemon.started == []


def test_results_that_do_not_come_here_do_not_hide_the_status(daemon: Daemon) -> None:
    daemon.inbox.answers = [Synchronised((), {}), DevsyncError("60 of 100 files would be deleted")]
    daemon.command.end_of_input()
    with daemon.client() as client:
        answer = Run(client).end()
    assert answer == {"result": {"status": 7, "unsettled": {".": "60 of 100 files would be deleted"}}}


@pytest.mark.parametrize("why", ["", "cpu: 99 %"])
def test_then_the_machine_is_let_go_unless_something_else_works(daemon: Daemon, why: str) -> None:
    daemon.released.set_result(why)
    daemon.command.end_of_input()
    with daemon.client() as client:
        answer = Run(client, then_deallocate=True).end()
    assert answer == {"result": {"status": 7, "unsettled": {}, "stays": why}}


def test_a_machine_that_cannot_be_let_go_does_not_hide_the_status(daemon: Daemon) -> None:
    daemon.released.set_exception(DevsyncError("still billed"))
    daemon.command.end_of_input()
    with daemon.client() as client:
        answer = Run(client, then_deallocate=True).end()
    assert answer["result"] == {"status": 7, "unsettled": {}, "stays": "still billed"}


def test_without_barriers_it_starts_at_once(daemon: Daemon) -> None:
    daemon.command.end_of_input()
    with daemon.client() as client:
        assert json.dumps(Run(client, sync=False, pull=False).end())
    assert daemon.inbox.permitted == []
