"""Rows about what devsync costs when it does little: at rest, and to start."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks import corpora
from benchmarks.bed import Bed, Trial
from benchmarks.figures import Compare, Figure

REST = 60
STARTS = 4
"""Starts of a command for each repetition: one takes a moment."""


def at_rest(at: Bed, number: int, limits: tuple[float, float]) -> Iterator[Figure]:
    """The daemon with so many files, and nobody does anything. The limits: MB, per cent of a core."""
    number, seconds = at.scaled(number), at.scaled(REST)
    with at.trial(partial(corpora.small_files, number=number)) as trial, trial.daemon():
        time.sleep(seconds / 10)  # what follows a first synchronisation is over
        family = _family(trial.pid())
        before = _cpu(family)
        time.sleep(seconds)
        used = (_cpu(family) - before) / seconds
        memory = sum(_resident(pid) for pid in family)
    work = f"the daemon at rest, {number:,} files"
    yield Figure(f"{work}: memory", at.profile.name, memory / 1e6, "MB", limits[0])
    yield Figure(f"{work}: processor over {seconds} s", at.profile.name, 100 * used, "%", limits[1])


def help_text(at: Bed, limit: float) -> Iterator[Figure]:
    """`devsync --help`, and a bare interpreter."""
    with at.trial(lambda _root: None) as trial:
        yield _start(at, trial, ["--help"], limit)


def status_document(at: Bed, limit: float) -> Iterator[Figure]:
    """`devsync status --json` with a daemon, and a bare interpreter."""
    with at.trial(lambda _root: None) as trial, trial.daemon():
        yield _start(at, trial, ["status", "--json"], limit)


def _start(at: Bed, trial: Trial, words: Sequence[str], limit: float) -> Figure:
    python = [sys.executable, "-P"]
    commands = ([*python, "-m", "devsync", *words], [*python, "-c", "pass"])
    took: tuple[list[float], list[float]] = ([], [])
    for turn in range(STARTS * at.repeat):
        for which in ((0, 1), (1, 0))[turn % 2]:
            took[which].append(_timed(commands[which], trial))
    ours, bare = (statistics.median(each) for each in took)
    work = f"devsync {' '.join(words)}"
    return Figure(work, at.profile.name, ours, "ms", limit, Compare.DIFFERENCE, "bare Python", bare)


def _timed(words: Sequence[str], trial: Trial) -> float:
    began = time.perf_counter()
    subprocess.run(words, cwd=trial.root, env=trial.environ, stdout=subprocess.DEVNULL, check=True)
    return 1000 * (time.perf_counter() - began)


def _family(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def _cpu(family: Sequence[int]) -> float:
    """Seconds of a core that they and their ended children have used."""
    ticks = 0
    for pid in family:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    """Bytes of memory in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
