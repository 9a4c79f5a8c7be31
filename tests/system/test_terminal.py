"""What a person sees and types: the question for a host key, a command in a terminal, a screen."""

from __future__ import annotations

import sys

import pytest

from tests.fakes.sshd import Sshd
from tests.fakes.terminal import Terminal
from tests.system.conftest import there
from tests.system.project import Project, wait_for

pytestmark = pytest.mark.timeout(60)


def terminal(project: Project, *words: str, **environ: str) -> Terminal:
    return Terminal([sys.executable, "-P", "-m", "devsync", *words], project.root, project.environ | environ)


def test_a_host_key_is_asked_for_once_and_no_means_no(project: Project, sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    with terminal(project, "start") as screen:
        screen.until("[y/N]")
        assert sshd.fingerprint() in screen.shown
        assert "ssh-keygen -lf" in screen.shown, "how to find out is said"
        screen.type("n\r")
        assert screen.end() == 3
    assert sshd.known_hosts.read_text() == ""
    assert not there(sshd).exists()
    project.devsync("status", expect=3)

    with terminal(project, "start") as screen:
        screen.until("[y/N]")
        screen.type("y\r")
        assert screen.end() == 0
        assert screen.shown.count("[y/N]") == 1
        assert "the same here and on 127.0.0.1" in screen.shown
    assert len(sshd.known_hosts.read_text().splitlines()) == 1


def test_ctrl_c_at_the_question_leaves_nothing_running(project: Project, sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    with terminal(project, "start") as screen:
        screen.until("[y/N]")
        assert screen.interrupt() == 130
        assert "Traceback" not in screen.shown
    wait_for("nothing runs", lambda: not project.daemons(), patience=5.0)


def test_a_command_in_a_terminal(project: Project) -> None:
    project.devsync("start")
    script = 'trap "stty size" WINCH; test -t 0 && test -t 1 && echo yes; while :; do sleep 0.05; done'
    with terminal(project, "run", "--", "sh", "-c", script) as screen:
        screen.until("yes")
        screen.resize(133)
        screen.until("24 133")
        screen.type("\x03")
        assert screen.end() == 130
    with terminal(
        project, "run", "--", "sh", "-c", 'echo "$TERM"; read word; echo "<$word>"; exit 3'
    ) as screen:
        screen.until("xterm-256color")
        screen.type("hello\r")
        assert screen.end() == 3
        assert "<hello>" in screen.shown


def test_a_screen_that_follows(project: Project) -> None:
    project.devsync("start")
    with terminal(project, "status", "--watch") as screen:
        screen.until("1 (two-way)")
        (project.root / "new.txt").write_text("seen\n")
        screen.until("2 (two-way)")
        screen.type("\x03")
        assert screen.end() == 0
    with terminal(project, "status", "--watch") as screen:
        screen.until("watching")
        project.devsync("stop")
        assert screen.end() == 3
        assert "the daemon is stopping" in screen.shown
