"""What the daemon does when Jupyter is asked for: finds or starts one, once, and leads a tunnel there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devsync.core.jobs import Order
from devsync.core.jupyter import Kernel, Place, Server
from devsync.daemon import jupyter as requests
from devsync.daemon import supervisor as pauses
from devsync.daemon.client import Refused
from tests.daemon.rig import PATIENCE, until
from tests.daemon.test_requests import Daemon

SERVER = Server(pid=77, port=8888, token="5ec2e7", page="/lab")
URL = "http://localhost:8889/lab?token=5ec2e7"  # the rig's tunnels lead to the next port


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    monkeypatch.setattr(pauses, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(requests, "PAUSE", 0.005)
    made = Daemon(tmp_path)
    made.supervisor.add(made.jobs)
    yield made
    made.supervisor.stop()


def ask(daemon: Daemon, op: str = "jupyter", **args: Any) -> Any:
    with daemon.client() as client:
        return client.call(op, **args)


def test_one_that_runs_is_found(daemon: Daemon) -> None:
    daemon.jupyter.runs = SERVER
    expected = {"url": URL, "local": 8889, "remote": 8888, "pid": 77, "started": False}
    assert ask(daemon, start=True) == ask(daemon, start=False) == expected
    assert not daemon.desk.known
    assert daemon.jupyter.opened == daemon.jupyter.closed == 2


def test_one_is_started_and_keeps_nothing_busy(daemon: Daemon) -> None:
    daemon.jupyter.later, daemon.jupyter.looks = SERVER, 3
    assert ask(daemon, start=True)["started"] is True
    assert daemon.jupyter.ports == [8888]
    (job,) = daemon.desk.known.values()
    assert (job.name, job.service) == ("jupyter", True)
    daemon.jobs.start(Order(["train"]), {})
    until(lambda: daemon.board.read().jobs == 1)


def test_two_who_ask_at_once_get_the_same(daemon: Daemon) -> None:
    daemon.jupyter.later, daemon.jupyter.looks = SERVER, 10
    told: list[Any] = []
    threads = [threading.Thread(target=lambda: told.append(ask(daemon, start=True))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [one["url"] for one in told] == [URL] * 3
    assert sorted(one["started"] for one in told) == [False, False, True]
    assert len(daemon.desk.known) == 1


def test_one_that_is_on_its_way_is_waited_for(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "STARTS_WITHIN", 0.05)
    daemon.jupyter.later, daemon.jupyter.looks = SERVER, 1000
    with pytest.raises(Refused, match="does not answer"):
        ask(daemon, start=True)
    daemon.jupyter.looks = 1
    assert ask(daemon, start=True)["url"] == URL
    assert len(daemon.desk.known) == 1


def test_one_that_ends_at_once_says_why(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    start = daemon.desk.start

    def fail(*args: Any) -> Any:
        job = start(*args)
        daemon.desk.logs[job.id] = b"ok\nport in use at http://x/?token=5ec2e7\n"
        daemon.desk.end(job.id, 1)
        return job

    monkeypatch.setattr(daemon.desk, "start", fail)
    with pytest.raises(Refused, match=r"has ended again: port in use at http://x/\?token=…") as refused:
        ask(daemon, start=True)
    assert "devsync logs" in refused.value.hint


def test_where_there_is_none_what_installs_it_is_told(daemon: Daemon) -> None:
    daemon.jupyter.found = Place((), ("uv venv .devsync/venv", "uv pip install jupyterlab"))
    with pytest.raises(Refused) as refused:
        ask(daemon, start=True)
    assert refused.value.kind == "NoJupyter"
    assert refused.value.exit_status == 1
    assert refused.value.hint == "devsync run -- sh -c 'uv venv .devsync/venv && uv pip install jupyterlab'"
    assert refused.value.details["commands"].splitlines() == list(daemon.jupyter.found.installs)
    daemon.jupyter.found = Place()
    with pytest.raises(Refused) as refused:
        ask(daemon, start=True)
    assert "python3-venv" in refused.value.hint


@pytest.mark.parametrize("op", ["jupyter", "jupyter-kernels"])
def test_a_question_starts_nothing(daemon: Daemon, op: str) -> None:
    with pytest.raises(Refused, match="no Jupyter server runs"):
        ask(daemon, op)
    assert not daemon.desk.known


def test_only_our_own_is_stopped(daemon: Daemon) -> None:
    assert ask(daemon, "jupyter-stop") == {"stopped": False}
    daemon.jupyter.runs = SERVER
    with pytest.raises(Refused, match="was not started by devsync"):
        ask(daemon, "jupyter-stop")
    daemon.jupyter.runs, daemon.jupyter.later = None, SERVER
    ask(daemon, start=True)
    assert ask(daemon, "jupyter-stop") == {"stopped": True}
    assert [identity for identity, _ in daemon.desk.killed] == list(daemon.desk.known)


def test_kernels(daemon: Daemon) -> None:
    daemon.jupyter.runs = SERVER
    daemon.jupyter.rows = [Kernel("k1", "python3", "busy", "train.ipynb", 1 << 20)]
    row = {"id": "k1", "name": "python3", "state": "busy", "notebook": "train.ipynb", "memory": 1 << 20}
    assert ask(daemon, "jupyter-kernels") == [row]


def test_a_machine_that_is_away(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REACH", 0.01)
    daemon.link.rest()
    with pytest.raises(Refused) as refused:
        ask(daemon, start=True)
    assert refused.value.exit_status == 3
