"""A take-over never falls into a commit, damage is no owner, and a folder on the wrong disk is known."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from devsync.core.snapshot import Change, File
from devsync.ports import Owned
from devsync.replica import helper, owner
from devsync.replica.local import LocalReplica

FIRST, SECOND = ("one", "laptop:/p"), ("two", "desktop:/p")
CONTENT = b"on its way"
LEAF = File(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class Committing:
    """A first owner who stands still in the middle of a commit until `go`."""

    def __init__(self, root: Path) -> None:
        self.within, self.go = threading.Event(), threading.Event()
        self.replica = LocalReplica(root)
        self.replica.claim(*FIRST, take_over=False)
        staging = self.replica.staging()
        staging.put(LEAF, [CONTENT])
        self.replica.tree._step = self._step
        self.thread = threading.Thread(target=lambda: self.replica.apply([Change("f", None, LEAF)]))
        self.thread.start()
        assert self.within.wait(10)

    def _step(self, effect: str, _path: str) -> None:
        if effect == "create":
            self.within.set()
            assert self.go.wait(10)

    def end(self) -> None:
        self.go.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_112_a_take_over_waits_for_the_end_of_a_commit(tmp_path: Path) -> None:
    first = Committing(tmp_path)
    staged = tmp_path / ".devsync/tmp" / LEAF.digest
    second = LocalReplica(tmp_path)
    seen: list[bool] = []

    def take_over() -> None:
        second.claim(*SECOND, take_over=True)
        seen.append((tmp_path / "f").exists())

    thread = threading.Thread(target=take_over)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive() and staged.exists(), "what is being committed was not healed away"
    first.end()
    thread.join(10)
    assert seen == [True]
    with pytest.raises(Owned):
        first.replica.scan()


def test_a_commit_that_does_not_end_is_not_broken_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "PATIENCE", 0.05)
    first = Committing(tmp_path)
    with pytest.raises(Owned, match="being changed"):
        LocalReplica(tmp_path).claim(*SECOND, take_over=True)
    first.end()
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'{"owner": "one", "name"', b"\xff\xfe"])
def test_a_record_that_was_torn_holds_nobody_up_and_fences_all_the_same(
    tmp_path: Path, damage: bytes
) -> None:
    first = LocalReplica(tmp_path)
    first.claim(*FIRST, take_over=False)
    (tmp_path / ".devsync/owner.json").write_bytes(damage)
    second = LocalReplica(tmp_path)
    second.claim(*SECOND, take_over=False)
    with pytest.raises(Owned, match="desktop"):
        first.scan()
    LocalReplica(tmp_path).claim(*FIRST, take_over=True)
    with pytest.raises(Owned):
        first.scan()


def test_a_name_is_shown_without_what_moves_a_cursor() -> None:
    claim = owner.Claim("x", "evil\x1b[2J\nname", 1, 2.0)
    assert owner.Claim.unpack(claim.pack()) == owner.Claim("x", "evil?[2J?name", 1, 2.0)


def test_104_azures_temporary_disk_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = {"/mnt": 7, "/mnt/work": 7, "/mnt/lasting": 8}
    azure = [True]
    monkeypatch.setattr(os.path, "isdir", devices.__contains__)
    monkeypatch.setattr(os.path, "ismount", {"/mnt", "/mnt/lasting"}.__contains__)
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_dev=devices[path]))
    monkeypatch.setattr(helper, "_is_azure", lambda: azure[0])
    found = {
        root: helper._on_temporary_disk(root)
        for root in ("/mnt", "/mnt/work", "/mnt/work/not/yet/there", "/mnt/lasting/project")
    }
    azure[0] = False
    elsewhere = helper._on_temporary_disk("/mnt/work")
    monkeypatch.undo()
    assert list(found.values()) == [True, True, True, False]
    assert not elsewhere
