"""When a plan looks like an accident."""

from __future__ import annotations

import pytest

from devsync.core.safety import FREE_DELETIONS, WINDOW, Deletions, emptied, storm, vanishing
from devsync.core.snapshot import Ancestor, Change, RelPath, Snapshot
from tests.core.worlds import AX, A, B, C

NONE = Deletions()


def many(count: int) -> list[RelPath]:
    return [f"f{i:04}" for i in range(count)]


def halts(
    gone: int, *, files: int, share: float = 0.1, earlier: Deletions = NONE, now: float = 1000.0
) -> bool:
    return bool(storm(many(gone), (), earlier=earlier, now=now, files=files, share=share))


@pytest.mark.parametrize(
    "gone, files, share, answer",
    [
        (0, 0, 0.1, False),
        (50, 50, 0.1, False),  # fifty are free, even if that is all there is
        (51, 60, 0.1, True),
        (51, 500, 0.1, True),  # over fifty, and over a tenth
        (51, 510, 0.1, False),  # exactly a tenth
        (52, 510, 0.1, True),
        (5000, 10_000, 0.5, False),
        (5001, 10_000, 0.5, True),
        (51, 10_000, 0.0, True),  # a share of nothing leaves the free ones
        (10_000, 10_000, 1.0, False),  # all of them: switched off
    ],
)
def test_storm(gone: int, files: int, share: float, answer: bool) -> None:
    assert halts(gone, files=files, share=share) is answer


def test_a_storm_says_what_would_go() -> None:
    why = storm(many(51)[::-1], (), earlier=NONE, now=0.0, files=100, share=0.1)
    assert why == "51 of 100 files would be deleted (f0000, f0001, f0002, …)"


def test_what_git_deleted_itself_does_not_count() -> None:
    gone = many(500)
    assert storm(gone, set(gone), earlier=NONE, now=0.0, files=500, share=0.1) == ""
    assert storm(gone, set(gone[:450]), earlier=NONE, now=0.0, files=500, share=0.1) == ""
    assert storm(gone, set(gone[:449]), earlier=NONE, now=0.0, files=500, share=0.1) != ""


def test_drop_by_drop_is_a_storm_too() -> None:
    earlier = NONE.plus(1000.0, 30).plus(1010.0, 20)
    assert halts(1, files=100, earlier=earlier, now=1020.0)
    assert not halts(0, files=100, earlier=earlier.plus(1015.0, 500), now=1020.0)


def test_only_the_window_counts() -> None:
    earlier = NONE.plus(1000.0, FREE_DELETIONS)
    assert halts(1, files=100, earlier=earlier, now=1000.0 + WINDOW - 0.001)
    assert not halts(1, files=100, earlier=earlier, now=1000.0 + WINDOW)


def test_deletions_forget_what_has_left_the_window() -> None:
    deletions = NONE.plus(0.0, 7).plus(1.0, 0).plus(WINDOW - 1, 8)
    assert deletions.past == ((0.0, 7), (WINDOW - 1, 8))
    assert deletions.within_window(WINDOW - 1) == 15
    assert deletions.within_window(WINDOW) == 8
    assert deletions.plus(WINDOW, 9).past == ((WINDOW - 1, 8), (WINDOW, 9))


# ---------------------------------------------------------------- moves


def test_what_is_replaced_or_created_does_not_vanish() -> None:
    assert vanishing([Change("new", None, A), Change("edited", A, B), Change("gone", C, None)]) == ["gone"]


def test_a_move_is_no_deletion() -> None:
    there, back = Change("old", A, None), Change("new", None, A)
    assert vanishing([there, back]) == vanishing([back, there]) == []


def test_one_new_file_makes_up_for_one_of_its_twins() -> None:
    """Empty files are all alike: creating one must not hide the deletion of a thousand."""
    twins = [Change(path, A, None) for path in many(1000)]
    assert len(vanishing([*twins, Change("new", None, A)])) == 999


def test_content_that_lands_on_another_file_is_no_move() -> None:
    assert vanishing([Change("old", A, None), Change("other", B, A)]) == ["old"]


def test_a_file_that_comes_back_with_the_bit_counts_as_gone() -> None:
    assert vanishing([Change("old", A, None), Change("new", None, AX)]) == ["old"]


# ---------------------------------------------------------------- empty roots


@pytest.mark.parametrize(
    "agreed, look, answer",
    [
        ({"a": A, "b": B}, Snapshot({}), True),
        ({"a": A, "b": B}, Snapshot({"c": C}), False),
        ({"a": A, "b": B}, Snapshot({}, {"d": "permission denied"}), False),  # not empty, but unread
        ({"a": A, "b": B}, Snapshot({}, {}, {"pipe": "a FIFO"}), True),  # what never counts is nothing
        ({"a": A}, Snapshot({}), False),  # the only file may be deleted
        ({}, Snapshot({}), False),
    ],
)
def test_emptied(agreed: dict[RelPath, object], look: Snapshot, answer: bool) -> None:
    assert emptied(Ancestor(agreed), look) is answer  # type: ignore[arg-type]
