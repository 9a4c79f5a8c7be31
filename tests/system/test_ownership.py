"""Whose folder it is, by the command line and OpenSSH's server: one devsync's at a time, and a known one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree, wait_for

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def first(tmp_path: Path, sshd: Sshd) -> Iterator[Project]:
    made = Project(tmp_path / "first", config_for(sshd))
    (made.root / "model.py").write_text("of the first\n")
    yield made
    made.close()


@pytest.fixture
def second(tmp_path: Path, sshd: Sshd) -> Iterator[Project]:
    """Another computer, as far as devsync can tell: another folder and another state, the same machine."""
    made = Project(tmp_path / "second", config_for(sshd))
    (made.root / "other.py").write_text("of the second one\n")
    yield made
    made.close()


def named(project: Project) -> str:
    return f"{socket.gethostname()}:{project.root}"


def halted(project: Project) -> bool:
    return bool(project.status()["state"] == "halted")


def test_112_the_second_is_refused_and_a_stop_frees_the_folder(
    first: Project, second: Project, sshd: Sshd
) -> None:
    first.devsync("start")
    before = tree(there(sshd)), tree(second.root)
    for words in (("start",), ("push",), ("pull", "--rejoin")):
        refused = second.devsync(*words, expect=4)
        assert f"the folder on the machine belongs to {named(first)}" in refused.stderr
        assert "--take-over" in refused.stderr
    assert (tree(there(sshd)), tree(second.root)) == before

    first.devsync("stop")
    other = second.devsync("push", expect=4)
    assert f"was synchronised by another project: {named(first)}" in other.stderr
    assert (tree(there(sshd)), tree(second.root)) == before
    second.devsync("push", "--rejoin")
    assert set(tree(there(sshd))) == {"devsync.toml", "model.py", "other.py"}
    first.devsync("push", expect=4)
    assert (first.root / "model.py").read_text() == "of the first\n"


def test_112_taking_over_halts_the_first(first: Project, second: Project, sshd: Sshd) -> None:
    first.devsync("start")
    second.devsync("start", "--take-over", expect=4)
    assert first.status()["state"] == "watching", "nobody is stopped in vain"
    second.devsync("start", "--take-over", "--rejoin")
    (first.root / "model.py").write_text("saved when it was too late\n")
    wait_for("the first halts", lambda: halted(first), pause=0.1)
    status = first.status()
    assert f"was taken over by {named(second)}" in status["troubles"]["sync"]["message"]
    assert status["tunnels"][0]["state"] == "open"
    refused = first.devsync("flush", expect=4)
    assert named(second) in refused.stderr
    assert (there(sshd) / "model.py").read_text() == "of the first\n"
    (second.root / "model.py").write_text("saved by the second, which has it now\n")
    second.devsync("flush")
    assert "which has it now" in (there(sshd) / "model.py").read_text()
    assert first.status()["state"] == "halted"


def test_112_one_that_slept_through_a_take_over_writes_nothing(
    first: Project, second: Project, sshd: Sshd
) -> None:
    first.devsync("start")
    pid = first.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        (first.root / "model.py").write_text("saved while its devsync slept\n")
        (first.root / "new.py").write_text("as was this\n")
        second.devsync("push", "--take-over", "--rejoin")
        before = tree(there(sshd))
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for("the first halts", lambda: halted(first), pause=0.1)
    assert tree(there(sshd)) == before
    assert set(tree(first.root)) == {"devsync.toml", "model.py", "new.py"}


def test_a_copied_project_is_another_one(first: Project, sshd: Sshd, tmp_path: Path) -> None:
    first.devsync("start")
    copy = Project(tmp_path / "copied", config_for(sshd), git=False)
    shutil.copytree(first.root, copy.root, symlinks=True, dirs_exist_ok=True)
    (copy.root / "model.py").unlink()
    refused = copy.devsync("push", expect=4)
    assert f"belongs to {named(first)}" in refused.stderr
    first.devsync("stop")
    copy.devsync("push", expect=4)
    assert (there(sshd) / "model.py").exists()
    first.devsync("push")
    assert tree(first.root) == tree(there(sshd))


def test_104_a_machine_made_anew_deletes_nothing_here(first: Project, sshd: Sshd) -> None:
    first.devsync("start")
    before = tree(first.root)
    shutil.rmtree(there(sshd))
    there(sshd).mkdir()
    (first.root / "model.py").write_text("saved after the machine was rebuilt\n")
    wait_for("it halts", lambda: halted(first), pause=0.1)
    assert set(tree(first.root)) == set(before)
    assert tree(there(sshd)) == {}

    first.devsync("stop")
    shutil.rmtree(there(sshd))
    refused = first.devsync("pull", expect=4)
    assert "the remote folder is not the one that was synchronised before" in refused.stderr
    assert set(tree(first.root)) == set(before)
    first.devsync("push", "--rejoin")
    assert tree(there(sshd)) == tree(first.root)


def test_107_a_folder_from_an_older_backup_halts(first: Project, sshd: Sshd, tmp_path: Path) -> None:
    first.devsync("push")
    shutil.copytree(there(sshd), tmp_path / "backup")
    for text in ("edited\n", "edited again\n"):
        (first.root / "model.py").write_text(text)
        first.devsync("push")
    shutil.rmtree(there(sshd))
    shutil.copytree(tmp_path / "backup", there(sshd))
    refused = first.devsync("pull", expect=4)
    assert "is older than what was synchronised last" in refused.stderr
    assert (first.root / "model.py").read_text() == "edited again\n"


def test_109_a_project_inside_another_ones_folder_is_refused(
    first: Project, second: Project, sshd: Sshd
) -> None:
    first.devsync("push")
    config = (second.root / "devsync.toml").read_text()
    (second.root / "devsync.toml").write_text(config.replace("~/work/project", "~/work/project/inside"))
    refused = second.devsync("push", expect=4)
    assert f"is a part of another project's folder on the machine: {there(sshd)}" in refused.stderr
    assert not (there(sshd) / "inside").exists()
