"""A large plan in slices: nothing is lost, nothing is done twice, and what hangs together stays together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.reconcile import Plan
from devsync.core.snapshot import Change, File, Outcome
from devsync.daemon import slices
from devsync.daemon.slices import Rest, Slice, sliced
from devsync.ports import Unavailable
from tests.daemon.rig import Pair


def file(path: str, size: int = 10) -> File:
    return File(path.encode().hex().ljust(64, "0")[:64], size)


def to_remote(*changes: Change) -> Plan:
    return Plan(to_remote=changes)


def new(path: str, size: int = 10) -> Change:
    return Change(path, None, file(path, size))


def paths(plan: Plan) -> list[set[str]]:
    return [set(each.paths) for each in sliced(plan)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(slices, "FILES", 3)
    monkeypatch.setattr(slices, "SIZE", 100)
    monkeypatch.setattr(slices, "MANY", 1)
    yield


def test_the_switch_of_a_branch_is_one_slice() -> None:
    plan = to_remote(*(new(f"src/{number}", 10_000) for number in range(3000)))
    assert [each.plan for each in sliced(plan)] == [plan]


@pytest.mark.usefixtures("small")
def test_small_ones_go_first_and_removals_last() -> None:
    gone = Change("gone", file("gone"), None)
    plan = to_remote(gone, new("large", 500), new("b", 60), new("a", 5), new("c", 70), new("d", 0))
    assert paths(plan) == [{"a", "d", "b"}, {"c"}, {"large"}, {"gone"}]


def test_small_ones_are_not_applied_behind_larger_ones() -> None:
    small = [new(f"src/{number}", 1 << 20) for number in range(40)]
    larger = [new(f"data/{number}", 8 << 20) for number in range(5)]
    made = paths(to_remote(*larger, *small))
    assert made[0] == {change.path for change in small}
    assert [len(each) for each in made[1:]] == [4, 1]


@pytest.mark.usefixtures("small")
def test_a_path_is_changed_on_both_sides_or_on_neither() -> None:
    merges = [Change(f"m{number}", file("x"), file("y", number)) for number in range(8)]
    for each in sliced(Plan(tuple(merges), tuple(reversed(merges)))):
        assert {change.path for change in each.plan.to_local} == {
            change.path for change in each.plan.to_remote
        }


@pytest.mark.usefixtures("small")
def test_a_folder_in_the_place_of_a_file_comes_with_its_removal() -> None:
    plan = to_remote(
        *(new(f"{number}", 1) for number in range(5)),
        Change("data", file("data"), None),
        new("data/x", 9),
        Change("Makefile", file("m"), None),
        new("makefile", 9),
    )
    assert paths(plan)[0] == {"data", "data/x", "Makefile", "makefile"}


names = st.sampled_from(["a", "b", "A", "a/x", "a/y", "b/x/y", "c", "d", "e", "f"])
leaves = st.one_of(st.none(), st.builds(file, names, st.integers(0, 200)))
sides = st.dictionaries(names, st.tuples(leaves, leaves), max_size=10)


@given(sides, sides)
def test_every_change_is_in_one_slice(
    here: dict[str, tuple[File, File]], there: dict[str, tuple[File, File]]
) -> None:
    plan = Plan(
        tuple(Change(path, *each) for path, each in here.items()),
        tuple(Change(path, *each) for path, each in there.items()),
        agreed=(("x", None),),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "FILES", 2)
        patch.setattr(slices, "SIZE", 100)
        made = sliced(plan)
    for side in ("to_local", "to_remote"):
        found = [change for each in made for change in getattr(each.plan, side)]
        assert sorted(found, key=str) == sorted(getattr(plan, side), key=str)
    assert made[0].plan.agreed == plan.agreed
    assert sum(len(each.paths) for each in made) == len({*here, *there})


def test_what_is_decided_anew_waits_no_longer() -> None:
    rest = Rest([Slice(to_remote(new("a/x"), new("b"))), Slice(to_remote(new("a/y")))])
    rest.forget({"c", "a/x"})
    assert [set(each.paths) for each in rest] == [{"b"}, {"a/y"}]
    rest.forget({"a"})
    assert [set(each.paths) for each in rest] == [{"b"}]
    rest.forget(None)
    assert not rest


@pytest.mark.usefixtures("small")
def test_a_death_in_the_middle_keeps_what_is_done(pair: Pair) -> None:
    for number in range(10):
        pair.write(pair.local, f"src/{number}", "x" * number)
    apply, batches = pair.remote.apply, []

    def dies(changes: Sequence[Change]) -> list[Outcome]:
        batches.append(len(changes))
        if len(batches) == 3:
            raise Unavailable("the connection was lost")
        return apply(changes)

    pair.remote.apply = dies  # type: ignore[method-assign]  # the third batch does not arrive
    with pytest.raises(Unavailable):
        pair.cycle()
    assert len(pair.store.ancestor()) == 6
    assert len(pair.remote.entries) == 6
    pair.remote.apply = apply  # type: ignore[method-assign]
    pair.restart()
    result = pair.cycle()
    assert result.complete
    assert len(result.plan.to_remote) == 4
    assert len(pair.remote.entries) == 10
