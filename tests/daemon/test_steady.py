"""A side that is watched for git's work is still the whole side."""

from __future__ import annotations

from pathlib import Path

import pytest

from devsync.core.names import Named
from devsync.core.version import Trash
from devsync.daemon.steady import Disturbed, Steady
from devsync.replica.local import LocalReplica


def test_it_can_all_that_the_side_can(tmp_path: Path) -> None:
    steady = Steady(LocalReplica(tmp_path), lambda: False)
    assert isinstance(steady, Named)
    assert isinstance(steady, Trash)
    steady.claim("me", "here:/", take_over=False)
    assert steady.versions() == []
    (tmp_path / "a.txt").write_text("seen")
    assert set(steady.scan().leaves) == {"a.txt"}
    steady.close()


def test_a_look_that_was_disturbed_is_not_believed(tmp_path: Path) -> None:
    steady = Steady(LocalReplica(tmp_path), lambda: True)
    with pytest.raises(Disturbed):
        steady.scan()
    steady.close()
