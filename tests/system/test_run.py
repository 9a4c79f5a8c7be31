"""`run` beside the same command run here: words, streams, exit status, signals; and `ssh`."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.system.conftest import config_for, there
from tests.system.project import Project, wait_for

DEVSYNC = [sys.executable, "-P", "-m", "devsync"]
IGNORES_TERM = "trap '' TERM; echo up; while [ ! -e stop ]; do sleep 0.05; done; echo down; exit 6"
BIG = 30 * 1024 * 1024

MATRIX: dict[str, list[str]] = {
    "quotes": ["printf", "%s|", "it's", '"', "\\", "\\\\n", "`id`", "$(id)", "$HOME", "!x", "a;b&c|d<e>f"],
    "newlines": ["printf", "%s|", "a\nb", "\n", "tab\there", "\r"],
    "empty": ["printf", "%s|", "", "", "x", ""],
    "globs": ["printf", "%s|", "*", "?", "[a-z]*", "~", "{a,b}"],
    "unicode": ["printf", "%s|", "ünïcode", "日本語", "🦊", "e\u0301"],
    "no utf-8": ["printf", "%s|", "\udcff\udcfe"],
    "options": ["printf", "%s|", "-n", "--", "--help", "-"],
    "status": ["sh", "-c", "exit 201"],
    "killed": ["sh", "-c", "kill -9 $$"],
    "missing": ["no-such-command-at-all"],
    "both streams": ["sh", "-c", "echo out; echo err >&2; echo out again"],
    "closes stdout": ["sh", "-c", "echo first; exec 1>&-; echo to nobody; echo err >&2; exit 3"],
    "input": ["sh", "-c", "cat; echo done"],
    "arguments in a file": ["sh", "-c", "xargs -0 -n 500 sh -c 'echo $#' sh <arguments | sort | uniq -c"],
}
STDIN = b"typed\0here\xff\n" * 1000


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("run")
    sshd = Sshd(folder / "machine")
    sshd.start()
    project = Project(folder, config_for(sshd))
    (project.root / "arguments").write_bytes(b"".join(b"argument %d \"'*\n\0" % n for n in range(20_000)))
    project.devsync("start")
    yield project
    project.close()
    sshd.stop()


def execute(project: Project, words: list[str], stdin: bytes = b"") -> tuple[bytes, bytes, int]:
    done = subprocess.run(
        [os.fsencode(word) for word in words],
        cwd=project.root,
        env=project.environ,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("words", MATRIX.values(), ids=MATRIX.keys())
def test_it_is_as_if_it_ran_here(started: Project, words: list[str]) -> None:
    out, err, status = execute(started, [*DEVSYNC, "run", "--no-sync", "--no-pull", "--", *words], STDIN)
    shell = ["/bin/sh", "-c", 'exec "$@"', "sh", *words]  # what says that there is no such command
    expected = execute(started, shell, STDIN)
    if status == 127:
        assert words[0].encode() in err and expected[2] == 127
        return
    assert (out, err, status) == (*expected[:2], expected[2] % 256 if expected[2] >= 0 else 128 - expected[2])


def test_big_output_arrives_byte_for_byte(started: Project) -> None:
    program = (
        f"import sys\nfor n in range({BIG} >> 16): sys.stdout.buffer.write(n.to_bytes(4, 'big') * (1 << 14))"
    )
    words = ["python3", "-c", program]
    out, err, status = execute(started, [*DEVSYNC, "run", "--no-sync", "--no-pull", "--", *words])
    assert (status, err, len(out)) == (0, b"", BIG)
    assert hashlib.sha256(out).digest() == hashlib.sha256(execute(started, words)[0]).digest()


def test_variables_and_names(started: Project) -> None:
    odd = 'it\'s $HOME "*"\n.'
    done = started.devsync("run", "--env", f"A={odd}", "--env", "B=", "--", "printenv", "A", "B")
    assert done.stdout == f"{odd}\n\n"
    assert "sets no variable" in started.devsync("run", "--env", "no", "--", "true", expect=125).stderr
    assert "no name for a job" in started.devsync("run", "--name", "a b", "--", "true", expect=125).stderr
    long = started.devsync("run", "--no-sync", "--no-pull", "--", "true", "x" * 125_000, expect=125)
    assert "too long" in long.stderr


def begin(project: Project, *words: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*DEVSYNC, "run", "--no-sync", "--no-pull", "--", *words],
        cwd=project.root,
        env=project.environ,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_program_that_ignores_sigterm_goes_on_until_it_ends_by_itself(started: Project) -> None:
    with begin(started, "sh", "-c", IGNORES_TERM) as process:
        assert line(process) == b"up\n"
        for _ in range(20):  # one may come while the one before is being passed on
            process.send_signal(signal.SIGTERM)
        (started.root / "stop").touch()
        assert line(process) == b"down\n"
        assert process.wait(30) == 6
    (started.root / "stop").unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_input_that_nobody_reads_does_not_delay_a_signal(started: Project, number: int) -> None:
    with begin(started, "sh", "-c", "echo up; exec sleep 60", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        assert line(process) == b"up\n"

        def full() -> bool:
            assert process.stdin is not None
            try:
                for _ in range(100):
                    os.write(process.stdin.fileno(), b"x" * 65536)
            except BlockingIOError:
                return True
            return False

        wait_for("the input is full", lambda: full() and time.sleep(0.2) is None and full())  # type: ignore[func-returns-value]  # to look once more
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert time.monotonic() - began < 3.0


def test_ssh_takes_the_users_own_client_or_ours(started: Project, tmp_path: Path) -> None:
    words = ["sh", "-c", 'pwd; printf "%s|" "$@"; cat; exit 255', "sh", "a  b", "", "*"]
    expected = b"/work/project\na  b||*|" + STDIN
    out, _, status = execute(started, [*DEVSYNC, "ssh", "--", *words], STDIN)
    assert status == 255 and out.endswith(expected)
    only = tmp_path / "bin"
    only.mkdir()
    (only / "git").symlink_to("/usr/bin/git")
    without = {**started.environ, "PATH": str(only)}
    done = subprocess.run(
        [*DEVSYNC, "ssh", "--", *words],
        cwd=started.root,
        env=without,
        input=STDIN,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 255 and done.stdout == out
    shell = execute(started, [*DEVSYNC, "ssh"], b"pwd; exit 7\n")
    assert shell[2] == 7 and shell[0].endswith(b"/work/project\n")


def test_out_of_reach_is_said_at_once(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    sshd.stop()
    wait_for("it is noticed", lambda: project.status()["state"] == "offline")
    done = project.devsync("run", "--timeout", "1s", "--", "true", expect=125)
    assert "not started" in done.stderr and "hint:" in done.stderr
    assert "could not reach" in project.devsync("ssh", "--", "true", expect=3).stderr
    assert "out of reach" in project.devsync("run", "--no-sync", "--detach", "--", "true", expect=125).stderr
    assert not there(sshd).joinpath(".devsync", "jobs").exists()
