"""However a path comes into view, what lies too deep is not looked into."""

from __future__ import annotations

from pathlib import Path

from devsync.core.ignore import Rules
from devsync.replica.tree import MAX_DEPTH, Tree


def test_100_151_a_hint_sees_no_deeper_than_a_look_at_everything(tmp_path: Path) -> None:
    bottom = "/".join(["d"] * (MAX_DEPTH + 3)) + "/bottom.txt"
    deepest = "/".join(["d"] * MAX_DEPTH) + "/last.txt"
    (tmp_path / bottom).parent.mkdir(parents=True)
    (tmp_path / bottom).write_text("too deep")
    (tmp_path / deepest).write_text("just so")
    tree = Tree(str(tmp_path))
    everything = tree.scan(Rules())
    assert set(everything.leaves) == {deepest}
    assert list(everything.problems) == ["/".join(["d"] * (MAX_DEPTH + 1))]
    for hinted in (bottom, "/".join(["d"] * (MAX_DEPTH + 2)), "/".join(["d"] * (MAX_DEPTH + 1))):
        found = tree.scan(Rules(), {hinted})
        assert not found.leaves
        assert found.problems == everything.problems
    assert set(tree.scan(Rules(), {deepest}).leaves) == {deepest}
