"""A save while much is being mirrored, with the real daemon over a slow line, in both directions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.fakes.wan import Wan
from tests.system.config import config_for
from tests.system.conftest import there
from tests.system.project import Project, wait_for

pytestmark = pytest.mark.timeout(120)

DATA = random.Random(5).randbytes(20_000_000)


@pytest.fixture
def slow(tmp_path: Path, sshd: Sshd) -> Iterator[tuple[Project, Wan]]:
    """A project at the end of a line of 6 MB a second."""
    with Wan(sshd.port, delay=0.01, rate=6e6) as wan:
        project = Project(tmp_path, config_for(sshd, port=wan.port))
        (project.root / "save.py").write_text("first\n")
        yield project, wan
        project.close()


def arrived(folder: Path) -> int:
    """Bytes of the content that is on its way."""
    return sum(part.stat().st_size for part in (folder / ".devsync/tmp").glob("*.part"))


def reads(path: Path, text: str) -> bool:
    return path.read_text() == text


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_88_a_save_does_not_wait_for_a_large_file(slow: tuple[Project, Wan], sshd: Sshd, up: bool) -> None:
    project, wan = slow
    project.devsync("start")
    far = there(sshd)
    source, target = (project.root, far) if up else (far, project.root)
    before = wan.carried
    (source / "new.bin").write_bytes(DATA)
    wait_for("a part", lambda: arrived(target) > 1_000_000, pause=0.01)
    for text in ("saved once\n", "and once more\n"):
        (project.root / "save.py").write_text(text)
        wait_for("the save", partial(reads, far / "save.py", text), pause=0.01)
    assert not (target / "new.bin").exists(), "the saves were there before it"
    moving = project.status()["sync"]
    assert (moving["in_flight"], moving["pending"]) == (1, 1)
    assert 0 < moving["moved_bytes"] < moving["planned_bytes"]
    assert moving["rate_bytes"] > 0
    assert moving["remaining_seconds"] >= 0
    project.devsync("flush")
    assert (target / "new.bin").read_bytes() == DATA
    assert wan.carried - before < len(DATA) * 1.1, "nothing travels twice"
    rested = project.status()["sync"]
    assert (rested["in_flight"], rested["rate_bytes"], rested["remaining_seconds"]) == (0, None, None)
