"""Rows about a daemon that runs: one save, and the switch of a branch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import corpora
from benchmarks.bed import Bed, Cost, Trial
from benchmarks.figures import Compare, Figure

SAVES = 100
PATIENCE = 300.0


def one_save(at: Bed, limit: tuple[float, float]) -> Iterator[Figure]:
    """From the end of a save here until the file is complete there. The limits: milliseconds, p50 and p99."""

    def fill(root: Path) -> None:
        (root / "model.py").write_bytes(b"first\n")

    with at.trial(fill) as trial, trial.daemon():
        took = sorted(1000 * _save(trial, number) for number in range(SAVES))
    yield Figure("one save: median of 100", at.profile.name, statistics.median(took), "ms", limit[0])
    yield Figure("one save: 99 of 100", at.profile.name, took[-2], "ms", limit[1])


def _save(trial: Trial, number: int) -> float:
    content = b"#" * number + b" saved\n"
    far = trial.there / "devsync" / "model.py"
    began = time.perf_counter()
    (trial.root / "model.py").write_bytes(content)
    _wait_for(lambda: far.read_bytes() == content)
    took = time.perf_counter() - began
    time.sleep(0.03)  # a person takes longer to save again
    return took


def branch_switch(at: Bed, limit: float) -> Iterator[Figure]:
    """1,000 of 2,000 files change at once: from git's return until they are there, beside rsync's run."""
    number = at.scaled(1000)
    ours: list[float] = []
    theirs: list[Cost] = []
    with at.trial(partial(corpora.small_files, number=2 * number), git=True) as trial:
        _two_branches(trial, number)
        trial.rsync()
        with trial.daemon():
            for turn in range(at.repeat):
                edition = (turn + 1) % 2
                trial.git("switch", "-q", "other" if edition else "main")
                ours.append(_until_switched(trial, number, edition))
                trial.verify(trial.root, trial.there / "devsync")
                theirs.append(trial.rsync())
    yield Figure(
        f"switch of a branch, {number:,} files",
        at.profile.name,
        statistics.median(ours),
        "s",
        limit,
        Compare.RATIO,
        against=f"rsync {at.profile.rsync}",
        theirs=statistics.median(cost.seconds for cost in theirs),
    )


def _two_branches(trial: Trial, number: int) -> None:
    trial.git("add", "-A")
    trial.git("commit", "-qm", "as it was")
    trial.git("switch", "-qc", "other")
    corpora.small_files(trial.root, number, edition=1)
    trial.git("commit", "-qam", "another edition")
    trial.git("switch", "-q", "main")


def _until_switched(trial: Trial, number: int, edition: int) -> float:
    """Seconds until all files have arrived; each is looked at until it has."""
    began = time.perf_counter()
    missing = list(range(number))

    def arrived() -> bool:
        while missing:
            far = corpora.small_file(trial.there / "devsync", missing[-1])
            if far.read_bytes() != corpora.small_content(missing[-1], edition):
                return False
            missing.pop()
        return True

    _wait_for(arrived)
    return time.perf_counter() - began


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not arrive"
        time.sleep(0.0005)  # another process's file: nothing tells of it
