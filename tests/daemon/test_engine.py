"""The engine between two sides in memory: what one cycle does to files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from devsync.core.reconcile import Direction, Mode
from devsync.core.snapshot import ROOT, Change, File, Link, Outcome, RelPath
from devsync.daemon.engine import LOCAL, REMOTE
from devsync.ports import Staging
from tests.daemon.rig import Pair
from tests.fakes.memory import Content


def test_at_the_first_meeting_nothing_is_deleted(pair: Pair) -> None:
    pair.write(pair.local, "same", "equal on both")
    pair.write(pair.remote, "same", "equal on both")
    pair.write(pair.local, "src/here.py", "only here")
    pair.write(pair.remote, "there.ipynb", "only on the machine")
    pair.write(pair.local, "both", "one")
    pair.write(pair.remote, "both", "another")
    result = pair.cycle()
    assert result.complete
    assert [(c.path, c.kind) for c in result.plan.conflicts] == [("both", "both-added")]
    assert set(pair.engine.conflicts) == {"both"}
    for side, kept in ((pair.local, "one"), (pair.remote, "another")):
        assert pair.texts(side) == {
            "same": "equal on both",
            "src/here.py": "only here",
            "there.ipynb": "only on the machine",
            "both": kept,
        }
        assert not side.trash
    assert pair.meter.bytes == {LOCAL: len("only on the machine"), REMOTE: len("only here")}


@pytest.mark.parametrize("edited", [LOCAL, REMOTE])
def test_what_one_side_changed_is_carried_over(pair: Pair, edited: str) -> None:
    pair.agree(a="first", b="to be deleted", c__d="kept")
    source, target = (pair.local, pair.remote) if edited == LOCAL else (pair.remote, pair.local)
    pair.write(source, "a", "second version")
    del source.entries["b"]
    pair.write(source, "new/file", "x", executable=True)
    source.entries["link"] = Link("c/d")
    assert pair.cycle().complete
    assert pair.texts(target) == {"a": "second version", "c/d": "kept", "new/file": "x", "link": "-> c/d"}
    assert target.entries["new/file"] == Content(b"x", True)
    assert {path for path, _ in target.trash} == {"a", "b"}
    assert not source.trash
    assert pair.cycle().plan.quiet


def test_a_change_of_the_bit_alone_carries_no_content(pair: Pair) -> None:
    pair.agree(run="#!/bin/sh")
    before = dict(pair.meter.bytes)
    pair.write(pair.local, "run", "#!/bin/sh", executable=True)
    pair.cycle()
    assert pair.remote.entries["run"] == Content(b"#!/bin/sh", True)
    assert pair.meter.bytes == before


def test_the_bit_of_one_side_and_the_content_of_the_other_come_together(pair: Pair) -> None:
    pair.agree(run="#!/bin/sh")
    pair.write(pair.local, "run", "#!/bin/sh", executable=True)
    pair.write(pair.remote, "run", "#!/bin/sh\nls\n")
    assert pair.cycle().complete
    both = Content(b"#!/bin/sh\nls\n", True)
    assert (pair.local.entries["run"], pair.remote.entries["run"]) == (both, both)
    assert pair.engine.ancestor.leaves["run"] == both.leaf()


def test_a_conflict_leaves_both_and_vanishes_when_they_are_equal(pair: Pair) -> None:
    pair.agree(a="base", other="o")
    pair.write(pair.local, "a", "mine now")
    pair.write(pair.remote, "a", "theirs")
    assert [c.kind for c in pair.cycle().plan.conflicts] == ["both-modified"]
    assert (pair.texts(pair.local)["a"], pair.texts(pair.remote)["a"]) == ("mine now", "theirs")
    assert pair.cycle(["other"], []).complete
    assert set(pair.engine.conflicts) == {"a"}, "a look elsewhere does not end it"
    pair.write(pair.local, "a", "theirs")
    assert pair.cycle(["a"], []).complete
    assert pair.engine.conflicts == {}
    assert pair.texts(pair.remote)["a"] == "theirs"


def test_new_content_outranks_a_deletion(pair: Pair) -> None:
    pair.agree(a="base", b="base too")
    del pair.local.entries["a"], pair.remote.entries["b"]
    pair.write(pair.remote, "a", "edited there")
    pair.write(pair.local, "b", "edited")
    assert pair.cycle().complete
    assert pair.texts(pair.local) == pair.texts(pair.remote) == {"a": "edited there", "b": "edited"}


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
def test_2_7_of_a_deleted_folder_what_was_edited_or_new_comes_back(pair: Pair, where: str) -> None:
    pair.agree(d__edited="base", d__other="o", d__sub__third="third", beside="b")
    side, other = (pair.local, pair.remote) if where == LOCAL else (pair.remote, pair.local)
    for path in ("d/edited", "d/other", "d/sub/third"):
        del side.entries[path]
    pair.write(other, "d/edited", "edited there")
    pair.write(other, "d/sub/new", "new there")
    assert pair.cycle().complete
    rest = {"d/edited": "edited there", "d/sub/new": "new there", "beside": "b"}
    assert pair.texts(side) == pair.texts(other) == rest


def test_14_a_week_apart_ends_in_the_conflicts_alone(pair: Pair) -> None:
    count, both = 300, 25
    pair.agree(**{f"f{number}": f"{number}" for number in range(2 * count)})
    for number in range(count + both):
        pair.write(pair.local, f"f{number}", f"here {number}")
        pair.write(pair.remote, f"f{2 * count - 1 - number}", f"far there {number}")
    result = pair.cycle()
    conflicts = {conflict.path for conflict in result.plan.conflicts}
    assert conflicts == {f"f{number}" for number in range(count - both, count + both)}
    here, there = pair.texts(pair.local), pair.texts(pair.remote)
    assert {path for path in here if here[path] != there[path]} == conflicts
    assert len(here) == len(there) == 2 * count


def test_49_a_save_of_a_conflict_is_no_second_conflict(pair: Pair) -> None:
    pair.agree(notebook="base")
    pair.write(pair.local, "notebook", "mine, in an editor")
    for number in range(5):
        pair.write(pair.remote, "notebook", "saved by itself " * (number + 1))
        assert [conflict.path for conflict in pair.cycle().plan.conflicts] == ["notebook"]
    assert pair.texts(pair.local) == {"notebook": "mine, in an editor"}
    assert set(pair.texts(pair.remote)) == {"notebook"}, "no copies beside it"


def test_a_local_hint_presumes_what_the_machine_holds_and_finds_out(pair: Pair) -> None:
    pair.agree(a="base", b="b")
    pair.write(pair.remote, "a", "edited there, unseen")
    pair.write(pair.local, "a", "edited here")
    result = pair.cycle(["a"], [])
    assert result.again == {"a"}
    assert pair.texts(pair.remote)["a"] == "edited there, unseen"
    assert not pair.store.intents(), "what was refused is no intent"
    assert pair.cycle(result.again, result.again).plan.conflicts[0].path == "a"


def test_a_scope_touches_nothing_else(pair: Pair) -> None:
    pair.agree(a="a", b="bb")
    pair.write(pair.local, "a", "new a")
    pair.write(pair.local, "b", "new bb")
    pair.cycle(["a"], [])
    assert pair.texts(pair.remote) == {"a": "new a", "b": "bb"}
    pair.cycle([ROOT], [])
    assert pair.texts(pair.remote)["b"] == "new bb"


@pytest.mark.parametrize("hinted", [LOCAL, REMOTE])
def test_a_file_that_became_a_folder_is_seen_from_below(pair: Pair, hinted: str) -> None:
    pair.agree(a="was a file", b="b")
    source, target = (pair.local, pair.remote) if hinted == LOCAL else (pair.remote, pair.local)
    del source.entries["a"]
    pair.write(source, "a/b", "in a folder now")
    hints: tuple[list[RelPath], list[RelPath]] = (["a/b"], [])
    result = pair.cycle(*(hints if hinted == LOCAL else reversed(hints)))
    assert not result.plan.conflicts
    assert pair.texts(target) == {"b": "b", "a/b": "in a folder now"}


def test_a_refusal_is_looked_at_again_with_nothing_overwritten(pair: Pair) -> None:
    pair.agree(a="base")
    pair.write(pair.local, "a", "mine")
    apply = pair.remote.apply

    def race(changes: Sequence[Change]) -> list[Outcome]:
        pair.write(pair.remote, "a", "written in between")
        return apply(changes)

    pair.remote.apply = race  # type: ignore[method-assign]  # somebody writes at the worst moment
    result = pair.cycle()
    assert result.again == {"a"}
    assert not result.later and not result.problems
    assert not result.complete
    assert pair.texts(pair.remote)["a"] == "written in between"
    assert [c.path for c in pair.cycle(result.again, result.again).plan.conflicts] == ["a"]


def test_a_file_that_changes_while_it_is_read_is_read_later(pair: Pair) -> None:
    pair.agree(a="base", b="b")
    pair.write(pair.local, "a", "being written")
    pair.write(pair.local, "b", "steady")
    supply = pair.local.supply

    def torn(wanted: Sequence[tuple[RelPath, File]], staging: Staging) -> None:
        pair.write(pair.local, "a", "being written, more")
        supply(wanted, staging)

    pair.local.supply = torn  # type: ignore[method-assign]  # it grows between the look and the reading
    result = pair.cycle()
    assert result.later == {"a"}
    assert set(result.problems) == {"a"}
    assert pair.texts(pair.remote) == {"a": "base", "b": "steady"}
    pair.local.supply = supply  # type: ignore[method-assign]
    assert pair.cycle(result.later, result.later).complete
    assert pair.texts(pair.remote)["a"] == "being written, more"


def test_half_of_a_merge_is_not_done(pair: Pair) -> None:
    pair.agree(run="#!/bin/sh")
    pair.write(pair.local, "run", "#!/bin/sh", executable=True)
    pair.write(pair.remote, "run", "#!/bin/sh\nls\n")

    def gone(wanted: Sequence[tuple[RelPath, File]], staging: Staging) -> None:
        for _, file in wanted:
            staging.put(file, iter([b"torn"]))

    pair.remote.supply = gone  # type: ignore[method-assign]  # what arrives is not what was promised
    assert pair.cycle().later == {"run"}
    assert pair.local.entries["run"] == Content(b"#!/bin/sh", True)
    assert pair.remote.entries["run"] == Content(b"#!/bin/sh\nls\n", False)


def test_nothing_is_decided_below_what_cannot_be_read(pair: Pair) -> None:
    pair.agree(data__a="a", data__b="bb", top="t")
    pair.local.unreadable["data"] = "permission denied"
    pair.write(pair.remote, "data/a", "changed there")
    pair.write(pair.local, "top", "changed here")
    result = pair.cycle()
    assert dict(result.problems) == {"data": "permission denied"}
    assert pair.texts(pair.remote) == {"data/a": "changed there", "data/b": "bb", "top": "changed here"}
    pair.local.unreadable.clear()
    pair.cycle()
    assert pair.texts(pair.local)["data/a"] == "changed there"


def test_one_direction_leaves_the_other_side_alone(pair: Pair) -> None:
    pair.agree(a="a", b="bb")
    pair.write(pair.local, "a", "from here")
    pair.write(pair.remote, "b", "from there")
    pair.cycle(direction=Direction.PUSH)
    assert pair.texts(pair.remote) == {"a": "from here", "b": "from there"}
    assert pair.texts(pair.local) == {"a": "from here", "b": "bb"}
    pair.cycle(direction=Direction.PULL)
    assert pair.texts(pair.local) == {"a": "from here", "b": "from there"}


def test_a_mirror_follows_the_local_side_and_keeps_what_it_replaces(tmp_path: Path) -> None:
    pair = Pair(tmp_path, Mode.MIRROR)
    pair.agree(a="a", b="bb")
    pair.write(pair.remote, "a", "edited there")
    pair.write(pair.remote, "extra", "only there")
    assert pair.cycle().complete
    assert pair.texts(pair.remote) == {"a": "a", "b": "bb"}
    assert sorted(path for path, _ in pair.remote.trash) == ["a", "extra"]
    pair.close()
