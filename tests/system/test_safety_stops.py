"""The stops that ask: many deletions, and a side that is not the one that it was. Nothing is applied then."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.project import Project, tree

CONFIG = """\
[machine]
provider = "local"

[sync]
path = "~/work/project"
"""

FILES = 80


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Eighty files, the same here and on an embedded machine; no daemon runs."""
    made = Project(tmp_path, CONFIG)
    try:
        for number in range(FILES):
            (made.root / f"{number}.txt").write_text("x" * number)
        made.devsync("vm", "start")
        made.devsync("push")
        yield made
    finally:
        made.close()


def there(project: Project) -> Path:
    (home,) = project.state.glob("*/machine/home")
    return home / "work" / "project"


def in_trash(root: Path) -> int:
    """How many old versions the trash of a side holds."""
    return sum(path.name.isdigit() for path in (root / ".devsync" / "trash").rglob("*"))


def delete_most(folder: Path) -> None:
    for number in range(60):
        (folder / f"{number}.txt").unlink()


def test_many_deletions_there_wait_for_a_word(project: Project) -> None:
    delete_most(there(project))
    before = tree(project.root)
    halted = project.devsync("pull", expect=4)
    assert "60 of 81 files would be deleted" in halted.stderr
    assert tree(project.root) == before
    project.devsync("pull", "--accept-deletions")
    assert tree(project.root) == tree(there(project))
    assert in_trash(project.root) == 60


def test_many_deletions_here_wait_for_a_word(project: Project) -> None:
    delete_most(project.root)
    before = tree(there(project))
    project.devsync("push", expect=4)
    assert tree(there(project)) == before


def test_a_folder_that_came_back_empty_is_no_deletion(project: Project) -> None:
    shutil.rmtree(there(project))
    before = tree(project.root)
    halted = project.devsync("pull", expect=4)
    assert "the remote folder is not the one that was synchronised before" in halted.stderr
    assert tree(project.root) == before
    project.devsync("push", "--rejoin")
    assert tree(project.root) == before == tree(there(project))


def test_a_side_that_lost_all_its_files_is_no_deletion(project: Project) -> None:
    for path in there(project).glob("*.*"):
        if path.is_file():
            path.unlink()
    halted = project.devsync("pull", expect=4)
    assert "the remote side is empty" in halted.stderr
    assert len(tree(project.root)) == FILES + 1


def test_a_side_from_an_older_backup_is_noticed(project: Project, tmp_path: Path) -> None:
    shutil.copytree(there(project), tmp_path / "backup")
    for number in range(3):
        (project.root / "1.txt").write_text("edited " * (number + 2))
        project.devsync("push")
    shutil.rmtree(there(project))
    shutil.copytree(tmp_path / "backup", there(project))
    halted = project.devsync("pull", expect=4)
    assert "is older than what was synchronised last" in halted.stderr
    assert (project.root / "1.txt").read_text() == "edited " * 4


def test_43_88_a_giant_from_the_machine_waits_and_is_let_in(project: Project) -> None:
    with (project.root / "devsync.toml").open("a") as file:
        file.write('max_file = "1MiB"\n')
    project.devsync("start")
    (there(project) / "last.ckpt").write_bytes(b"x" * (1 << 20) + b"y")
    (there(project) / "loss.txt").write_text("0.1")
    project.devsync("flush")
    assert (project.root / "loss.txt").read_text() == "0.1", "the rest goes on"
    assert not (project.root / "last.ckpt").exists()
    assert "last.ckpt: is new and 1MiB large (sync.max_file)" in project.devsync("status").stdout
    assert project.status()["sync"]["held"] == 1
    project.devsync("start", "--accept-arrivals")
    assert (project.root / "last.ckpt").stat().st_size == (1 << 20) + 1
    assert project.status()["sync"]["held"] == 0


def test_105_169_a_running_daemon_halts_and_goes_on_when_it_is_told(project: Project) -> None:
    project.devsync("start")
    delete_most(there(project))
    assert "files would be deleted" in project.devsync("flush", expect=4).stderr
    assert project.status()["state"] == "halted", "and 169: `status` itself ends with 0, it has told"
    left = len(tree(project.root))
    assert left >= FILES + 1 - 50, "what came before the stop is at most what needs no word"
    assert left + in_trash(project.root) == FILES + 1, "and it is in the trash"
    project.devsync("start", "--accept-deletions")
    project.devsync("flush")
    assert tree(project.root) == tree(there(project))
