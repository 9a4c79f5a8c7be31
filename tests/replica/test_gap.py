"""An editor takes a file away before it puts the new one there: what is between the two is no deletion."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devsync.replica.digests import QUIET
from devsync.replica.local import LocalReplica

OLD = time.time() - 3600


class Gap:
    """A project that has been looked at; `during` happens while the next look waits."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.waits: list[float] = []
        self.during: Callable[[], object] = lambda: None
        monkeypatch.setattr("devsync.replica.tree.time.sleep", self._sleep)
        (root / "src").mkdir()
        for name in ("model.py", "train.py"):
            (root / "src" / name).write_text(f"the {name}")
        self.replica = LocalReplica(root)
        assert set(self.replica.scan().leaves) == {"src/model.py", "src/train.py"}
        self.waits.clear()

    def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) == 1:
            self.during()

    def put_back(self) -> None:
        """As if it had been written a while ago, and was moved in now."""
        beside = self.root / "src/___jb_tmp___"
        beside.write_text("the new model.py, saved")
        os.replace(beside, self.root / "src/model.py")


@pytest.fixture
def gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gap:
    return Gap(tmp_path, monkeypatch)


@pytest.mark.parametrize("scope", [["src/model.py"], None])
def test_47_a_file_between_its_removal_and_its_return_is_not_deleted(
    gap: Gap, scope: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devsync.replica.tree.is_young", lambda _: False)
    (gap.root / "src/model.py").unlink()
    gap.during = gap.put_back
    found = gap.replica.scan(scope)
    assert "src/model.py" in found.leaves
    assert not found.problems
    assert gap.waits == [QUIET / 1e9], "one quiet time"


@pytest.mark.parametrize("scope", [["src/model.py"], None])
def test_47_a_file_that_stays_away_is_gone_after_one_quiet_time(gap: Gap, scope: list[str] | None) -> None:
    (gap.root / "src/model.py").unlink()
    assert "src/model.py" not in gap.replica.scan(scope).leaves
    assert gap.waits == [QUIET / 1e9]
    gap.replica.scan()
    gap.waits.clear()
    gap.replica.scan(scope)
    assert gap.waits == [], "that is known by now"


def test_47_what_never_was_there_is_not_waited_for(gap: Gap) -> None:
    gap.replica.scan(["src/4913", "src/.model.py.swp", "nowhere/at-all"])
    assert gap.waits == []


def test_54_thousands_that_git_deletes_cost_one_quiet_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"file{number}" for number in range(3000)]
    for name in names:
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (OLD, OLD))
    replica = LocalReplica(tmp_path)
    assert len(replica.scan().leaves) == 3000
    for name in names:
        (tmp_path / name).unlink()
    waits: list[float] = []
    monkeypatch.setattr("devsync.replica.tree.time.sleep", waits.append)
    assert not replica.scan(names).leaves
    assert waits == [QUIET / 1e9]


def test_47_what_is_behind_a_folder_that_became_a_link_is_gone(gap: Gap) -> None:
    (gap.root / "src").rename(gap.root / "elsewhere")
    os.symlink("elsewhere", gap.root / "src")
    found = gap.replica.scan()
    assert "src/model.py" not in found.leaves
    assert not found.problems
    assert gap.waits == [QUIET / 1e9]
