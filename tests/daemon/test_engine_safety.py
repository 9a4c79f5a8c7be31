"""The engine when something went wrong: crashes, sides that are not the known ones, deletions by accident."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from devsync.core.safety import WINDOW
from devsync.core.snapshot import Change, Outcome
from devsync.daemon.engine import LOCAL, REMOTE, Permission
from devsync.ports import Halted, Unavailable
from tests.daemon.rig import Pair
from tests.fakes.memory import MemoryReplica

# ------------------------------------------------------------ crashes


class Crash(BaseException):
    """The process dies here."""


def crash_after_apply(side: MemoryReplica) -> None:
    apply = side.apply

    def dying(changes: Sequence[Change]) -> list[Outcome]:
        apply(changes)
        side.apply = apply  # type: ignore[method-assign]  # for the next life
        raise Crash

    side.apply = dying  # type: ignore[method-assign]  # the change is made, and nobody learns of it


def crash_before_apply(side: MemoryReplica) -> None:
    apply = side.apply

    def dying(changes: Sequence[Change]) -> list[Outcome]:
        side.apply = apply  # type: ignore[method-assign]  # for the next life
        raise Crash

    side.apply = dying  # type: ignore[method-assign]  # nothing was done


@pytest.mark.parametrize("writer", [LOCAL, REMOTE])
def test_old_bytes_that_are_put_back_after_a_crash_are_an_edit(pair: Pair, writer: str) -> None:
    pair.agree(a="first", b="b")
    source, target = (pair.local, pair.remote) if writer == LOCAL else (pair.remote, pair.local)
    pair.write(source, "a", "second version")
    crash_after_apply(target)
    with pytest.raises(Crash):
        pair.cycle()
    assert [(side, change.path) for side, change in pair.store.intents()] == [
        (REMOTE if writer == LOCAL else LOCAL, "a")
    ]
    pair.write(source, "a", "first")  # git switch, and back
    pair.restart()
    assert pair.cycle().complete
    assert pair.texts(source)["a"] == "first", "the only writer was overruled"
    assert pair.texts(target)["a"] == "first"
    assert not pair.store.intents()


def test_a_deletion_that_is_undone_after_a_crash_stays_undone(pair: Pair) -> None:
    pair.agree(a="first", b="b", c="cc")
    del pair.local.entries["a"]
    crash_after_apply(pair.remote)
    with pytest.raises(Crash):
        pair.cycle()
    pair.write(pair.local, "a", "first")
    pair.restart()
    pair.cycle()
    assert pair.texts(pair.local)["a"] == pair.texts(pair.remote)["a"] == "first"


@pytest.mark.parametrize("writer", [LOCAL, REMOTE])
def test_a_change_that_was_never_made_is_made(pair: Pair, writer: str) -> None:
    pair.agree(a="first", b="b")
    source, target = (pair.local, pair.remote) if writer == LOCAL else (pair.remote, pair.local)
    pair.write(source, "a", "second version")
    crash_before_apply(target)
    with pytest.raises(Crash):
        pair.cycle()
    pair.restart()
    pair.cycle()
    assert pair.texts(target)["a"] == "second version"
    assert not pair.store.intents()


def test_an_edit_on_top_of_a_change_that_was_not_seen_is_a_conflict(pair: Pair) -> None:
    pair.agree(a="first", b="b")
    pair.write(pair.local, "a", "second version")
    crash_after_apply(pair.remote)
    with pytest.raises(Crash):
        pair.cycle()
    pair.write(pair.remote, "a", "edited on top of it")
    pair.write(pair.local, "a", "first")
    pair.restart()
    assert [conflict.path for conflict in pair.cycle().plan.conflicts] == ["a"]
    assert pair.texts(pair.local)["a"] == "first"
    assert pair.texts(pair.remote)["a"] == "edited on top of it"


def test_what_cannot_be_seen_after_a_crash_is_asked_again(pair: Pair) -> None:
    pair.agree(d__a="first", b="b")
    pair.write(pair.local, "d/a", "second version")
    crash_after_apply(pair.remote)
    with pytest.raises(Crash):
        pair.cycle()
    pair.write(pair.local, "d/a", "first")
    pair.remote.unreadable["d"] = "permission denied"
    pair.restart()
    pair.cycle()
    assert pair.store.intents(), "nobody knows yet what became of it"
    pair.remote.unreadable.clear()
    pair.cycle(["b"], [])
    assert pair.texts(pair.local)["d/a"] == "first"
    assert pair.texts(pair.remote)["d/a"] == "first"
    assert not pair.store.intents()


def test_half_a_merge_is_finished_after_a_crash(pair: Pair) -> None:
    pair.agree(run="#!/bin/sh")
    pair.write(pair.local, "run", "#!/bin/sh", executable=True)
    pair.write(pair.remote, "run", "#!/bin/sh\nls\n")
    crash_before_apply(pair.remote)
    with pytest.raises(Crash):
        pair.cycle()
    assert len(pair.store.intents()) == 2
    pair.restart()
    assert pair.cycle().complete
    assert pair.local.entries["run"] == pair.remote.entries["run"]
    assert pair.local.entries["run"].leaf().executable  # type: ignore[union-attr]  # it is a file


def test_a_link_that_breaks_between_the_two_sides_loses_nothing(pair: Pair) -> None:
    pair.agree(a="a", b="bb")
    pair.write(pair.local, "a", "from here")
    pair.write(pair.remote, "b", "from there")
    pair.remote.apply = _unavailable  # type: ignore[method-assign]  # the link breaks in the middle
    with pytest.raises(Unavailable):
        pair.cycle()
    del pair.remote.apply
    pair.restart()
    assert pair.cycle().complete
    assert pair.texts(pair.local) == pair.texts(pair.remote) == {"a": "from here", "b": "from there"}


def _unavailable(changes: Sequence[Change]) -> list[Outcome]:
    raise Unavailable("lost")


# ------------------------------------------------------------ who the sides are


def test_known_sides_are_recognised_again_and_again(pair: Pair) -> None:
    for _ in range(3):
        pair.engine.identify(Permission())
        pair.agree(a="a", b="bb")
        pair.restart()
    assert pair.local.marker() == pair.remote.marker()
    assert (pair.local.marker() or {})["generation"] == 3


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
@pytest.mark.parametrize("kind", ["missing", "foreign", "older", "newer"])
def test_a_side_that_is_not_the_known_one_halts_until_it_is_joined_anew(
    pair: Pair, where: str, kind: str
) -> None:
    for _ in range(3):
        pair.engine.identify(Permission())
    pair.agree(a="a", b="bb")
    side = pair.local if where == LOCAL else pair.remote
    mark = dict(side.marker() or {})
    changed: dict[str, dict[str, object] | None] = {
        "missing": None,
        "foreign": {**mark, "pair": "somebody else"},
        "older": {**mark, "generation": 2},
        "newer": {**mark, "generation": 5},
    }
    side._marker = changed[kind]
    pair.write(pair.remote, "a", "edited there")
    del pair.remote.entries["b"]
    engine = pair.restart()
    with pytest.raises(Halted, match=where if kind != "newer" else "memory") as caught:
        engine.identify(Permission())
    assert "--rejoin" in caught.value.hint
    engine.identify(Permission(rejoin=True))
    result = pair.cycle()
    assert [conflict.path for conflict in result.plan.conflicts] == ["a"]
    assert pair.texts(pair.remote) == {"a": "edited there", "b": "bb"}, "nothing is deleted"
    pair.restart().identify(Permission())


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
def test_a_crash_while_the_marks_are_written_is_no_reason_to_halt(pair: Pair, where: str) -> None:
    pair.engine.identify(Permission())
    pair.agree(a="a", b="bb")
    side = pair.local if where == LOCAL else pair.remote
    write = side.write_marker

    def dying(mark: object) -> None:
        side.write_marker = write  # type: ignore[method-assign]  # for the next life
        raise Crash

    side.write_marker = dying  # type: ignore[method-assign,assignment]  # nothing was written
    with pytest.raises(Crash):
        pair.engine.identify(Permission())
    pair.restart().identify(Permission())
    assert pair.local.marker() == pair.remote.marker()


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
def test_a_side_that_became_empty_is_a_fault(pair: Pair, where: str) -> None:
    pair.agree(a="a", b="bb")
    side, other = (pair.local, pair.remote) if where == LOCAL else (pair.remote, pair.local)
    side.entries.clear()
    with pytest.raises(Halted, match=f"the {where} side is empty"):
        pair.cycle()
    assert pair.texts(other) == {"a": "a", "b": "bb"}
    pair.engine.identify(Permission(rejoin=True))
    assert pair.cycle().complete
    assert pair.texts(side) == {"a": "a", "b": "bb"}


# ------------------------------------------------------------ storms


def many(pair: Pair, count: int = 100) -> None:
    for number in range(count):
        pair.write(pair.local, f"src/{number:03}", "x" * number)
    pair.cycle()


def delete(side: MemoryReplica, first: int, last: int) -> None:
    for number in range(first, last):
        del side.entries[f"src/{number:03}"]


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
def test_too_many_deletions_halt_until_they_are_allowed(pair: Pair, where: str) -> None:
    many(pair)
    side, other = (pair.local, pair.remote) if where == LOCAL else (pair.remote, pair.local)
    delete(side, 0, 51)
    pair.write(side, "new", "would be carried over")
    with pytest.raises(Halted, match="51 of 100 files would be deleted"):
        pair.cycle()
    assert len(other.entries) == 100, "nothing at all was applied"
    assert pair.cycle(permission=Permission(deletions=True)).complete
    assert len(other.entries) == 50
    delete(side, 51, 60)
    assert pair.cycle().complete, "what was allowed does not count again"


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
def test_deletions_in_small_portions_add_up_within_the_window(pair: Pair, where: str) -> None:
    many(pair)
    side, other = (pair.local, pair.remote) if where == LOCAL else (pair.remote, pair.local)
    delete(side, 0, 30)
    pair.cycle()
    pair.clock.advance(WINDOW - 1)
    delete(side, 30, 60)
    with pytest.raises(Halted, match="60 of 70"):
        pair.cycle()
    pair.restart()
    with pytest.raises(Halted):
        pair.cycle()  # a reconnect forgets nothing
    assert len(other.entries) == 70
    pair.clock.advance(2)
    assert pair.cycle().complete
    assert len(other.entries) == 40


def test_what_git_explains_neither_halts_nor_counts(pair: Pair) -> None:
    many(pair)
    pair.gone_by_git = {f"src/{number:03}" for number in range(80)}
    delete(pair.local, 0, 80)
    assert pair.cycle().complete
    pair.gone_by_git = ()
    delete(pair.local, 80, 85)
    assert pair.cycle().complete, "an ordinary deletion after a branch switch"
    assert len(pair.remote.entries) == 15


def test_git_here_explains_nothing_that_vanished_there(pair: Pair) -> None:
    many(pair)
    pair.gone_by_git = {f"src/{number:03}" for number in range(80)}
    delete(pair.remote, 0, 80)
    with pytest.raises(Halted, match="on the local side, because they are gone on the machine"):
        pair.cycle()


def test_a_moved_folder_is_no_deletion(pair: Pair) -> None:
    many(pair)
    for path in list(pair.local.entries):
        pair.local.entries["lib/" + path] = pair.local.entries.pop(path)
    assert pair.cycle().complete
    assert set(pair.remote.entries) == set(pair.local.entries)
