"""The job keeper with a desk in memory: what it counts, tells and records, and the requests about jobs."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devsync.core.jobs import Job, Order
from devsync.daemon.client import Client, Refused
from devsync.ports import DevsyncError, Unavailable
from devsync.work import jobs_there
from devsync.work.command import Surroundings
from devsync.work.jobs import Jobs
from devsync.work.provenance import origin
from devsync.work.records import Records
from devsync.work.warden import identity
from tests.daemon.rig import until
from tests.daemon.test_requests import Daemon

ORIGIN = {"commit": "c0ffee", "branch": "main", "difference": None}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path)
    yield made
    made.supervisor.stop()


def detach(client: Client, *words: str) -> str:
    job: str = client.call("detach", words=list(words), name="train", env={"A": "x"})["job"]["id"]
    return job


def test_a_job_is_counted_recorded_and_told_of(daemon: Daemon) -> None:
    daemon.supervisor.add(daemon.jobs)
    with daemon.client() as client:
        started = detach(client, "python", "train.py")
        assert daemon.inbox.permitted == [None], "a barrier before it, none after"
        until(lambda: client.call("status")["jobs"]["running"] == 1)
        assert [one.active for one in daemon.activities.signals() if one.name == "jobs"] == [True]
        assert daemon.records.written[started].env == ("A",)
        daemon.desk.end(started, 3)
        daemon.jobs.look_again()
        until(lambda: bool(daemon.told.heard))
        assert daemon.told.heard[0][0] == "devsync: train ended with status 3 after 1 min 5 s"
        assert daemon.records.written[started].status == 3
        until(lambda: client.call("status")["jobs"]["running"] == 0)


def test_an_end_that_came_while_the_daemon_was_away_is_told(daemon: Daemon) -> None:
    job = daemon.desk.start(Order(["train"]), ORIGIN)
    daemon.records.write(job)
    daemon.desk.end(job.id, 0)
    daemon.supervisor.add(daemon.jobs)
    until(lambda: bool(daemon.told.heard))
    daemon.jobs.look_again()
    assert daemon.desk.looked.acquire(timeout=5)
    assert len(daemon.told.heard) == 1, "once"


def test_what_cannot_be_asked_counts_as_work(daemon: Daemon) -> None:
    daemon.supervisor.add(daemon.jobs)
    until(lambda: daemon.board.read().jobs == 0)
    daemon.desk.lost = True
    with pytest.raises(Unavailable, match="out of reach"):
        daemon.jobs.ask(lambda desk: desk.list())
    until(lambda: daemon.board.read().jobs is None)
    assert [bool(one.error) for one in daemon.activities.signals() if one.name == "jobs"] == [True]


def test_a_link_that_was_lost_and_is_back_is_not_away(daemon: Daemon) -> None:
    daemon.supervisor.add(daemon.jobs)
    until(lambda: daemon.board.read().jobs == 0)
    first = daemon.link.connection(5.0)
    assert first is not None
    first.close()
    until(lambda: daemon.link.connection(0.0) not in (None, first))
    until(lambda: daemon.board.read().link.state == "connected")
    opened = daemon.desk.opened
    assert daemon.jobs.ask(lambda desk: desk.list()) == []
    assert daemon.desk.opened == opened + 1, "by a desk on the new connection"


def test_a_machine_that_cannot_do_it_has_none(daemon: Daemon) -> None:
    daemon.desk.refusal = DevsyncError("the machine has no Python 3", hint="install python3 there")
    daemon.supervisor.add(daemon.jobs)
    until(lambda: daemon.board.read().jobs == 0)
    with daemon.client() as client:
        with pytest.raises(Refused, match="no detached jobs here: the machine has no Python 3"):
            detach(client, "train")
        assert client.call("jobs") == {
            "jobs": [],
            "away": "no detached jobs here: the machine has no Python 3",
        }


def test_logs_and_kill(daemon: Daemon) -> None:
    daemon.supervisor.add(daemon.jobs)
    with daemon.client() as client:
        started = detach(client, "train")
        daemon.desk.logs[started] = b"abcdefgh\xff"
        said, answer = b"", {"size": 1}
        while len(said) < int(answer["size"]):
            answer = client.call("log", job="train", offset=len(said))
            said += base64.b64decode(answer["data"])
        assert said == b"abcdefgh\xff"
        ended = client.call("kill", job=started[:7], grace=1.5)["job"]
        assert (ended["state"], ended["status"], daemon.desk.killed) == ("ended", 143, [(started, 1.5)])
        with pytest.raises(Refused, match="has ended already"):
            client.call("kill", job=started)
        with pytest.raises(Refused, match="there is no job 'x'"):
            client.call("log", job="x")


# ------------------------------------------------------------ the machine's end, on this computer


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Jobs]:
    """The far end without the wire; it ends what still runs."""
    root = tmp_path / "project"
    root.mkdir()

    def ask(verb: str, **arguments: Any) -> Any:
        return json.loads(json.dumps(jobs_there.VERBS[verb](None, arguments)))

    made = Jobs(ask, lambda: None, Surroundings(str(root), "sh"))
    yield made
    for job in made.list():
        if job.state == "running":
            made.kill(job.id, 0.01)
            ended(made, job.id)


def ended(jobs: Jobs, wanted: str) -> Job:
    found: list[Job] = []

    def over() -> bool:
        found[:] = [job for job in jobs.list() if job.id == wanted and job.over]
        return bool(found)

    until(over)
    return found[0]


def test_a_job_there_and_its_log(there: Jobs) -> None:
    job = there.start(
        Order(["sh", "-c", 'printf "%s|" "$@" "$A"; exit 7', "sh", "a  b", ""], {"A": "é"}), ORIGIN
    )
    assert (ended(there, job.id).status, job.origin) == (7, ORIGIN)
    assert there.log(job.id, 0)[0] == "a  b||é|".encode()
    assert there.log(job.id, 6)[:2] == ("|é|".encode()[1:], 9)


def test_a_warden_that_was_killed_leaves_a_command_that_can_be_ended(there: Jobs, tmp_path: Path) -> None:
    job = there.start(Order(["sleep", "60"]), ORIGIN)
    folder = tmp_path / "project/.devsync/jobs" / job.id
    running = json.loads((folder / "running.json").read_text())
    os.kill(running["warden"]["pid"], signal.SIGKILL)
    until(lambda: identity(running["warden"]["pid"]) is None)
    assert [one.state for one in there.list()] == ["running"]
    there.kill(job.id, 1.0)
    assert ended(there, job.id).state == "lost", "nobody was there to see how it ended"


def test_the_users_systemd_takes_a_job_where_it_lingers(
    there: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "loginctl").write_text("#!/bin/sh\necho Linger=yes\n")
    (tools / "systemd-run").write_text(
        f'#!/bin/sh\necho "$@" >{tools}/asked\nwhile [ "$1" != -- ]; do shift; done; shift\nsetsid "$@" &\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    job = there.start(Order(["sh", "-c", "exit 4"]), ORIGIN)
    assert ended(there, job.id).status == 4
    assert f"--unit=devsync-job-{job.id}" in (tools / "asked").read_text()
    (tools / "systemd-run").write_text("#!/bin/sh\nexit 1\n")
    assert ended(there, there.start(Order(["sh", "-c", "exit 5"]), ORIGIN).id).status == 5


def test_a_job_of_old_is_thrown_away(there: Jobs, tmp_path: Path) -> None:
    old = there.start(Order(["true"]), ORIGIN)
    ended(there, old.id)
    long_ago = {"status": 0, "ended": time.time() - jobs_there.KEPT - 60}
    (tmp_path / "project/.devsync/jobs" / old.id / "end.json").write_text(json.dumps(long_ago))
    new = there.start(Order(["true"]), ORIGIN)
    assert [job.id for job in there.list()] == [new.id]
    ended(there, new.id)


def test_an_id_cannot_lead_elsewhere(there: Jobs) -> None:
    with pytest.raises(ValueError):
        there.log("../../../", 0)


# ------------------------------------------------------------ what is remembered


def test_records_hold_what_came_last_and_survive_a_cut_line(tmp_path: Path) -> None:
    records = Records(tmp_path / "runs.jsonl")
    job = Job("aaaa0001", ("train",), 1.0, detached=False)
    records.write(job)
    records.write(replace(job, state="ended", status=0))
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('{"id": "aaaa00')
    assert [one.status for one in records.read()] == [0]
    assert (tmp_path / "runs.jsonl").stat().st_mode & 0o077 == 0


def test_the_origin_tells_equal_code_from_different_code(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)

    assert origin(tmp_path) == {"commit": None, "branch": None, "difference": None}
    git("init", "-q", "-b", "main")
    git("config", "user.email", "tests@devsync.invalid")
    git("config", "user.name", "tests")
    (tmp_path / "a.py").write_text("1\n")
    assert origin(tmp_path)["difference"] is not None
    git("add", ".")
    git("commit", "-qm", "one")
    clean = origin(tmp_path)
    assert clean["branch"] == "main" and len(clean["commit"] or "") == 40 and clean["difference"] is None
    (tmp_path / "a.py").write_text("22\n")
    changed = origin(tmp_path)["difference"]
    (tmp_path / "new.py").write_text("333\n")
    seen = {None, changed, origin(tmp_path)["difference"]}
    (tmp_path / "new.py").write_text("4444\n")
    seen.add(origin(tmp_path)["difference"])
    assert len(seen) == 4
    (tmp_path / "new.py").unlink()
    assert origin(tmp_path)["difference"] == changed


def test_a_warden_needs_nothing_of_ours() -> None:
    path = str(Path(jobs_there.__file__).with_name("warden.py"))
    text = "import runpy, sys; runpy.run_path(sys.argv[1]); "
    text += "assert not [name for name in sys.modules if 'devsync' in name]"
    subprocess.run([sys.executable, "-I", "-S", "-c", text, path], check=True)
