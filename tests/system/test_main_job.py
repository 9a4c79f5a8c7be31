"""The main job, end to end: the daemon as users run it, against OpenSSH's server, git and a web server."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd, free_port
from tests.fakes.wan import Wan
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree, wait_for

pytestmark = pytest.mark.timeout(180)


def fill_with_the_standard_library(root: Path) -> None:
    """Several thousand files that every computer has, committed, with ignored ones among them."""
    source = Path(sysconfig.get_paths()["stdlib"])
    ignored = shutil.ignore_patterns("site-packages", "__pycache__", "idlelib", "ensurepip", "config-*")
    shutil.copytree(source, root, ignore=ignored, symlinks=True, dirs_exist_ok=True)
    (root / ".gitignore").write_text("__pycache__/\n*.pyc\n/build/\n")


def test_a_checkout_of_the_standard_library_is_mirrored_exactly(project: Project, sshd: Sshd) -> None:
    fill_with_the_standard_library(project.root)
    (project.root / "tool.sh").write_text("#!/bin/sh\n")
    (project.root / "tool.sh").chmod(0o755)
    project.git("add", "-A")
    project.git("commit", "-qm", "the standard library")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "json"], cwd=project.root, check=True)
    (project.root / "build").mkdir()
    (project.root / "build" / "ignored.bin").write_bytes(b"i" * 1000)
    (project.root / "untracked.txt").write_text("new, and not ignored\n")

    project.devsync("start")

    listed = project.listed()
    assert len(listed) > 1000
    assert (project.root / "json" / "__pycache__").is_dir()
    here, remote = tree(project.root), tree(there(sshd))
    assert set(remote) == {name for name in listed if not (project.root / name).is_symlink()}
    assert remote == {name: here[name] for name in remote}
    assert project.status()["sync"]["files"] == len(listed)
    assert project.status()["state"] == "watching"
    wait_for("both sides are watched", lambda: project.status()["watch"]["machine"] == "inotify", pause=0.1)
    assert project.status()["watch"]["local"] is None


def test_a_hundred_saves_each_arrive(project: Project, sshd: Sshd) -> None:
    (project.root / "model.py").write_text("0\n")
    project.devsync("start")
    arrived = there(sshd) / "model.py"
    for number in range(100):
        text = "x" * number + f"# {number}\n"
        (project.root / "model.py").write_text(text)
        wait_for(f"save {number}", lambda text=text: arrived.read_text() == text, pause=0.001)  # type: ignore[misc]  # bound now


def test_what_is_written_on_the_machine_arrives_here(project: Project, sshd: Sshd) -> None:
    (project.root / ".gitignore").write_text("*.ckpt\n")
    project.devsync("start")
    (there(sshd) / "results" / "deep").mkdir(parents=True)
    (there(sshd) / "results" / "deep" / "scores.json").write_text("{}\n")
    (there(sshd) / "model.ckpt").write_text("large\n")
    wait_for("the result", (project.root / "results" / "deep" / "scores.json").exists)
    assert (project.root / "results" / "deep" / "scores.json").read_text() == "{}\n"
    assert not (project.root / "model.ckpt").exists()
    (there(sshd) / "results" / "deep" / "scores.json").unlink()
    wait_for("the deletion", lambda: not (project.root / "results").exists())


def test_a_web_server_on_the_machine_answers_through_the_tunnel(tmp_path: Path, sshd: Sshd) -> None:
    port = free_port()
    served = tmp_path / "served"
    served.mkdir()
    (served / "hello.txt").write_text("from the machine")
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port), "-d", str(served)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    project = Project(tmp_path, config_for(sshd, remote=port))
    try:
        project.devsync("start")
        (tunnel,) = project.status()["tunnels"]
        url = f"http://127.0.0.1:{tunnel['local']}/hello.txt"

        def answers() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=5) as page:
                    return bool(page.read() == b"from the machine")
            except OSError:
                return False

        wait_for("the page", answers, pause=0.05)
        assert project.status()["tunnels"][0]["state"] == "open"
        with pytest.raises(OSError):
            socket.create_connection((_address_of_this_host(), tunnel["local"]), timeout=1).close()
    finally:
        project.close()
        server.terminate()
        server.wait()


def _address_of_this_host() -> str:
    """A loopback address that is not 127.0.0.1: a tunnel that listened everywhere would answer on it."""
    return "127.0.0.2"


def test_kill_9_and_a_new_start_lose_nothing(project: Project, sshd: Sshd) -> None:
    for number in range(200):
        (project.root / f"{number}.txt").write_text(f"{number}\n" * (number + 1))
    project.devsync("start")
    (project.root / "1.txt").write_text("written just before the end\n")
    project.kill()
    (project.root / "2.txt").write_text("written while it was dead\n")
    (there(sshd) / "3.txt").write_text("written there while it was dead\n")
    (project.root / "4.txt").unlink()

    project.devsync("start")

    assert tree(project.root) == tree(there(sshd))
    assert (there(sshd) / "1.txt").read_text() == "written just before the end\n"
    assert (there(sshd) / "2.txt").read_text() == "written while it was dead\n"
    assert (project.root / "3.txt").read_text() == "written there while it was dead\n"
    assert not (there(sshd) / "4.txt").exists()
    assert project.status()["sync"]["conflicts"] == 0


@pytest.fixture
def far(tmp_path: Path, sshd: Sshd) -> Iterator[tuple[Project, Wan]]:
    """A project whose machine is far away."""
    with Wan(sshd.port, delay=0.01) as wan:
        project = Project(tmp_path, config_for(sshd, port=wan.port))
        yield project, wan
        project.close()


def test_a_cut_heals(far: tuple[Project, Wan], sshd: Sshd) -> None:
    project, wan = far
    project.devsync("start")
    wan.cut()
    (project.root / "during.txt").write_text("saved in the moment of the cut\n")
    took = wait_for("the save", (there(sshd) / "during.txt").exists, patience=30.0)
    assert took < 30.0
    (there(sshd) / "back.txt").write_text("and back\n")
    wait_for("the way back", (project.root / "back.txt").exists, patience=30.0)


def test_a_blackhole_is_noticed_and_heals(far: tuple[Project, Wan], sshd: Sshd) -> None:
    project, wan = far
    project.devsync("start")
    wan.blackhole(True)
    (project.root / "during.txt").write_text("saved while nothing passed, and nobody said so\n")
    wait_for("the dead path is noticed", lambda: project.status()["state"] == "offline", pause=0.2)
    wan.blackhole(False)
    wait_for("the save", (there(sshd) / "during.txt").exists, patience=30.0)
    (there(sshd) / "back.txt").write_text("and back again\n")
    wait_for("the way back", (project.root / "back.txt").exists, patience=30.0)


def test_it_survives_its_terminal_and_ends_within_five_seconds(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    pid = project.pid()
    assert os.getsid(pid) == pid, "it has a session of its own"
    os.kill(pid, 15)
    took = wait_for("it ends", lambda: project.status()["state"] == "stopped")
    assert took < 5.0
    wait_for("nothing is left on the machine", lambda: not sshd_sessions(sshd))
    assert not list(project.state.glob("*/control.sock"))


def sshd_sessions(sshd: Sshd) -> list[int]:
    """What runs there for a connection: all but the server, and the sampler, which is to outlive it."""
    lock = sshd.home / ".local" / "state" / "devsync-sampler" / "lock"
    told = lock.read_text() if lock.exists() else ""
    sampler = json.loads(told)["pid"] if told else None
    return [pid for pid in sshd.processes() if b"-D" not in _command(pid) and pid != sampler]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"-D"  # it has ended


def test_a_second_start_says_who_has_it(project: Project) -> None:
    project.devsync("start")
    pid = project.pid()
    again = project.devsync("start")
    assert f"runs already for project (process {pid})" in again.stderr
    refused = project.devsync("start", "--foreground", expect=1)
    assert str(pid) in refused.stderr


def test_run_sees_the_saved_bytes_and_brings_its_results_back(project: Project) -> None:
    project.devsync("start")
    for number in range(20):
        (project.root / "code.py").write_text(f"open('out.txt', 'w').write('{'*' * number}')\n")
        project.devsync("run", "--", "python3", "code.py")
        assert (project.root / "out.txt").read_text() == "*" * number
    odd = ["printf", "%s|", "two words", "", "*", "$HOME", "a'b\"c", "new\nline", "ünïcode", "-n"]
    assert project.devsync("run", "--", *odd).stdout == "".join(f"{word}|" for word in odd[2:])
    assert project.devsync("run", "--", "sh", "-c", "exit 7", expect=7).stdout == ""
    assert project.devsync("run", "--", "sh", "-c", "kill -9 $$", expect=137).stdout == ""
    missing = project.devsync("run", "--", "no-such-command", expect=127)
    assert "no-such-command" in missing.stderr
    project.devsync("stop")
    assert "not running" in project.devsync("run", "--", "true", expect=125).stderr


def test_push_and_pull_work_without_a_daemon(project: Project, sshd: Sshd) -> None:
    (project.root / "a.txt").write_text("here\n")
    dry = project.devsync("push", "--dry-run")
    assert "create  a.txt" in dry.stdout
    assert not (there(sshd) / "a.txt").exists()
    project.devsync("push")
    assert (there(sshd) / "a.txt").read_text() == "here\n"
    (there(sshd) / "b.txt").write_text("and there\n")
    project.devsync("push")
    assert not (project.root / "b.txt").exists()
    project.devsync("pull")
    assert (project.root / "b.txt").read_text() == "and there\n"
    (project.root / "a.txt").write_text("changed here\n")
    (there(sshd) / "a.txt").write_text("and changed there too\n")
    project.devsync("push", expect=5)
    assert (there(sshd) / "a.txt").read_text() == "and changed there too\n"
    assert (project.root / "a.txt").read_text() == "changed here\n"
