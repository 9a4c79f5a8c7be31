"""Conflicts that a merge ends: both sides get it, both originals are kept, and nothing else changes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devsync.core.merge import LARGEST, Method
from devsync.core.reconcile import Direction
from devsync.core.snapshot import Change, Outcome
from devsync.daemon.guard import Guard
from devsync.daemon.merging import Merging
from devsync.merge.bases import Bases
from devsync.merge.programs import Programs
from devsync.ports import Unavailable
from tests.daemon.rig import Pair
from tests.fakes.clock import HandWoundClock
from tests.fakes.memory import Content

BASE = "".join(f"line {number}\n" for number in range(9))
HERE = BASE.replace("line 1\n", "changed here\n")
THERE = BASE.replace("line 7\n", "and there, too\n")
BOTH = HERE.replace("line 7\n", "and there, too\n")


class Counting(Programs):
    """The real ones, and how often they were asked."""

    asked = 0

    def merge(self, method: Method, base: bytes, local: bytes, remote: bytes) -> bytes | None:
        self.asked += 1
        return super().merge(method, base, local, remote)


@pytest.fixture
def programs(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "merging", os.environ)


@pytest.fixture
def merging(tmp_path: Path, programs: Counting) -> Iterator[Merging]:
    made = Merging(Bases(tmp_path / "bases.db"), programs, HandWoundClock().monotonic)
    yield made
    made.close()


@pytest.fixture
def pair(tmp_path: Path, merging: Merging) -> Iterator[Pair]:
    made = Pair(tmp_path, merging=merging)
    yield made
    made.close()


def diverge(pair: Pair, here: str = HERE, there: str = THERE, name: str = "a.py") -> None:
    """Both sides agreed on BASE, and each has gone on."""
    pair.write(pair.local, name, BASE)
    assert pair.cycle().complete
    pair.write(pair.local, name, here)
    pair.write(pair.remote, name, there)


def kept(pair: Pair) -> list[list[str]]:
    """What is in the trash of each side."""
    return [
        [entry.data.decode() for _, entry in side.trash if isinstance(entry, Content)]
        for side in (pair.local, pair.remote)
    ]


def test_both_sides_have_both_changes_and_their_trash_has_the_originals(pair: Pair) -> None:
    diverge(pair)
    result = pair.cycle()
    assert result.complete and not pair.engine.conflicts
    assert pair.texts(pair.local) == pair.texts(pair.remote) == {"a.py": BOTH}
    assert kept(pair) == [[HERE], [THERE]]
    assert pair.cycle().plan.quiet and not pair.store.intents()


def test_a_merge_begins_with_what_was_merged_before(pair: Pair) -> None:
    diverge(pair)
    pair.cycle()
    pair.write(pair.local, "a.py", BOTH + "more\n")
    pair.write(pair.remote, "a.py", "first\n" + BOTH)
    assert pair.cycle().complete
    assert pair.texts(pair.local)["a.py"] == "first\n" + BOTH + "more\n"


def test_what_does_not_go_together_is_a_conflict_and_is_tried_once(pair: Pair, programs: Counting) -> None:
    diverge(pair, there=BASE.replace("line 1\n", "the same line\n"))
    for _ in range(3):
        assert [one.path for one in pair.cycle().plan.conflicts] == ["a.py"]
    assert programs.asked == 1
    assert kept(pair) == [[], []]
    pair.write(pair.remote, "a.py", THERE)
    assert pair.cycle().complete
    assert pair.texts(pair.remote) == {"a.py": BOTH}


def test_the_executable_bit_is_merged_with_the_content(pair: Pair) -> None:
    diverge(pair)
    pair.write(pair.remote, "a.py", THERE, executable=True)
    assert pair.cycle().complete
    assert pair.local.entries == pair.remote.entries == {"a.py": Content(BOTH.encode(), True)}


@pytest.mark.parametrize("direction", [Direction.PUSH, Direction.PULL])
def test_one_side_alone_cannot_have_a_merge(pair: Pair, programs: Counting, direction: Direction) -> None:
    diverge(pair)
    assert pair.cycle(direction=direction).plan.conflicts
    assert programs.asked == 0
    assert (pair.texts(pair.local), pair.texts(pair.remote)) == ({"a.py": HERE}, {"a.py": THERE})


@pytest.mark.parametrize("stale", ["local", "remote"])
def test_a_save_in_the_last_moment_is_merged_as_well(pair: Pair, stale: str) -> None:
    diverge(pair)
    side = pair.local if stale == "local" else pair.remote
    before = pair.texts(side)["a.py"]
    apply = side.apply

    def race(changes: Sequence[Change]) -> list[Outcome]:
        side.apply = apply  # type: ignore[method-assign]  # once
        pair.write(side, "a.py", before.replace("line 4\n", "saved in between\n"))
        return apply(changes)

    side.apply = race  # type: ignore[method-assign]  # a user's save
    assert pair.cycle().again == {"a.py"}
    assert pair.cycle(["a.py"], ["a.py"]).complete
    expected = BOTH.replace("line 4\n", "saved in between\n")
    assert pair.texts(pair.local) == pair.texts(pair.remote) == {"a.py": expected}


def test_without_a_base_it_is_a_conflict(pair: Pair, tmp_path: Path, programs: Counting) -> None:
    diverge(pair)
    with_none = Merging(Bases(tmp_path / "other.db"), programs, HandWoundClock().monotonic)
    pair.merging = with_none
    pair.restart()
    assert pair.cycle().plan.conflicts
    with_none.close()


def test_bases_that_were_never_kept_are_owed(pair: Pair, merging: Merging) -> None:
    diverge(pair, here=BASE, there=BASE)
    pair.cycle()
    merging.tidy({})
    merging.tidy(pair.engine.ancestor.leaves)
    assert merging.owes()
    merging.keep()
    assert not merging.owes()
    pair.write(pair.local, "a.py", HERE)
    pair.write(pair.remote, "a.py", THERE)
    assert pair.cycle().complete


def test_what_is_too_large_or_no_text_is_a_conflict(pair: Pair, programs: Counting) -> None:
    large = "x" * LARGEST + "\n"
    diverge(pair, here=HERE + large, there=THERE, name="large")
    diverge(pair, here="\0" + HERE, there=THERE, name="binary")
    assert {one.path for one in pair.cycle().plan.conflicts} == {"large", "binary"}
    assert kept(pair) == [[], []]


def test_a_credential_does_not_travel_in_a_merge(pair: Pair) -> None:
    pair.guard = Guard(lambda _: False)
    pair.restart()
    token = "ghp_" + "a1B2c3D4e5F6" * 3
    diverge(pair, here=HERE + f"token = '{token}'\n")
    assert "credential" in pair.cycle().plan.held["a.py"]
    assert pair.texts(pair.remote) == {"a.py": THERE}


def test_an_interrupted_merge_ends_and_is_tried_again(pair: Pair, merging: Merging) -> None:
    diverge(pair)
    merging.interrupt()
    with pytest.raises(Unavailable):
        pair.cycle()
    pair.restart()
    assert pair.cycle().complete
    assert pair.texts(pair.local) == {"a.py": BOTH}
