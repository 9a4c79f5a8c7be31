"""Rows about a cold command: first mirrors, nothing changed, large files, a renamed folder, a pull."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from benchmarks import corpora, peers
from benchmarks.bed import Bed, Cost, Trial, race
from benchmarks.figures import Compare, Figure

MB = 1_000_000
BIG = 200 * MB


def first_mirror_of_the_library(at: Bed, limit: float) -> Iterator[Figure]:
    """About 2,500 files and 100 MB; other programs are looked at here."""
    figure = _wall(at, "first mirror of the standard library", limit, *_first(at, corpora.standard_library))
    with at.trial(corpora.standard_library) as trial:
        others = peers.others(trial)
    yield Figure(**{**vars(figure), "others": others})


def first_mirror_of_small_files(at: Bed, limit: float) -> Iterator[Figure]:
    """50,000 files of some hundred bytes."""
    number = at.scaled(50_000)
    costs = _first(at, partial(corpora.small_files, number=number))
    yield _wall(at, f"first mirror of {number:,} small files", limit, *costs)


def first_mirror_of_notebooks(at: Bed) -> Iterator[Figure]:
    """40 MB of notebooks with embedded images, which hardly get smaller."""
    number = at.scaled(250)
    costs = _first(at, partial(corpora.notebooks, number=number))
    yield _wall(at, f"first mirror of {number:,} notebooks with images", None, *costs)


def nothing_changed(at: Bed, number: int, limit: float) -> Iterator[Figure]:
    """A cold push that finds nothing to do."""
    number = at.scaled(number)
    with at.trial(partial(corpora.small_files, number=number)) as trial:
        _both(trial)
        costs = race(at, lambda: nullcontext(trial))
    yield _wall(at, f"nothing changed, {number:,} files", limit, *costs)


def big_file(at: Bed, limit: float) -> Iterator[Figure]:
    """One file of 200 MB, for the first time."""
    size = at.scaled(BIG)
    costs = _first(at, lambda root: corpora.big_file(root / "data.bin", size))
    yield _wall(at, f"a file of {size // MB:,} MB, first time", limit, *costs)


def big_file_changed(
    at: Bed, how: str, change: Callable[[Path, int], None], limit: tuple[float, float]
) -> Iterator[Figure]:
    """The same file, of which 1 KiB is another now; the limits are a share of the file, and a ratio."""
    size = at.scaled(BIG)
    editions = iter(range(1, 1000))
    with at.trial(lambda root: corpora.big_file(root / "data.bin", size)) as trial:
        _both(trial)

        @contextmanager
        def edited() -> Iterator[Trial]:
            change(trial.root / "data.bin", next(editions))
            yield trial

        ours, theirs = race(at, edited)
    work = f"the file of {size // MB:,} MB, 1 KiB {how}"
    yield _carried(at, work, limit[0], ours, size)
    yield _wall(at, work, limit[1], ours, theirs)


def renamed_folder(at: Bed, limit: float) -> Iterator[Figure]:
    """A folder of 1,000 files of 10 kB has another name."""
    number = at.scaled(1000)

    @contextmanager
    def renamed() -> Iterator[Trial]:
        with at.trial(partial(corpora.folder_of_binaries, number=number)) as trial:
            _both(trial)
            (trial.root / "old").rename(trial.root / "new")
            yield trial

    ours, theirs = race(at, renamed)
    work = f"a renamed folder of {number:,} files"
    yield _carried(at, work, limit, ours, 10_003 * number)
    yield _wall(at, work, None, ours, theirs)


def pull(at: Bed, limit: float) -> Iterator[Figure]:
    """1,000 of 2,000 files have changed on the machine."""
    number = at.scaled(1000)

    @contextmanager
    def changed() -> Iterator[Trial]:
        with at.trial(partial(corpora.small_files, number=2 * number)) as trial:
            _both(trial)
            trial.rsync_back()
            for contender in ("devsync", "rsync"):
                corpora.small_files(trial.there / contender, number, edition=3)
            yield trial

    costs = race(at, changed, Trial.pull, Trial.rsync_back)
    yield _wall(at, f"pull of {number:,} changed files", limit, *costs)


def _first(at: Bed, fill: Callable[[Path], None]) -> tuple[Cost, Cost]:
    def fresh() -> AbstractContextManager[Trial]:
        return at.trial(fill)

    return race(at, fresh)


def _both(trial: Trial) -> None:
    trial.push()
    trial.rsync()


def _wall(at: Bed, work: str, limit: float | None, ours: Cost, theirs: Cost) -> Figure:
    rsync = f"rsync {at.profile.rsync}"
    return Figure(
        work, at.profile.name, ours.seconds, "s", limit, Compare.RATIO, against=rsync, theirs=theirs.seconds
    )


def _carried(at: Bed, work: str, limit: float, ours: Cost, size: int) -> Figure:
    whole = "contents"
    return Figure(
        f"{work}: on the wire",
        at.profile.name,
        ours.carried,
        "bytes",
        limit,
        Compare.SHARE,
        against=whole,
        theirs=size,
    )
