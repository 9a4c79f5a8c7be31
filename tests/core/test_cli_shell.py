"""The command line's shell: what is imported, what is printed where, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from devsync import __version__
from devsync.cli import main as shell
from devsync.cli.context import Project, pass_project
from devsync.cli.main import COMMANDS, Entry, main
from devsync.cli.options import seconds
from devsync.cli.output import colours, console, data, document, printable
from devsync.ports import DevsyncError, Halted, Misuse, Unavailable, Unfinished


def run(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devsync", *arguments],
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


# ---------------------------------------------------------------- lazy


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    ctx = click.Context(shell.devsync)
    for name, entry in COMMANDS.items():
        command = shell.devsync.get_command(ctx, name)
        assert command is not None
        assert command.get_short_help_str(200) == entry.help, name
        assert command.name == name


def test_help_imports_click_and_nothing_heavy() -> None:
    ours = ["devsync", "devsync.__main__", "devsync.cli", "devsync.cli.main"]
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "devsync", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if "|" in line}
    assert {name for name in imported if name.split(".")[0] == "devsync"} <= set(ours)
    heavy = {
        "paramiko",
        "azure",
        "rich",
        "apscheduler",
        "watchdog",
        "pathspec",
        "sqlite3",
        "asyncio",
        "tomllib",
    }
    assert not heavy & {name.split(".")[0] for name in imported}
    assert "Write a devsync.toml" in found.stdout


def test_no_command_pays_for_what_it_does_not_use() -> None:
    modules = sorted({entry.module for entry in COMMANDS.values()})
    found = subprocess.run(
        [sys.executable, "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    heavy = {"paramiko", "azure", "rich", "apscheduler", "watchdog", "pathspec", "sqlite3", "asyncio"}
    assert not heavy & {name.split(".")[0] for name in found.stdout.split()}


def test_version() -> None:
    found = run("--version")
    assert (found.returncode, found.stdout, found.stderr) == (0, f"devsync {__version__}\n", "")


# ---------------------------------------------------------------- endings


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], object]], int]]:
    """Runs a command whose body is the given function, and returns the exit status."""

    def end(body: Callable[[], object]) -> int:
        @click.command("try")
        def command() -> None:
            body()

        monkeypatch.setattr(shell.devsync, "get_command", lambda ctx, name: command)
        return main(["try"])

    monkeypatch.setattr(shell, "COMMANDS", {"try": Entry("", "", "")})
    yield end


def throws(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "status"),
    [(DevsyncError, 1), (Misuse, 2), (Unavailable, 3), (Halted, 4), (Unfinished, 5)],
)
def test_an_error_is_a_sentence_and_a_hint(
    ends: Callable[..., int], capsys: pytest.CaptureFixture[str], error: type[DevsyncError], status: int
) -> None:
    assert ends(throws(error("no such thing: \x1b[31m", hint="find one"))) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "devsync: no such thing: \\x1b[31m\n\nhint: find one\n"


def test_no_hint_no_blank_line(ends: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    ends(throws(DevsyncError("no such thing")))
    assert capsys.readouterr().err == "devsync: no such thing\n"


def test_a_status_of_its_own(ends: Callable[..., int]) -> None:
    assert ends(lambda: click.get_current_context().exit(77)) == 77
    assert ends(lambda: None) == 0


def test_bad_usage(ends: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert ends(throws(click.UsageError("no"))) == 2
    assert main(["--no-such-option"]) == 2
    assert main(["-C", "/no/such/folder", "try"]) == 2
    assert main(["tri"]) == 2
    assert "no command 'tri', did you mean 'try'?" in capsys.readouterr().err


def test_ctrl_c(ends: Callable[..., int]) -> None:
    assert ends(throws(KeyboardInterrupt())) == 130
    assert ends(throws(click.Abort())) == 1


def test_a_bug_is_one_line_and_a_file(
    ends: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DEVSYNC_STATE_DIR", str(tmp_path))
    assert ends(throws(ZeroDivisionError("oh"))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("devsync: ZeroDivisionError: oh\n\nhint: this is a bug in devsync")
    assert "Traceback" not in err
    (file,) = tmp_path.iterdir()
    assert str(file) in err
    assert "Traceback" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_bug_where_no_state_can_be_kept(
    ends: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("DEVSYNC_STATE_DIR", str(tmp_path / "gone"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ends(throws(ZeroDivisionError())) == 1
    (file,) = tmp_path.iterdir()
    assert str(file) in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        found = subprocess.run(
            [sys.executable, "-m", "devsync", "--help"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    assert found.stderr == b""


# ---------------------------------------------------------------- the project


def test_a_command_is_handed_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Project] = []

    @click.command("try")
    @pass_project
    def command(project: Project, /) -> None:
        seen.append(project)

    monkeypatch.setattr(shell, "COMMANDS", {"try": Entry("", "", "")})
    monkeypatch.setattr(shell.devsync, "get_command", lambda ctx, name: command)
    monkeypatch.setenv("DEVSYNC_STATE_DIR", str(tmp_path / "state"))
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "devsync.toml").write_text('[machine]\nprovider = "local"\n')
    assert main(["-C", str(below), "try"]) == 0
    (project,) = seen
    assert (project.start, project.root()) == (below, tmp_path)
    assert project.config().machine.provider == "local"
    assert project.state().parent == tmp_path / "state"
    assert project.socket().name == "control.sock"


# ---------------------------------------------------------------- printing


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("ä 漢 🙂", "ä 漢 🙂"),
        ("a\x1b]0;x\x07", "a\\x1b]0;x\\x07"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2028", "\\u2028"),
        ("\x9b1m", "\\x9b1m"),
        (os.fsdecode(b"\xff.py"), "\\xff.py"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_data_and_documents(capsys: pytest.CaptureFixture[str]) -> None:
    data("a\x1b\tb")
    document({"path": os.fsdecode(b"\xff")})
    assert capsys.readouterr().out == 'a\\x1b\tb\n{\n  "path": "\\udcff"\n}\n'


def test_colours_only_for_whoever_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with open(tmp_path / "file", "w") as file:
        assert not colours(file)
        monkeypatch.setattr("devsync.cli.output.is_terminal", lambda stream: True)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        assert colours(file)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not colours(file)
        assert console(file).no_color


def test_seconds() -> None:
    assert seconds("2h") == 7200
    with pytest.raises(click.BadParameter, match="needs a unit"):
        seconds("2")
