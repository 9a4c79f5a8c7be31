"""A large file over a line that breaks: the daemon goes on where it stopped, and sends what is new."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.fakes.wan import Wan
from tests.system.config import config_for
from tests.system.conftest import there
from tests.system.project import Project, wait_for

pytestmark = pytest.mark.timeout(120)

DATA = random.Random(4).randbytes(20_000_000)


@pytest.fixture
def slow(tmp_path: Path, sshd: Sshd) -> Iterator[tuple[Project, Wan]]:
    """A project that takes no more than 8 MiB a second of its line."""
    with Wan(sshd.port) as wan:
        project = Project(tmp_path, config_for(sshd, port=wan.port, further='bandwidth = "8MiB"\n'))
        yield project, wan
        project.close()


def arrived(folder: Path) -> int:
    """Bytes of the content that is on its way."""
    return sum(part.stat().st_size for part in (folder / ".devsync/tmp").glob("*.part"))


def test_a_large_file_survives_a_cut_and_an_edit_of_it_is_small(
    slow: tuple[Project, Wan], sshd: Sshd
) -> None:
    project, wan = slow
    project.devsync("start")
    here, far = project.root / "model.bin", there(sshd) / "model.bin"
    begun, before = time.monotonic(), wan.carried
    here.write_bytes(DATA)
    wait_for("a part", lambda: arrived(there(sshd)) > 8_000_000, pause=0.02)
    wan.cut()
    wait_for("the file", lambda: far.exists() and far.stat().st_size == len(DATA), patience=60.0)
    assert far.read_bytes() == DATA
    assert time.monotonic() - begun > 2.0, "20 MB at 8 MiB a second"
    # What was on the line when it broke, some MB, is sent twice.
    assert wan.carried - before < 28_000_000
    project.devsync("flush")

    before = wan.carried
    here.write_bytes(b"in front" + DATA)
    wait_for("the edit", lambda: far.stat().st_size == len(DATA) + 8)
    project.devsync("flush")
    assert far.read_bytes() == b"in front" + DATA
    far.write_bytes(DATA[:10_000_000] + b"in the middle" + DATA[10_000_000:])
    project.devsync("flush")
    assert here.read_bytes() == far.read_bytes()
    assert wan.carried - before < 1_000_000
