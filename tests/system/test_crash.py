"""Death at any moment: of the daemon, of the helper, of the session, of the link; and a full disk."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.fakes.wan import Wan
from tests.system.conftest import config_for
from tests.system.pair import Pair, started_pair
from tests.system.project import Project, tree, wait_for

pytestmark = pytest.mark.timeout(180)

FILES = 500
SEED = 20_26
TRANSFER = 0.6
"""Seconds within which a transfer of all files dies: a little longer than it takes."""


def content(number: int, version: int) -> bytes:
    """A whole version of a file: from nothing to half a megabyte, most of them small."""
    size = (0, 100, 3_000, 20_000, 500_000)[number % 5 if number % 50 == 4 else number % 4]
    line = b"file %d version %d\n" % (number, version)
    return line + line * ((size + version) // len(line))


class Work:
    """Five hundred files of a pair, of which half are edited here and half there, again and again."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.version = 0
        for number in range(FILES):
            path = self.pair.here / self.name(number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content(number, 0))
        pair.settle()

    def name(self, number: int) -> str:
        return f"folder{number % 10}/{number}.bin"

    def edit(self) -> None:
        """The next version of every file."""
        self.version += 1
        for number in range(FILES):
            side = self.pair.here if number % 2 else self.pair.far
            (side / self.name(number)).write_bytes(content(number, self.version))

    def on_their_way(self) -> list[Path]:
        """What has arrived and is not in its place yet. An empty file may stand there for the next save."""
        folders = [root / ".devsync" / "tmp" for root in (self.pair.here, self.pair.far)]
        return [path for folder in folders for path in folder.iterdir() if _size(path)]

    def assert_old_or_new(self) -> None:
        """Each path on each side is what it was or what it will be, and nothing else is there."""
        names = {self.name(number): number for number in range(FILES)}
        for root in (self.pair.here, self.pair.far):
            found = {name: data for name, (data, _) in tree(root).items() if name != "devsync.toml"}
            assert found.keys() == names.keys(), sorted(found.keys() ^ names.keys())[:5]
            for name, data in found.items():
                number = names[name]
                whole = [content(number, self.version - 1), content(number, self.version)]
                assert data in whole, f"{name}: {len(data)} bytes of neither version {data[:60]!r}"

    def assert_arrived(self) -> None:
        """The newest version of everything is on both sides, and nothing is left of the way there."""
        self.pair.settle()
        assert {name for name in tree(self.pair.far) if "/" in name} == {self.name(n) for n in range(FILES)}
        for number in range(FILES):
            assert (self.pair.far / self.name(number)).read_bytes() == content(number, self.version)
        assert not self.on_their_way(), "temporaries were left"

    def kill_in_the_middle(self, moments: random.Random, kill: Callable[[], None]) -> None:
        """Edit everything, and some time after the transfer has begun, `kill`."""
        self.edit()
        wait_for("the transfer", lambda: bool(self.on_their_way()), pause=0.001)
        moment = moments.uniform(0.0, TRANSFER)
        subprocess.run(["sleep", f"{moment:.3f}"], check=True)
        kill()
        self.assert_old_or_new()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0  # gone since it was listed


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Work]:
    with started_pair(tmp_path) as pair:
        yield Work(pair)


def test_18_27_the_daemon_is_killed_in_the_middle(work: Work) -> None:
    moments = random.Random(SEED)
    for _ in range(10):
        work.kill_in_the_middle(moments, work.pair.project.kill)
        work.pair.project.devsync("start")
        work.assert_arrived()


def test_12_who_goes_back_after_a_crash_has_the_last_word(work: Work) -> None:
    """What was carried over before the crash may not come back over the old bytes that were restored."""
    moments = random.Random(SEED + 1)
    for _ in range(5):
        work.kill_in_the_middle(moments, work.pair.project.kill)
        work.version -= 1
        for number in range(FILES):
            side = work.pair.here if number % 2 else work.pair.far
            (side / work.name(number)).write_bytes(content(number, work.version))
        work.pair.project.devsync("start")
        work.assert_arrived()


def processes_of(sshd: Sshd, word: bytes) -> list[int]:
    """The processes there whose command line holds `word`."""
    found = []
    for pid in sshd.processes():
        try:
            if word in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue  # it has ended
    return found


@pytest.mark.parametrize("victim", ["helper", "sftp-server", "session"])
def test_18_a_process_there_is_killed_in_the_middle(work: Work, victim: str) -> None:
    words = {"helper": b"zlib.decompress", "sftp-server": b"sftp-server", "session": b"sshd:"}
    moments = random.Random(SEED + len(victim))

    def kill() -> None:
        for pid in processes_of(work.pair.sshd, words[victim]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it went with another one

    for _ in range(6):
        work.kill_in_the_middle(moments, kill)
        work.assert_arrived()


def test_21_the_link_is_cut_in_the_middle(tmp_path: Path) -> None:
    sshd = Sshd(tmp_path / "machine")
    sshd.start()
    with Wan(sshd.port, delay=0.005) as wan:
        project = Project(tmp_path, config_for(sshd, port=wan.port))
        try:
            project.devsync("start")
            work, moments = Work(Pair(project, sshd)), random.Random(SEED + 2)
            for _ in range(3):
                work.kill_in_the_middle(moments, wan.cut)
                work.assert_arrived()
        finally:
            project.close()
            sshd.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small file system, which takes root")
def test_77_a_full_disk_on_the_machine(tmp_path: Path) -> None:
    """It is named, nothing is touched, the way back goes on; with space again, so does the way there."""
    sshd = Sshd(tmp_path / "machine")
    far = sshd.home / "work" / "project"
    far.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "devsync-test", far], check=True)
    sshd.start()
    try:
        project = Project(tmp_path, config_for(sshd))
        pair = Pair(project, sshd)
        try:
            project.devsync("start")
            (pair.here / "model.bin").write_bytes(b"old" * 1000)
            (pair.here / "other.txt").write_text("small\n")
            pair.settle()
            (pair.here / "model.bin").write_bytes(b"new" * 4_000_000)
            answer = pair.barrier()
            assert list(answer["unsettled"]) == ["model.bin"]
            why = project.status()["sync"]["problems"]["model.bin"]
            assert "the disk is full" in why
            assert "model.bin" in project.devsync("flush", expect=None).stderr
            assert (pair.far / "model.bin").read_bytes() == b"old" * 1000
            assert not [path for path in (pair.far / ".devsync" / "tmp").iterdir() if _size(path)]
            (pair.far / "result.txt").write_text("made there meanwhile\n")
            wait_for("the way back", (pair.here / "result.txt").exists)
            assert (pair.here / "result.txt").read_text() == "made there meanwhile\n"
            (pair.here / "other.txt").write_text("small, and changed\n")
            wait_for("a small one", lambda: (pair.far / "other.txt").read_text() == "small, and changed\n")
            subprocess.run(["mount", "-o", "remount,size=64m", far], check=True)
            wait_for("the large one", lambda: (pair.far / "model.bin").read_bytes() == b"new" * 4_000_000)
            pair.settle()
        finally:
            project.close()
    finally:
        sshd.stop()
        subprocess.run(["umount", far], check=True)
