"""Detached jobs against a real sshd: they outlive the connection, the daemon and whoever started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fakes.sshd import Sshd
from tests.system.conftest import there
from tests.system.project import Project, wait_for

STEPS = "echo first; while [ ! -e go ]; do sleep 0.02; done; echo second; echo result >out.txt; exit 5"


def start(project: Project, script: str, *options: str) -> str:
    return project.devsync("run", "--detach", *options, "--", "sh", "-c", script).stdout.strip()


def job(project: Project, identity: str) -> dict[str, Any]:
    rows = json.loads(project.devsync("jobs", "--json").stdout)
    found: dict[str, Any] = next(row for row in rows if row["id"] == identity)
    return found


def sessions(sshd: Sshd) -> list[int]:
    """What sshd itself runs for its connections: no job is among them."""
    found = []
    for pid in sshd.processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue  # it has ended meanwhile
        if words.startswith(b"sshd") or b"/sshd" in words.split(b"\0")[0]:
            found.append(pid)
    return found


def test_a_job_outlives_the_daemon_and_its_connection(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    identity = start(project, STEPS, "--name", "train", "--env", "TOKEN=secret")
    assert job(project, identity)["state"] == "running"
    assert project.status()["jobs"]["running"] == 1
    signals = json.loads(project.devsync("idle", "--json").stdout)["signals"]
    assert not signals or [one["busy"] for one in signals if one["name"] == "jobs"] == [True]

    project.kill()
    for pid in sessions(sshd):
        os.kill(pid, signal.SIGKILL)
    wait_for("no session is left", lambda: not sessions(sshd))
    assert job(project, identity)["state"] == "unknown", "with no daemon, what was recorded is shown"

    project.devsync("start")
    assert job(project, identity)["state"] == "running"
    (project.root / "go").touch()
    done = project.devsync("attach", "train", expect=5)
    assert done.stdout == "first\nsecond\n"
    wait_for("its result is here", (project.root / "out.txt").exists)
    ended = job(project, identity)
    assert (ended["state"], ended["status"], ended["env"]) == ("ended", 5, ["TOKEN"])
    wait_for("its end is told", lambda: "train ended with status 5" in project.log())
    folder = there(sshd) / ".devsync" / "jobs" / identity
    assert not any(b"secret" in path.read_bytes() for path in folder.iterdir()), "no value is left lying"
    assert all(path.stat().st_mode & 0o077 == 0 for path in [folder, folder / "log", folder / "job.json"])


def test_a_log_is_followed_across_a_cut_without_loss(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    identity = start(project, "n=0; while [ $n -lt 200 ]; do n=$((n+1)); echo line $n; sleep 0.01; done")
    follower = subprocess.Popen(
        [sys.executable, "-P", "-m", "devsync", "logs", identity, "-f"],
        cwd=project.root,
        env=project.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with follower:
        assert follower.stdout is not None
        first = follower.stdout.readline()
        for pid in sessions(sshd):
            os.kill(pid, signal.SIGKILL)
        rest = follower.stdout.read()
    assert first + rest == b"".join(b"line %d\n" % n for n in range(1, 201))
    assert follower.returncode == 0
    assert project.devsync("logs", identity[:5]).stdout == (first + rest).decode()


def test_to_kill_a_job_ends_its_whole_tree(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    deaf = "trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 300 & sleep 300' & echo up; "
    identity = start(project, deaf + "while :; do sleep 1; done")
    wait_for("it is up", lambda: project.devsync("logs", identity).stdout == "up\n")
    started = [pid for pid in sshd.processes() if b"sleep\x00300" in _command(pid)]
    assert len(started) == 2
    row = json.loads(project.devsync("kill", identity, "--grace", "200ms", "--json").stdout)
    assert (row["state"], row["status"]) == ("ended", 137)
    assert not [pid for pid in started if b"sleep" in _command(pid)]
    polite = start(project, "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    wait_for("it is up", lambda: project.devsync("logs", polite).stdout == "up\n")
    project.devsync("kill", polite)
    assert project.devsync("logs", polite).stdout.endswith("bye\n")
    assert job(project, polite)["status"] == 3


def test_what_is_asked_in_error_is_said_in_a_sentence(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    assert "no job 'nope'" in project.devsync("logs", "nope", expect=1).stderr
    assert "no job 'nope'" in project.devsync("attach", "nope", expect=125).stderr
    missing = start(project, "true")
    project.devsync("attach", missing)
    assert "has ended already" in project.devsync("kill", missing, expect=1).stderr
    words = project.devsync("run", "--detach", "--", "no-such-command").stdout.strip()
    assert "no-such-command" in project.devsync("attach", words, expect=127).stdout
    above = there(sshd) / ".devsync" / "jobs"
    for twin in ("aaaaaaa1", "aaaaaaa2"):
        (above / twin).mkdir()
        for name in ("job.json", "end.json", "log"):
            (above / twin / name).write_bytes((above / missing / name).read_bytes())
    assert "aaaaaaa1, aaaaaaa2" in project.devsync("logs", "aaa", expect=2).stderr
    # A machine that was restarted has no process of the job's: it is lost, and nobody waits for it.
    lost = start(project, "sleep 300")
    running = above / lost / "running.json"
    told = json.loads(running.read_text())
    processes = [told[name]["pid"] for name in ("warden", "command")]
    for name in ("warden", "command"):
        told[name]["boot"] = "another"
    running.write_text(json.dumps(told))
    assert job(project, lost)["state"] == "lost"
    assert "without a word" in project.devsync("attach", lost, expect=125).stderr
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    assert project.devsync("logs").stdout, "with no job it is the daemon's own log"


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
