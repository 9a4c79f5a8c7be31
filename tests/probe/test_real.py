"""Real shells, a real tmux and real work, seen by the real probes; each case stands in docs/idle.md.

The view is bounded to processes with a mark of ours, as on the embedded machine: what else this computer
does is somebody else's work.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from devsync.core.observation import Observation, Thresholds
from devsync.probe.cpu import Cpu
from devsync.probe.sessions import Sessions
from devsync.probe.view import EMBEDDED, View

PAGE = Path(__file__).parents[2] / "docs" / "idle.md"
BEGIN, END = "<!-- cases -->\n", "<!-- end of the cases -->\n"
WINDOW = 0.6
"""Seconds between two looks at the processors."""

BURN = "while True: pass"


class Machine:
    """What a case does; everything that it started is ended by `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self.environ = {**os.environ, EMBEDDED: folder.name, "TMUX_TMPDIR": str(folder)}
        self.view = View(self.environ)

    def close(self) -> None:
        self._stack.close()

    def start(self, *words: str) -> None:
        """A process of somebody's without a terminal."""
        process = subprocess.Popen(words, env=self.environ, stdout=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def shell(self) -> tuple[int, str]:
        """An open shell: the end that somebody types at, and the name of its terminal."""
        return self._stack.enter_context(_shell(self.environ))

    def tmux(self, command: str) -> None:
        """A detached session."""
        self._tmux("new-session", "-d", "-s", "work", command)
        server = int(self._tmux("display-message", "-p", "#{pid}"))
        pane = int(self._tmux("display-message", "-p", "#{pane_pid}"))
        self._stack.callback(self._tmux, "kill-server")
        assert server != pane

    def _tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-f", "/dev/null", *words],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        return done.stdout.strip() or "0"

    def cpu(self) -> Observation:
        """What the processors do for a while."""
        probe = Cpu()
        probe.look(self.view)
        time.sleep(WINDOW)  # the window is a length of time itself
        self.view.processes.forget()
        seen = probe.look(self.view)
        assert seen is not None
        return seen

    def sessions(self) -> Observation:
        """What people do."""
        self.view.processes.forget()
        return Sessions().look(self.view)


@contextmanager
def _shell(environ: dict[str, str]) -> Iterator[tuple[int, str]]:
    pid, ours = pty.fork()
    if not pid:
        os.execve("/bin/sh", ["sh", "-c", "echo up; while read line; do :; done"], environ)
    try:
        assert b"up" in os.read(ours, 100)
        yield ours, os.readlink(f"/proc/{pid}/fd/0")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ours)


def silent_shell(machine: Machine) -> Observation:
    _, terminal = machine.shell()
    os.utime(terminal, (time.time() - 3600, time.time() - 3600))
    return machine.sessions()


def used_shell(machine: Machine) -> Observation:
    ours, terminal = machine.shell()
    os.utime(terminal, (time.time() - 3600, time.time() - 3600))
    os.write(ours, b"ls\n")
    deadline = time.monotonic() + 10.0
    while not machine.sessions().level and time.monotonic() < deadline:
        time.sleep(0.02)  # the kernel hands it over when it likes
    return machine.sessions()


def burning(machine: Machine) -> Observation:
    machine.start(sys.executable, "-c", BURN)
    return machine.cpu()


def waiting(machine: Machine) -> Observation:
    machine.start("sleep", "600")
    return machine.cpu()


def tmux_that_works(machine: Machine) -> Observation:
    machine.tmux(f"{sys.executable} -c '{BURN}'")
    return machine.cpu()


def tmux_that_rests(machine: Machine) -> Observation:
    machine.tmux("sleep 600")
    return machine.cpu()


def tmux_is_nobody(machine: Machine) -> Observation:
    machine.tmux("while :; do echo line; sleep 0.1; done")
    return machine.sessions()


@dataclass(frozen=True)
class Case:
    """What is there, whether that is work, and why."""

    what: str
    make: Callable[[Machine], Observation]
    busy: bool
    why: str


CASES = (
    Case("a shell that was left open in silence", silent_shell, False, "nobody is there"),
    Case("a shell that somebody types in", used_shell, True, "its terminal has input"),
    Case("one core of several burns", burning, True, "the average of many cores would hide it"),
    Case("a process that waits", waiting, False, "it uses nothing"),
    Case("tmux, detached, with work in it", tmux_that_works, True, "work needs nobody to watch it"),
    Case("tmux, detached, at rest", tmux_that_rests, False, "a session alone is no work"),
    Case("tmux with output that nobody reads", tmux_is_nobody, False, "a pane is no person's terminal"),
)


@pytest.mark.flaky(reruns=1)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__)
def test_what_is_there_is_seen_as_what_it_is(case: Case, tmp_path: Path) -> None:
    if "tmux" in case.what and shutil.which("tmux") is None:
        pytest.skip("there is no tmux")
    machine = Machine(tmp_path)
    try:
        seen = case.make(machine)
        assert not seen.error
        assert Thresholds().over(seen) is case.busy, seen
    finally:
        machine.close()


def table() -> str:
    """As it stands in docs/idle.md."""
    rows = [f"| {case.what} | {'busy' if case.busy else 'not busy'} | {case.why} |\n" for case in CASES]
    return "| what is there | verdict | why |\n|---|---|---|\n" + "".join(rows)


def test_the_page_shows_these_cases() -> None:
    shown = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert shown == table()
