"""A command on the machine: what is typed is what runs, in the right folder, and it can be ended."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from devsync.core.jobs import Order
from devsync.ports import Process, Terminal, Unavailable
from devsync.work.command import CHUNK, Run, Surroundings
from devsync.work.command import command_line as line_of
from tests.daemon.rig import PATIENCE, until
from tests.fakes.connection import FakeConnection

AWKWARD = [
    "a b",
    "",
    "$HOME",
    "`x`",
    "$(x)",
    "it's",
    '"',
    "\\",
    "\\\\n",
    "a\nb",
    "!x",
    "-n",
    "~",
    "*",
    ";&|<>",
]
SHELLS = [path for name in ("dash", "bash", "zsh", "fish", "tcsh") if (path := shutil.which(name))]
FOLDERS = [
    "~",
    "~/work",
    "~/it's a \\ folder!",
    "work",
    "-dash",
    "work/$HOME",
    "~/new\nline",
    "/{home}/a",
    "~x",
]

spawned = itertools.count()


def command_line(folder: str, words: Sequence[str]) -> str:
    return line_of(Surroundings(folder), Order(words))


def spawn(name: str, body: Callable[[], None]) -> threading.Thread:
    def quiet() -> None:
        try:
            body()
        except Unavailable:
            pass  # as the supervisor does

    thread = threading.Thread(target=quiet, name=f"{name}-{next(spawned)}")
    thread.start()
    return thread


def env(home: Path, login_shell: str = "/bin/sh") -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "SHELL": login_shell, "LANG": "C.UTF-8"}


# ------------------------------------------------------------ the line


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("login", ["/bin/sh", "/bin/bash", "/usr/bin/fish", ""])
def test_every_word_arrives_as_it_was_typed(tmp_path: Path, shell: str, login: str) -> None:
    words = [word for word in AWKWARD if "\n" not in word or "tcsh" not in shell]
    line = command_line(str(tmp_path), ["printf", "%s\\0", *words])
    done = subprocess.run([shell, "-c", line], env=env(tmp_path, login), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().split("\0")[:-1] == words


@pytest.mark.parametrize("folder", FOLDERS)
def test_it_runs_in_the_folder_whatever_its_name_and_the_profile(tmp_path: Path, folder: str) -> None:
    where = folder.replace("/{home}", str(tmp_path))
    place = tmp_path if where == "~" else tmp_path / (where[2:] if where.startswith("~/") else where)
    place.mkdir(parents=True, exist_ok=True)
    (tmp_path / ".profile").write_text("cd /; export FROM_PROFILE=yes\n")
    line = command_line(where, ["sh", "-c", 'printf "%s|%s" "$PWD" "$FROM_PROFILE"'])
    settings = {**env(tmp_path), "CDPATH": "/tmp"}
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=settings, cwd=tmp_path, capture_output=True, check=False
    )
    assert done.stdout.decode() == f"{place}|yes", done.stderr


def test_a_folder_that_is_not_there_is_a_failure_of_ours(tmp_path: Path) -> None:
    line = command_line("~/missing", ["true"])
    done = subprocess.run(["/bin/sh", "-c", line], env=env(tmp_path), capture_output=True, check=False)
    assert done.returncode == 125


# ------------------------------------------------------------ the shell, and what it does before


def execute(around: Surroundings, order: Order, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", line_of(around, order, marked=False)],
        env=env(home),
        input="input",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("shell", ["bash", "/bin/sh", "dash"])
def test_the_setup_comes_first_and_touches_neither_input_nor_output(tmp_path: Path, shell: str) -> None:
    setup = "cat; echo ready; export A=$((40 + 2)) B=setup; set -- lost"
    order = Order(["sh", "-c", 'echo "$A" "$B" "$1"; cat', "sh", "it's"], {"B": "the user's"})
    done = execute(Surroundings(str(tmp_path), shell, setup), order, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("42 the user's it's\ninput", "ready\n", 0)


def test_a_setup_that_fails_is_our_failure_and_nothing_runs(tmp_path: Path) -> None:
    around = Surroundings(str(tmp_path), setup="echo because >&2; false")
    done = execute(around, Order(["touch", "ran"]), tmp_path)
    assert done.returncode == 125
    assert done.stderr.startswith("because\n") and "the setup failed" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_conda_is_found_where_only_interactive_shells_know_it(tmp_path: Path) -> None:
    (tmp_path / "miniconda3/etc/profile.d").mkdir(parents=True)
    script = 'conda() { [ "$1" = activate ] && export CONDA_DEFAULT_ENV=$2; }\n'
    (tmp_path / "miniconda3/etc/profile.d/conda.sh").write_text(script)
    around = Surroundings(str(tmp_path), "bash", "conda activate py310")
    assert execute(around, Order(["printenv", "CONDA_DEFAULT_ENV"]), tmp_path).stdout == "py310\n"


def test_a_shell_that_is_not_there_is_our_failure(tmp_path: Path) -> None:
    done = execute(Surroundings(str(tmp_path), "/no/such/bash"), Order(["true"]), tmp_path)
    assert (done.returncode, "no shell /no/such/bash" in done.stderr) == (125, True)


# ------------------------------------------------------------ running it


class Heard:
    """Runs a command and hears its output."""

    def __init__(self, connection: FakeConnection, line: str, terminal: Terminal | None = None) -> None:
        self.out, self.err = bytearray(), bytearray()
        self.run = Run(connection, line, terminal)
        self.thread = threading.Thread(target=lambda: self.run.pump(spawn, self.out.extend, self.err.extend))
        self.thread.start()

    def end(self) -> int:
        self.thread.join(PATIENCE)
        status = self.run.wait()
        self.run.close()
        return status


def test_streams_input_and_status(tmp_path: Path) -> None:
    line = command_line(str(tmp_path), ["sh", "-c", "cat; echo problem >&2; exit 7"])
    heard = Heard(FakeConnection(env(tmp_path)), line)
    heard.run.feed(b"some input\n")
    heard.run.feed(b"x" * 100_000)
    heard.run.end_of_input()
    assert heard.end() == 7
    assert bytes(heard.out) == b"some input\n" + b"x" * 100_000
    assert bytes(heard.err) == b"problem\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_everything_that_it_started(tmp_path: Path, number: int) -> None:
    # The shell waits for its child, which has said that it runs: only with both gone it ends.
    words = ["sh", "-c", "trap 'exit 9' INT TERM; sh -c 'echo up; exec sleep 60'; exit 8"]
    connection = FakeConnection(env(tmp_path))
    heard = Heard(connection, command_line(str(tmp_path), words))
    until(lambda: heard.out == b"up\n")
    heard.run.signal(number)
    assert heard.end() == 9
    assert connection.commands[1].startswith(f"kill -s {signal.Signals(number).name[3:]} -- -")


def test_to_close_a_running_command_ends_it(tmp_path: Path) -> None:
    heard = Heard(
        FakeConnection(env(tmp_path)), command_line(str(tmp_path), ["sh", "-c", "echo up; exec sleep 60"])
    )
    until(lambda: heard.out == b"up\n")
    heard.run.close()
    heard.thread.join(PATIENCE)
    assert not heard.thread.is_alive()


def test_to_close_one_that_has_ended_sends_no_signal(tmp_path: Path) -> None:
    connection = FakeConnection(env(tmp_path))
    heard = Heard(connection, command_line(str(tmp_path), ["true"]))
    assert heard.end() == 0
    assert len(connection.commands) == 1


def test_to_close_on_a_broken_link_ends_as_well(tmp_path: Path) -> None:
    connection = FakeConnection(env(tmp_path))
    heard = Heard(connection, command_line(str(tmp_path), ["sh", "-c", "echo up; exec sleep 60"]))
    until(lambda: heard.out == b"up\n")
    connection.lose()
    heard.run.close()
    heard.thread.join(PATIENCE)
    assert not heard.thread.is_alive()


# ------------------------------------------------------------ the mark


class Chunks:
    """A process that says what it is told, in these pieces."""

    def __init__(self, out: Sequence[bytes], err: Sequence[bytes]) -> None:
        self._out, self._err = iter(out), iter(err)
        self.closed = False

    def recv(self, size: int) -> bytes:
        return next(self._out, b"")

    def recv_stderr(self, size: int) -> bytes:
        return next(self._err, b"")

    def wait(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Scripted(FakeConnection):
    def __init__(self, process: Chunks) -> None:
        super().__init__()
        self._process = process

    def exec(self, command: str, terminal: Terminal | None = None) -> Process:
        self.commands.append(command)
        return self._process  # type: ignore[return-value]  # as much of one as is used


def said(chunks: Sequence[bytes], terminal: bool) -> tuple[bytes, int | None]:
    """What a user sees of a stream that begins with the mark, and the process that was found in it."""
    process = Chunks(chunks, []) if terminal else Chunks([], chunks)
    heard = Heard(Scripted(process), "a line", Terminal("xterm", 80, 24) if terminal else None)
    heard.end()
    assert process.closed
    return bytes(heard.out if terminal else heard.err), heard.run._pid


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("noise", [b"", b"no such module: conda\n", b"devsync-pid:\n"])
def test_the_mark_is_taken_out_wherever_it_is_cut(terminal: bool, noise: bytes) -> None:
    end = b"\r\n" if terminal else b"\n"
    text = noise.replace(b"\n", end) + b"devsync-pid:4711" + end + b"output" + end
    for cut in range(len(text) + 1):
        shown, pid = said([piece for piece in (text[:cut], text[cut:]) if piece], terminal)
        assert (shown, pid) == (noise.replace(b"\n", end) + b"output" + end, 4711)
    assert said([bytes([byte]) for byte in text], terminal)[1] == 4711


def test_a_stream_without_a_mark_is_given_whole() -> None:
    assert said([b"Connection ", b"refused\n"], False) == (b"Connection refused\n", None)
    assert said([], True) == (b"", None)
    flood = [b"x" * CHUNK, b"y" * CHUNK, b"z"]
    assert said(flood, False) == (b"".join(flood), None)
