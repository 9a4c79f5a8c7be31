"""A look at everything: what of it travels, how often one waits, and the bytes that stay for each file."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.ignore import Rule, Rules
from devsync.core.reconcile import reconcile
from devsync.core.snapshot import Change, File, Leaf, Link, RelPath, Snapshot
from devsync.replica import remote, wire
from devsync.replica.digests import Digests
from devsync.replica.remote import RemoteReplica
from devsync.replica.sums import deal, groups_for, sums
from devsync.replica.tree import Tree
from devsync.store import Store
from tests.fakes.process import LocalProcess

DIGESTS = [letter * 64 for letter in "ab"]
LEAVES = st.one_of(
    st.builds(File, st.sampled_from(DIGESTS), st.integers(0, 2), st.booleans()),
    st.builds(Link, st.sampled_from(["x", "\udc80", "../y"])),
)
TREES = st.dictionaries(st.sampled_from(["a", "b", "a/b", "é", "\udcff", "x\ny", "0", "c"]), LEAVES)


class NoSftp:
    """Nothing is asked of it."""

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def side(tmp_path: Path) -> Iterator[RemoteReplica]:
    """The replica of a folder with nine files, by a helper over a pipe."""
    for number in range(9):
        (tmp_path / f"f{number}").write_bytes(b"x" * number)
    made = RemoteReplica(LocalProcess, NoSftp, str(tmp_path))  # type: ignore[arg-type]  # never asked
    made.set_rules(Rules())
    yield made
    made.close()


# ---------------------------------------------------------------- sums


@given(TREES, TREES, st.integers(1, 40))
def test_a_look_arrives_whole_whatever_was_presumed(
    here: Mapping[RelPath, Leaf], presumed: Mapping[RelPath, Leaf], groups: int
) -> None:
    dealt = deal(presumed, groups)
    look = Snapshot(here, {"p": "unreadable"}, {"s": "socket"})
    told = json.loads(json.dumps(wire.news_to_json(look, sums(presumed, dealt))))
    assert wire.news_from_json(told, presumed, dealt) == look
    if here == presumed:
        assert told["leaves"] == told["differing"] == []


def test_a_difference_costs_a_group_and_not_the_look() -> None:
    here: dict[RelPath, Leaf] = {f"d/{number}": File(DIGESTS[0], number) for number in range(10_000)}
    before = {**here, "d/77": File(DIGESTS[1], 77), "gone": Link("x")}
    del before["d/78"]
    told = wire.news_to_json(Snapshot(here), sums(before, deal(before, groups_for(len(before)))))
    assert 1 <= len(told["differing"]) <= 3
    assert len(told["leaves"]) < 300


# ---------------------------------------------------------------- the machine


def test_a_look_at_everything_is_one_wait(side: RemoteReplica, monkeypatch: pytest.MonkeyPatch) -> None:
    side.presume({})
    leaves = side.scan().leaves
    side.marker()
    asked: list[str] = []
    ask, helper = side.helper.ask, side.helper

    def noting(verb: str, **arguments: object) -> object:
        asked.append(verb)
        return ask(verb, **arguments)

    monkeypatch.setattr(helper, "ask", noting)
    side.presume(leaves)
    assert asked == ["scan"], "begun, while the other side looks"
    assert side.scan().leaves == leaves
    assert side.marker() is None
    assert asked == ["scan", "marker"], "which was sent before the look was waited for"


def test_a_look_that_nobody_used_is_not_used_later(side: RemoteReplica, tmp_path: Path) -> None:
    side.presume({})
    side.scan()
    side.presume({})
    side.helper.call("beat")  # by now it has looked
    (tmp_path / "late").write_bytes(b"late")
    side.presume({})
    assert "late" in side.scan().leaves
    side.presume({})
    side.set_rules(Rules(own=(Rule("", "late"),)))
    assert "late" not in side.scan().leaves


def test_many_changes_go_in_parts_and_are_one_batch(
    side: RemoteReplica, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote, "PART", 4)
    leaves = side.scan().leaves
    wrong = File("0" * 64, 1)
    changes = [Change(path, wrong if path == "f5" else leaf, None) for path, leaf in leaves.items()]
    outcomes = side.apply(changes)
    assert [outcome.path for outcome in outcomes] == [change.path for change in changes]
    assert {outcome.path: outcome.now for outcome in outcomes if not outcome.done} == {"f5": leaves["f5"]}
    assert [path.name for path in tmp_path.glob("f*")] == ["f5"]
    assert len({version.id.partition("/")[0] for version in side.versions()}) == 1


# ---------------------------------------------------------------- memory


def test_what_stays_for_a_file_is_less_than_a_kibibyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devsync.replica.digests.RACY", 0)
    monkeypatch.setattr("devsync.replica.digests.QUIET", 0)
    files, root, store = 2_000, tmp_path / "project", Store(tmp_path / "memory")
    for number in range(files):
        path = root / f"package_{number % 50}" / f"a_module_of_it_{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    tree = Tree(str(root))
    store.settle(list(tree.scan(Rules()).leaves.items()))
    store.remember_digests(*tree.digests.take_changes())
    store.close()

    tracemalloc.start()
    try:
        store = Store(tmp_path / "memory")
        tree, ancestor = Tree(str(root), Digests(store.digests())), store.ancestor()
        for _ in range(2):
            dealt = deal(ancestor.leaves, groups_for(files))
            look = tree.scan(Rules())
            ancestor.share(look.leaves)
            there = wire.news_from_json(
                wire.news_to_json(look, sums(ancestor.leaves, dealt)), ancestor.leaves, dealt
            )
            assert reconcile(ancestor, look, there).quiet
            del look, there, dealt
        stays, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ancestor) == len(tree.digests.known) == files
    assert all(known[1] is ancestor.leaves[path] for path, known in tree.digests.known.items())
    assert all(path is known[0] for path, known in tree.digests.known.items())
    assert stays / files < 700
    assert peak / files < 1024
    store.close()
