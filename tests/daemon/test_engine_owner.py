"""Two projects, two computers, one folder: one of them has it, and the other is told so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.reconcile import Mode, reconcile
from devsync.core.snapshot import Snapshot
from devsync.daemon.engine import Permission
from devsync.daemon.identity import BEAT
from devsync.ports import Halted, Owned
from tests.daemon.rig import Pair
from tests.fakes.memory import MemoryReplica

REJOIN = Permission(rejoin=True)
TAKE_OVER = Permission(take_over=True)


@pytest.fixture
def other(pair: Pair, tmp_path: Path) -> Iterator[Pair]:
    """Another project on the folder of `pair`'s machine."""
    (tmp_path / "other").mkdir()
    made = Pair(tmp_path / "other")
    made.remote = MemoryReplica(beside=pair.remote)
    made.restart()
    yield made
    made.close()


def test_112_the_second_is_refused_and_neither_side_is_touched(pair: Pair, other: Pair) -> None:
    pair.engine.identify(Permission())
    pair.agree(a="a", b="bb")
    other.write(other.local, "c", "of the second")
    for permission in (Permission(), REJOIN):
        with pytest.raises(Owned, match="another devsync"):
            other.restart().identify(permission)
    assert pair.texts(pair.remote) == {"a": "a", "b": "bb"}
    assert pair.cycle().complete


def test_112_who_was_taken_over_stops_and_applies_nothing(pair: Pair, other: Pair) -> None:
    pair.engine.identify(Permission())
    pair.agree(a="a")
    other.remote._marker = pair.remote._marker
    with pytest.raises(Halted, match="another project"):
        other.engine.identify(TAKE_OVER)
    assert pair.cycle().complete, "nobody is stopped in vain"
    other.engine.identify(TAKE_OVER | REJOIN)
    other.cycle()
    pair.write(pair.local, "a", "saved by the first, who has not heard of it")
    for hints in ({"a"}, None):
        with pytest.raises(Owned):
            pair.cycle(hints, hints)
    assert other.texts(other.remote) == {"a": "a"}
    with pytest.raises(Owned):
        pair.restart().identify(Permission())


def test_109_a_folder_of_another_project_is_not_mixed_with_this_one(pair: Pair, other: Pair) -> None:
    pair.engine.identify(Permission())
    pair.agree(a="a")
    pair.remote.close()
    other.remote._marker = pair.remote._marker
    other.write(other.local, "c", "of the second")
    with pytest.raises(Halted, match="another project: another devsync") as halted:
        other.engine.identify(Permission())
    assert "sync.path" in halted.value.hint and "--rejoin" in halted.value.hint
    assert pair.texts(pair.remote) == {"a": "a"}
    other.restart().identify(REJOIN)
    assert other.cycle().complete
    assert other.texts(other.local) == other.texts(other.remote) == {"a": "a", "c": "of the second"}


def test_104_a_folder_made_anew_under_a_running_engine_deletes_nothing(pair: Pair) -> None:
    pair.engine.identify(Permission())
    pair.agree(a="a", b="bb")
    pair.remote.entries.clear()
    pair.remote.lease.claim = None
    with pytest.raises(Halted, match="emptied"):
        pair.cycle({"a"}, {"b"})
    assert pair.texts(pair.local) == {"a": "a", "b": "bb"}


def test_a_project_that_lost_its_connection_claims_again(pair: Pair) -> None:
    for _ in range(3):
        pair.restart().identify(Permission())
    pair.agree(a="a")


def test_both_sides_hear_of_an_engine_that_has_nothing_to_do(pair: Pair) -> None:
    pair.engine.identify(Permission())
    for side in (pair.local, pair.remote):
        side.lease.now += 1000
    pair.engine.beat()
    assert pair.local.lease.claim and not pair.local.lease.claim.is_alive(pair.local.lease.now), "not yet due"
    pair.clock.advance(BEAT)
    pair.engine.beat()
    for side in (pair.local, pair.remote):
        assert side.lease.claim and side.lease.claim.is_alive(side.lease.now)


def test_a_long_transfer_shows_signs_of_life(pair: Pair) -> None:
    pair.engine.identify(Permission())
    pair.write(pair.local, "large", "takes its time")
    pair.remote.lease.now += 1000
    pair.clock.advance(BEAT)
    alive = []

    def moved(_side: str, _size: int) -> None:
        assert pair.remote.lease.claim
        alive.append(pair.remote.lease.claim.is_alive(pair.remote.lease.now))

    pair.meter.moved = moved  # type: ignore[method-assign,assignment]  # it listens here
    plan = reconcile(pair.engine.ancestor, pair.local.scan(), Snapshot({}), Mode.TWO_WAY)
    pair.engine.carry_out(plan)
    assert alive == [True]
