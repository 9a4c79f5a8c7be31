"""A new file that only its owner may read is never made readable for others on its way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.reconcile import reconcile
from devsync.core.snapshot import Ancestor, Change, File, Snapshot
from devsync.replica import wire
from devsync.replica.local import LocalReplica
from tests.replica.test_commit_races import NEW, file


@pytest.fixture(params=[0o022, 0o077], ids=["open", "closed"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def claimed(root: Path) -> LocalReplica:
    replica = LocalReplica(root)
    replica.claim("us", "a test", take_over=False)
    return replica


def test_161_a_file_is_private_where_others_are_not(tmp_path: Path, umask: int) -> None:
    (tmp_path / "usual").write_text("of the usual mode")
    (tmp_path / "private").write_text("of its owner alone")
    (tmp_path / "private").chmod(0o600)
    found = claimed(tmp_path).scan()
    assert set(found.leaves) == {"usual", "private"}
    assert set(found.private) == ({"private"} if umask == 0o022 else set())


@pytest.mark.parametrize("executable", [False, True])
def test_161_it_is_made_so_and_no_other_is(tmp_path: Path, executable: bool) -> None:
    replica = claimed(tmp_path)
    staging = replica.staging()
    staging.put(file(NEW), [NEW])
    assert staging.finish() == {}
    leaf = File(file(NEW).digest, len(NEW), executable)
    outcomes = replica.apply([Change("private", None, leaf, True), Change("usual", None, leaf)])
    assert all(outcome.done for outcome in outcomes)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("private", "usual")]
    assert modes[0] == (0o700 if executable else 0o600)
    assert modes[1] & 0o044


def test_161_it_is_no_part_of_what_is_compared() -> None:
    leaf = file(NEW)
    here, there = Snapshot({"a": leaf, "b": leaf}, private={"a"}), Snapshot({"a": leaf})
    plan = reconcile(Ancestor(), here, there)
    assert [(change.path, change.private) for change in plan.to_remote] == [("b", False)]
    plan = reconcile(Ancestor(), here, Snapshot({}))
    assert {change.path: change.private for change in plan.to_remote} == {"a": True, "b": False}


def test_161_it_travels_with_the_look_and_with_the_change() -> None:
    leaf = file(NEW)
    look = Snapshot({"a": leaf, "b": leaf}, private={"a", "presumed"})
    assert wire.snapshot_from_json(wire.snapshot_to_json(look), None).private == {"a"}
    changes = [Change("a", None, leaf, True), Change("b", None, leaf)]
    assert wire.changes_from_json(wire.changes_to_json(changes)) == changes
    with pytest.raises(ValueError, match="no private files"):
        wire.snapshot_from_json({**wire.snapshot_to_json(look), "private": ["../etc"]}, None)
