"""A disk that refuses: it has turned read-only, or a file may not be changed. Nothing else suffers."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.snapshot import Change
from devsync.replica.local import LocalReplica
from tests.replica.test_commit_races import NEW, OLD, file

LOOKS = {"list"}
"""The steps that write nothing."""


class Disk:
    """Can be turned read-only."""

    def __init__(self) -> None:
        self.read_only = False

    def __call__(self, effect: str, _path: str) -> None:
        if self.read_only and effect not in LOOKS:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def stage(replica: LocalReplica) -> dict[str, str]:
    staging = replica.staging()
    staging.put(file(NEW), [NEW])
    return dict(staging.finish())


@pytest.mark.parametrize(
    "change",
    [Change("new", None, file(NEW)), Change("old", file(OLD), file(NEW)), Change("old", file(OLD), None)],
)
def test_80_a_disk_that_turns_read_only_is_looked_at_and_heals(tmp_path: Path, change: Change) -> None:
    (tmp_path / "old").write_bytes(OLD)
    disk = Disk()
    replica = LocalReplica(tmp_path, step=disk)
    replica.claim("us", "a test", take_over=False)
    assert stage(replica) == {}
    disk.read_only = True
    [outcome] = replica.apply([change])
    assert not outcome.done
    assert "Read-only file system" in outcome.problem
    assert all("Read-only" in why for why in stage(replica).values())
    assert replica.scan().leaves == {"old": file(OLD)}, "what is there can still go to the other side"
    disk.read_only = False
    assert stage(replica) == {}
    [outcome] = replica.apply([change])
    assert outcome.done
    assert replica.scan().leaves.get(change.path) == change.new


@pytest.fixture
def immutable(tmp_path: Path) -> Iterator[Path]:
    """A file that may not be changed, not even by root."""
    path = tmp_path / "fixed"
    path.write_bytes(OLD)
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", path], capture_output=True, check=False).returncode:
        pytest.skip("no file can be made immutable here")
    yield path
    subprocess.run([chattr, "-i", path], check=True)


@pytest.mark.parametrize("new", [file(NEW), None])
def test_84_a_file_that_may_not_be_changed_is_named_and_the_rest_goes_on(
    tmp_path: Path, immutable: Path, new: object
) -> None:
    (tmp_path / "beside").write_bytes(OLD)
    replica = LocalReplica(tmp_path)
    assert stage(replica) == {}
    fixed, beside = replica.apply(
        [Change("fixed", file(OLD), file(NEW) if new else None), Change("beside", file(OLD), file(NEW))]
    )
    assert not fixed.done
    assert "Operation not permitted" in fixed.problem
    assert beside.done
    assert immutable.read_bytes() == OLD
    assert (tmp_path / "beside").read_bytes() == NEW
    assert not list((tmp_path / ".devsync/tmp").iterdir()), "nothing is left of the try"
