"""Two computers and one folder on a machine: one devsync has it, the other is told who."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree


@pytest.fixture
def two(tmp_path: Path, sshd: Sshd) -> Iterator[tuple[Project, Project]]:
    """Two projects on two computers, with the same folder on the same machine."""
    made = [Project(tmp_path / name, config_for(sshd)) for name in ("first", "second")]
    for number, project in enumerate(made):
        (project.root / f"{number}.txt").write_text(f"born on computer {number}" + "!" * number)
    yield made[0], made[1]
    for project in made:
        project.close()


def test_the_second_is_refused_and_changes_nothing(two: tuple[Project, Project], sshd: Sshd) -> None:
    first, second = two
    first.devsync("start")
    before = tree(there(sshd))
    refused = second.devsync("push", expect=4)
    assert "belongs to" in refused.stderr
    assert tree(there(sshd)) == before
    assert set(tree(second.root)) == {"devsync.toml", "1.txt"}


def test_taking_over_stops_the_first(two: tuple[Project, Project], sshd: Sshd) -> None:
    first, second = two
    first.devsync("start")
    second.devsync("push", "--take-over", "--rejoin")
    assert (there(sshd) / "1.txt").exists()
    (first.root / "0.txt").write_text("an edit that must not arrive any more")
    first.devsync("flush", expect=4)
    assert (there(sshd) / "0.txt").read_text() == "born on computer 0"
