"""Very many files at once, and folders that come and go whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.pair import Pair, started_pair
from tests.system.project import wait_for

pytestmark = pytest.mark.timeout(180)

FLOOD = """
import os, sys
for number in range(int(sys.argv[2])):
    folder = os.path.join(sys.argv[1], str(number // 500))
    if number % 500 == 0:
        os.makedirs(folder)
    with open(os.path.join(folder, f"{number}.txt"), "w") as file:
        file.write(sys.argv[3] + str(number % 97))
"""
"""Makes files as fast as the disk takes them: where, how many, what begins each of them."""


def flood(folder: Path, files: int, word: str = "flood ") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FLOOD, str(folder), str(files), word])


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with started_pair(tmp_path) as made:
        yield made


def watches(pid: int) -> int:
    """How many folders the process watches."""
    found = 0
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            found += info.read_text().count("inotify wd:")
        except OSError:
            continue  # closed since
    return found


def cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_28_forty_thousand_files_from_two_processes_all_arrive(pair: Pair) -> None:
    makers = [flood(pair.here / name, 20_000) for name in ("a", "b")]
    assert [maker.wait() for maker in makers] == [0, 0]
    answer = pair.barrier()
    assert answer == {"conflicts": [], "unsettled": {}}
    here = {path.relative_to(pair.here) for path in pair.here.glob("[ab]/*/*")}
    far = {path.relative_to(pair.far) for path in pair.far.glob("[ab]/*/*")}
    assert len(far) == 40_000
    assert here == far
    for path in sorted(far)[:: 1000 + 7]:
        assert (pair.far / path).read_bytes() == (pair.here / path).read_bytes()


def test_30_folders_and_their_files_at_once(pair: Pair, tmp_path: Path) -> None:
    for number in range(200):
        deep = pair.here / "chains" / str(number) / "b" / "c"
        deep.mkdir(parents=True)
        (deep / "f").write_text(f"{number}\n" * (number % 7))
    outside = tmp_path / "outside" / "made" / "before"
    outside.mkdir(parents=True)
    (outside / "inside.txt").write_text("moved in\n")
    os.rename(tmp_path / "outside", pair.here / "moved-in")
    wait_for("the last", (pair.far / "moved-in/made/before/inside.txt").exists)
    wait_for("all chains", lambda: len(list((pair.far / "chains").glob("*/b/c/f"))) == 200)
    (pair.here / "moved-in/made/before/second.txt").write_text("it is watched, too\n")
    wait_for("what came after", (pair.far / "moved-in/made/before/second.txt").exists)
    os.rename(pair.here / "moved-in", tmp_path / "moved-out")
    wait_for("the way out", lambda: not (pair.far / "moved-in").exists())
    pair.settle()


def test_35_a_root_that_was_replaced_deletes_nothing(pair: Pair, tmp_path: Path) -> None:
    for number in range(100):
        (pair.here / f"{number}.txt").write_text("x" * number)
    pair.settle()
    os.rename(pair.here, tmp_path / "elsewhere")
    pair.here.mkdir()
    shutil.copy(tmp_path / "elsewhere" / "devsync.toml", pair.here)
    (pair.here / "0.txt").write_text("of a fresh clone\n")
    wait_for("it halts", lambda: pair.project.status()["state"] == "halted", pause=0.1)
    assert len(list(pair.far.glob("*.txt"))) == 100
    assert (pair.far / "0.txt").read_text() == ""
    assert pair.project.devsync("flush", expect=4).stderr
    pair.here.rename(tmp_path / "replacement")
    os.rename(tmp_path / "elsewhere", pair.here)
    pair.project.devsync("start")
    pair.settle()


def test_41_an_ignored_folder_costs_nothing(pair: Pair) -> None:
    (pair.here / ".gitignore").write_text("data/\n")
    (pair.here / "code.py").write_text("0\n")
    pair.settle()
    pid = pair.project.pid()
    watched, used = watches(pid), cpu(pid)
    assert watched > 0
    maker = flood(pair.here / "data", 100_000)
    saves = 0
    while maker.poll() is None:
        saves += 1
        text = "x" * saves + "\n"
        (pair.here / "code.py").write_text(text)
        took = wait_for("a save meanwhile", lambda text=text: (pair.far / "code.py").read_text() == text)  # type: ignore[misc]  # bound now
        assert took < 5.0
        time.sleep(0.2)
    assert watches(pid) <= watched + 1
    assert not (pair.far / "data").exists()
    assert (cpu(pid) - used) / saves < 0.15, "it looks at what is ignored"
    began = time.monotonic()
    pair.barrier()
    assert time.monotonic() - began < 2.0
    shutil.rmtree(pair.here / "data")
    assert watches(pid) <= watched + 1
    pair.settle()
