"""`make bench`: devsync and its peers in turn, in one run; a table of ratios, and a JSON file.

Each row is measured `--repeat` times, both contenders one after the other in fresh folders, and the
medians are compared. After each run the results are compared with what was to be transferred.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.bed import LOOPBACK, WAN, Bed, Profile, Project, bed

SAVES = 100


@dataclass(frozen=True)
class Row:
    """One line of the table. `ratio` is devsync over the peer; None where there is no peer."""

    work: str
    line: str
    devsync: float
    peer: float | None
    unit: str

    @property
    def ratio(self) -> float | None:
        """How many times as long as the peer."""
        return None if self.peer is None else self.devsync / self.peer


def standard_library(root: Path) -> None:
    """About 2,500 files and 100 MB that every computer has."""
    source = sysconfig.get_paths()["stdlib"]
    ignored = shutil.ignore_patterns("site-packages", "__pycache__")
    shutil.copytree(source, root, ignore=ignored, symlinks=True, dirs_exist_ok=True)


def small_files(root: Path) -> None:
    """10,000 files of some hundred bytes, a hundred in a folder."""
    for folder in range(100):
        (root / f"p{folder}").mkdir()
        for number in range(100):
            (root / f"p{folder}" / f"m{number}.py").write_text(
                f"VALUE = {folder * number}\n" * (number % 20 + 1)
            )


@contextmanager
def filled(at: Bed, fill: Callable[[Path], None]) -> Iterator[Project]:
    """A project of its own for one measurement."""
    project = at.project(fill)
    try:
        yield project
    finally:
        project.forget()


def first_mirror(at: Bed, fill: Callable[[Path], None], work: str, repeat: int) -> Row:
    """A cold `devsync push` into an empty folder, beside rsync's."""
    ours, theirs = [], []
    for _ in range(repeat):
        with filled(at, fill) as project:
            ours.append(project.devsync("push"))
            project.verify("devsync")
            theirs.append(project.rsync(_flags(at.profile)))
            project.verify("rsync")
    return Row(work, at.profile.name, statistics.median(ours), statistics.median(theirs), "s")


def nothing_changed(at: Bed, fill: Callable[[Path], None], work: str, repeat: int) -> Row:
    """A cold `devsync push` that finds nothing to do, beside rsync's."""
    ours, theirs = [], []
    with filled(at, fill) as project:
        project.devsync("push")
        project.rsync(_flags(at.profile))
        for _ in range(repeat):
            ours.append(project.devsync("push"))
            theirs.append(project.rsync(_flags(at.profile)))
        project.verify("devsync")
    return Row(work, at.profile.name, statistics.median(ours), statistics.median(theirs), "s")


def one_save(at: Bed) -> list[Row]:
    """From the end of a save here until the file is complete there, the daemon running."""

    def fill(root: Path) -> None:
        (root / "model.py").write_bytes(b"first\n")

    with filled(at, fill) as project:
        project.devsync("start")
        far = project.there / "devsync" / "model.py"
        took = []
        for number in range(SAVES):
            content = b"#" * number + b" saved\n"
            began = time.perf_counter()
            (project.root / "model.py").write_bytes(content)
            while far.read_bytes() != content:
                time.sleep(0.0005)
            took.append(1000 * (time.perf_counter() - began))
            time.sleep(0.03)
        project.devsync("stop")
    took.sort()
    return [
        Row("one save, median", at.profile.name, took[SAVES // 2], None, "ms"),
        Row("one save, 99 of 100", at.profile.name, took[-2], None, "ms"),
    ]


def moved_folder(at: Bed, repeat: int) -> Row:
    """A renamed folder of 1,000 files: found by content and copied there, beside rsync's."""
    ours, theirs = [], []

    def fill(root: Path) -> None:
        for number in range(1000):
            (root / "old").mkdir(exist_ok=True)
            (root / "old" / f"{number}.bin").write_bytes(number.to_bytes(4, "big") * 2500)

    for _ in range(repeat):
        with filled(at, fill) as project:
            project.devsync("push")
            project.rsync(_flags(at.profile))
            (project.root / "old").rename(project.root / "new")
            ours.append(project.devsync("push", "--accept-deletions"))
            project.verify("devsync")
            theirs.append(project.rsync(_flags(at.profile)))
    work = "a renamed folder of 1,000 files (10 MB)"
    return Row(work, at.profile.name, statistics.median(ours), statistics.median(theirs), "s")


def _flags(profile: Profile) -> str:
    return "-a" if profile is LOOPBACK else "-az"


def measure(folder: Path, repeat: int) -> Iterator[Row]:
    """Every row, as it is ready."""
    for profile in (LOOPBACK, WAN):
        with bed(profile, folder / profile.name) as at:
            yield first_mirror(at, standard_library, "first mirror of the standard library", repeat)
            yield first_mirror(at, small_files, "first mirror of 10,000 small files", repeat)
            yield nothing_changed(at, standard_library, "nothing changed, 2,500 files", repeat)
            yield moved_folder(at, repeat)
            yield from one_save(at)


def table(rows: list[Row]) -> Iterator[str]:
    """The rows for people, in Markdown."""
    yield "| work | line | devsync | rsync | ratio |"
    yield "|---|---|---|---|---|"
    for row in rows:
        peer = "" if row.peer is None else f"{row.peer:.2f} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        number = f"{row.devsync:.0f}" if row.unit == "ms" else f"{row.devsync:.2f}"
        yield f"| {row.work} | {row.line} | {number} {row.unit} | {peer} | {ratio} |"


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/latest.json"))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="devsync-bench-"))
    rows: list[Row] = []
    try:
        for row in measure(folder, options.repeat):
            rows.append(row)
            print(list(table([row]))[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    figures = [{**asdict(row), "ratio": row.ratio} for row in rows]
    options.json.write_text(json.dumps({**about, "repeat": options.repeat, "rows": figures}, indent=2) + "\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
