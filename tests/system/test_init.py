"""`devsync init`: the file it writes, the questions it asks, and what it refuses."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from devsync import config
from devsync.config import Config


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """`devsync init` with nobody there to answer."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "devsync", "-C", str(folder), "init", *flags],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "HOME": str(folder.parent), "XDG_CONFIG_HOME": ""},
        cwd=folder.parent,
    )


def load(folder: Path) -> Config:
    return config.load(folder, environ={"HOME": str(folder.parent)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "my-model"
    found.mkdir()
    return found


AZURE = ("--subscription-id", "s-1", "--resource-group", "g", "--vm-name", "v")


def test_azure(folder: Path) -> None:
    found = run(folder, "--provider", "azure", *AZURE)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""
    assert "next: devsync start" in found.stderr
    read = load(folder)
    assert read.machine.azure is not None
    assert (read.machine.azure.subscription_id, read.machine.azure.vm_name) == ("s-1", "v")
    assert read.sync.path == "~/work/my-model"


def test_a_host_with_every_flag(folder: Path) -> None:
    (folder.parent / "key").write_text("k")
    flags = "--provider ssh --host h.example --port 2222 --user ada --identity-file key --path /data/x"
    found = run(folder, *flags.split())
    assert found.returncode == 0, found.stderr
    read = load(folder)
    assert (read.ssh.host, read.ssh.port, read.ssh.user) == ("h.example", 2222, "ada")
    assert read.ssh.identity_file == folder.parent / "key", "a flag means the folder that one is in"
    assert read.sync.path == "/data/x"
    assert "[machine.azure]" not in (folder / "devsync.toml").read_text()


def test_the_embedded_machine(folder: Path) -> None:
    assert run(folder, "--provider", "local").returncode == 0
    assert load(folder).machine.provider == "local"


def test_the_other_flags_tell_the_provider(folder: Path) -> None:
    assert run(folder, "--host", "h").returncode == 0
    assert load(folder).machine.provider == "ssh"


def test_every_setting_is_in_the_file(folder: Path) -> None:
    run(folder, *AZURE)
    text = (folder / "devsync.toml").read_text()
    for key in config.SETTINGS:
        assert f"{key.rpartition('.')[2]} = " in text
    live = "\n".join(line.removeprefix("# ") for line in text.splitlines() if " = " in line or "[" in line)
    (folder / "devsync.toml").write_text(live.replace('ca_bundle = "~/certificates.pem"', ""))
    (folder.parent / ".ssh").mkdir()
    (folder.parent / ".ssh/id_ed25519").write_text("k")
    assert load(folder).name == "my-model", "what is commented out can be taken in as it stands"


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        ("", "--provider"),
        ("--provider azure --vm-name v", "--subscription-id, --resource-group"),
        ("--provider ssh", "--host"),
    ],
)
def test_with_nobody_to_ask_the_missing_flags_are_named(folder: Path, flags: str, missing: str) -> None:
    found = run(folder, *flags.split())
    assert found.returncode == 2
    assert f"missing: {missing}\n" in found.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--provider azur", "did you mean 'azure'?"),
        ("--host h --port 70000", "must be from 1 to 65535"),
        ("--host h --port ssh", "must be a number"),
        ("--host h --path /mnt/x", "Azure's temporary disk"),
        ("--host h --identity-file gone", "no such identity file: gone"),
    ],
)
def test_a_wrong_flag_is_named(folder: Path, flags: str, said: str) -> None:
    found = run(folder, *flags.split())
    assert found.returncode == 2
    assert said in found.stderr
    assert not list(folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(folder: Path, kind: str) -> None:
    target = folder / "devsync.toml"
    if kind == "file":
        target.write_text("# mine\n")
    else:
        target.symlink_to("nowhere")
    found = run(folder, "--provider", "local")
    assert found.returncode == 1
    assert "there is one already" in found.stderr
    assert target.is_symlink() if kind == "link" else target.read_text() == "# mine\n"


def test_a_folder_that_is_no_checkout(folder: Path) -> None:
    assert "no git checkout" in run(folder, "--provider", "local").stderr
    (folder / "devsync.toml").unlink()
    (folder / ".git").mkdir()
    assert "no git checkout" not in run(folder, "--provider", "local").stderr


def test_a_file_that_does_not_load_is_not_left_behind(folder: Path) -> None:
    defaults = folder.parent / ".config/devsync/config.toml"
    defaults.parent.mkdir(parents=True)
    defaults.write_text("[idel]\nafter = 1\n")
    found = run(folder, "--provider", "local")
    assert found.returncode == 2
    assert f"{defaults}:2: idel.after: unknown key" in found.stderr
    assert not list(folder.iterdir())


def test_questions_on_a_terminal(folder: Path) -> None:
    ours, theirs = pty.openpty()
    with open(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "devsync", "-C", str(folder), "init"],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "HOME": str(folder.parent), "XDG_CONFIG_HOME": "", "TERM": "dumb"},
        )
        os.close(theirs)
        for question, answer in [
            (b"provider [azure]: ", b"sssh"),
            (b"provider [azure]: ", b"ssh"),
            (b"host: ", b"h.example"),
            (b"user", b"ada"),
            (b"path [~/work/my-model]: ", b""),
        ]:
            wait_for(terminal.fileno(), question)
            terminal.write(answer + b"\n")
        out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")
    read = load(folder)
    assert (read.ssh.host, read.ssh.user, read.sync.path) == ("h.example", "ada", "~/work/my-model")


def wait_for(terminal: int, text: bytes) -> None:
    """Read until `text` was shown; the test's own time limit ends a wait for ever."""
    seen = b""
    while text not in seen:
        seen += os.read(terminal, 1)
