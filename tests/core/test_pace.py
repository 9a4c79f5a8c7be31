"""How a transfer goes, in numbers and in words."""

from __future__ import annotations

import pytest

from devsync.core.pace import Pace, describe


def test_what_is_left_and_how_long_it_takes() -> None:
    pace = Pace()
    pace.plan(0.0, 3, 1000)
    assert (pace.rate(0.0), pace.remaining(0.0)) == (None, None), "too early to say"
    pace.move(1.0, 100)
    pace.came()
    assert (pace.files, pace.rate(1.0), pace.remaining(1.0)) == (2, 100.0, 9.0)
    pace.move(2.0, 300)
    assert (pace.rate(2.0), pace.remaining(2.0)) == (200.0, 3.0)


def test_what_comes_in_between_adds_to_it_and_the_end_begins_anew() -> None:
    pace = Pace()
    pace.plan(0.0, 2, 1000)
    pace.move(1.0, 400)
    pace.plan(1.0, 3, 620)
    assert (pace.moved, pace.planned) == (400, 1020)
    pace.done(0)
    pace.plan(9.0, 1, 50)
    assert (pace.moved, pace.planned, pace.files) == (0, 50, 1)


def test_only_the_last_seconds_count_and_a_halt_is_no_rate() -> None:
    pace = Pace()
    pace.plan(0.0, 1, 10_000)
    for second in range(1, 11):
        pace.move(float(second), 100 if second < 5 else 500)
    assert pace.rate(10.0) == 500.0
    assert pace.rate(100.0) == 0.0
    assert pace.remaining(100.0) is None


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ((1, 0, 0, None, None), "mirroring 1 file"),
        ((50_000, 0, 3 << 20, None, None), "mirroring 50,000 files, 0B of 3MiB"),
        ((2, 1 << 20, 3 << 20, 1 << 19, 4.2), "mirroring 2 files, 1MiB of 3MiB, 512KiB/s, 4 s left"),
        ((2, 5, 4, 1.0, 150), "mirroring 2 files, 4B of 4B, 1B/s, 2 min left"),
        ((2, 1, 4, 1.0, 9000), "mirroring 2 files, 1B of 4B, 1B/s, 2 h 30 min left"),
    ],
)
def test_a_line_for_people(given: tuple[int, int, int, float | None, float | None], line: str) -> None:
    assert describe(*given) == line
