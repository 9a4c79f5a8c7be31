"""The benchmarks' own arithmetic, and that the page shows what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import corpora, echo
from benchmarks.__main__ import BEGIN, END, LATEST, PAGE, page_section
from benchmarks.figures import Compare, Figure, from_json, references, table
from benchmarks.line import line
from benchmarks.rows import ROWS, chosen

MIRROR = Figure("a mirror", "wan", 4.0, "s", 0.8, Compare.RATIO, "rsync -az", 5.0)


@pytest.mark.parametrize(
    ("figure", "result", "met"),
    [
        (MIRROR, 0.8, True),
        (replace(MIRROR, limit=0.79), 0.8, False),
        (replace(MIRROR, limit=None), 0.8, None),
        (replace(MIRROR, compare=Compare.RATIO_AT_LEAST), 0.8, True),
        (replace(MIRROR, compare=Compare.RATIO_AT_LEAST, limit=0.9), 0.8, False),
        (replace(MIRROR, compare=Compare.DIFFERENCE, limit=-0.9), -1.0, True),
        (replace(MIRROR, compare=Compare.SHARE, limit=0.01), 0.8, False),
        (Figure("a save", "wan", 90.0, "ms", 90), 90.0, True),
    ],
)
def test_a_figure_knows_whether_its_target_is_met(figure: Figure, result: float, met: bool | None) -> None:
    assert (figure.result, figure.met) == (result, met)
    assert from_json(json.loads(json.dumps(figure.as_json()))) == figure


def test_the_table_is_what_people_read() -> None:
    shown = list(table([MIRROR, Figure("a save", "wan", 91.25, "ms", 90)]))[2:]
    assert shown == [
        "| a mirror | wan | 4.00 s | rsync -az 5.00 s | 0.80 × | ≤ 0.80 × | yes |",
        "| a save | wan | 91.2 ms |  |  | ≤ 90.0 ms | **no** |",
    ]


def test_what_was_given_up_and_what_is_missing_are_told_apart() -> None:
    figures = [
        replace(MIRROR, others={"rclone": None, "unison": 11.0}),
        replace(MIRROR, others={"unison": 1.0}),
    ]
    assert list(references(figures))[2:] == [
        "| a mirror | wan | 4.00 s | given up | 11.0 s |",
        "| a mirror | wan | 4.00 s | not installed | 1.00 s |",
    ]
    assert not list(references([MIRROR]))


def test_one_row_can_be_chosen_and_none_is_there_twice() -> None:
    assert [(row.key, row.profile.name) for row in chosen("library", "wan")] == [("library", "wan")]
    assert {row.key for row in chosen("delta,save", "")} == {"delta-middle", "delta-start", "save"}
    assert len(chosen("", "")) == len(ROWS) == len({(row.key, row.profile) for row in ROWS})
    assert not chosen("unknown", "")


def test_the_page_shows_the_latest_figures() -> None:
    section = "\n".join(page_section(json.loads(LATEST.read_text())))
    assert f"{BEGIN}{section}\n{END}" in PAGE.read_text(), "make it so: python -m benchmarks --page"


def test_corpora_are_the_same_each_time_and_hold_what_they_say(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        corpora.big_file(tmp_path / name / "data.bin", 4_500_000)
        corpora.small_files(tmp_path / name, 250, edition=1)
        corpora.notebooks(tmp_path / name, 2)
    first, second = (
        {each.name: each.read_bytes() for each in _files(tmp_path / name)} for name in ("one", "other")
    )
    assert first == second
    assert len(_files(tmp_path / "one")) == 1 + 250 + 2
    assert len(first["data.bin"]) == 4_500_000
    assert corpora.small_file(tmp_path / "one", 249).read_bytes() == corpora.small_content(249, 1)


def test_a_kilobyte_is_changed_or_put_in_front(tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    corpora.big_file(path, 3_000_000)
    before = path.read_bytes()
    corpora.change_in_the_middle(path, 1)
    after = path.read_bytes()
    assert len(after) == len(before)
    assert 900 < sum(old != new for old, new in zip(before, after, strict=True)) <= 1024
    corpora.insert_at_the_start(path, 1)
    assert path.read_bytes()[1024:] == after


def test_the_line_counts_what_it_carries_and_the_echo_comes_back() -> None:
    with echo.served() as port, line(port, 0.01, None) as way:
        with echo.echoing(way.port) as connection:
            assert connection.once() >= 10
        assert way.carried() == 1 + 2 * len(echo.ECHO)
        assert echo.up(port, 1_000_000) > 0
        assert echo.down(port, 1_234_567) > 0


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]
