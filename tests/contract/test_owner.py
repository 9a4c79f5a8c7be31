"""What every replica promises about its owner: one at a time, named to others, and fenced once replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, File, Outcome
from devsync.ports import Halted, Owned, Replica
from devsync.replica.local import LocalReplica
from devsync.replica.owner import ALIVE
from devsync.replica.remote import RemoteReplica
from devsync.replica.sftp_only import SftpOnlyReplica
from devsync.ssh.sftp import SftpClient
from tests.contract.replicas import SFTP_SERVER
from tests.fakes.memory import Content, MemoryReplica
from tests.fakes.pipes import PipeStream
from tests.fakes.process import LocalProcess

FIRST, SECOND = ("one", "laptop:/home/u/project"), ("two", "desktop:/home/u/project")


class Folder:
    """A folder of this disk, which several replicas may be opened on."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root, self.kind = root, kind
        self.record = root / ".devsync/owner.json"
        self._opened = ExitStack()

    def open(self) -> Replica:
        replica = self._make()
        self._opened.callback(replica.close)
        return replica

    def _make(self) -> Replica:
        def client() -> SftpClient:
            return SftpClient(PipeStream([SFTP_SERVER]))

        if self.kind == "local":
            return LocalReplica(self.root)
        if self.kind == "helper":
            return RemoteReplica(LocalProcess, client, str(self.root))
        return SftpOnlyReplica(client(), str(self.root))

    def age(self, seconds: float) -> None:
        """The owner was last heard of so much longer ago."""
        record = json.loads(self.record.read_text())
        self.record.write_text(json.dumps({**record, "beat": record["beat"] - seconds}))

    def tree(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.iterdir() if path.is_file()}

    def empty(self) -> None:
        """Another, empty folder is in its place."""
        self.root.rename(self.root.with_name("gone"))
        self.root.mkdir()

    def close(self) -> None:
        self._opened.close()


class InMemory(Folder):
    """The same, in memory."""

    def __init__(self) -> None:
        self._first: MemoryReplica | None = None

    def open(self) -> Replica:
        made = MemoryReplica(beside=self._first)
        self._first = self._first or made
        return made

    def age(self, seconds: float) -> None:
        assert self._first is not None and self._first.lease.claim is not None
        claim = self._first.lease.claim
        self._first.lease.claim = replace(claim, beat=claim.beat - seconds)

    def tree(self) -> dict[str, bytes]:
        entries = {} if self._first is None else self._first.entries
        return {path: entry.data for path, entry in entries.items() if isinstance(entry, Content)}

    def empty(self) -> None:
        assert self._first is not None
        self._first.entries.clear()
        self._first.lease.claim = None

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(params=["memory", "local", "helper", "sftp only"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    root = tmp_path / "project"
    root.mkdir()
    made = InMemory() if request.param == "memory" else Folder(root, request.param)
    yield made
    made.close()


def claim(replica: Replica, who: tuple[str, str], *, take_over: bool = False) -> Replica:
    replica.claim(*who, take_over=take_over)
    return replica


def write(replica: Replica, name: str, content: bytes) -> Outcome:
    file = File(hashlib.sha256(content).hexdigest(), len(content))
    staging = replica.staging()
    staging.put(file, [content])
    staging.finish()  # what failed there fails in `apply`, too
    (outcome,) = replica.apply([Change(name, None, file)])
    return outcome


def test_112_a_second_owner_is_refused_and_told_who_is_there(folder: Folder) -> None:
    first = claim(folder.open(), FIRST)
    with pytest.raises(Owned, match=FIRST[1]) as refused:
        claim(folder.open(), SECOND)
    assert "--take-over" in refused.value.hint
    assert refused.value.exit_status == 4
    assert write(first, "a", b"the first goes on").done


def test_112_a_copy_of_the_state_on_another_computer_is_another_owner(folder: Folder) -> None:
    claim(folder.open(), FIRST)
    with pytest.raises(Owned, match=FIRST[1]):
        claim(folder.open(), (FIRST[0], SECOND[1]))


def test_113_an_owner_who_was_not_heard_of_is_replaced(folder: Folder) -> None:
    first = claim(folder.open(), FIRST)
    folder.age(ALIVE - 10)
    with pytest.raises(Owned):
        claim(folder.open(), SECOND)
    folder.age(15)
    second = claim(folder.open(), SECOND)
    with pytest.raises(Owned, match=SECOND[1]):
        write(first, "a", b"from the first, which was asleep")
    assert write(second, "b", b"from the second").done
    assert folder.tree() == {"b": b"from the second"}


def test_a_clock_that_was_wrong_keeps_nobody_out(folder: Folder) -> None:
    claim(folder.open(), FIRST)
    folder.age(-3600)
    claim(folder.open(), SECOND)


def test_112_who_was_taken_over_changes_nothing(folder: Folder) -> None:
    first, second = claim(folder.open(), FIRST), folder.open()
    first.write_marker({"pair": "of the first"})
    claim(second, SECOND, take_over=True)
    before = second.marker()
    calls = (
        lambda: write(first, "a", b"too late"),
        lambda: first.write_marker({"pair": "overwritten"}),
        first.scan,
        first.beat,
    )
    for call in calls:
        with pytest.raises(Owned, match=f"taken over by {SECOND[1]}"):
            call()
    first.close()
    assert second.marker() == before
    assert folder.tree() == {}
    assert write(second, "a", b"from the second").done


def test_the_same_owner_claims_again_and_ends_his_earlier_claim(folder: Folder) -> None:
    lost = claim(folder.open(), FIRST)
    again = claim(folder.open(), FIRST)
    with pytest.raises(Owned):
        write(lost, "a", b"by a helper of a connection that was given up")
    assert write(again, "b", b"by the new one").done
    assert set(folder.tree()) == {"b"}


def test_closing_frees_the_folder_at_once(folder: Folder) -> None:
    first = claim(folder.open(), FIRST)
    first.close()
    second = claim(folder.open(), SECOND)
    assert write(second, "a", b"from the second").done


def test_a_beat_keeps_the_folder(folder: Folder) -> None:
    first = claim(folder.open(), FIRST)
    if isinstance(first, SftpOnlyReplica):
        first._next_beat = 0.0  # it knows by its own clock when the last one was
    folder.age(ALIVE + 5)
    first.beat()
    with pytest.raises(Owned):
        claim(folder.open(), SECOND)
    second = claim(folder.open(), SECOND, take_over=True)
    with pytest.raises(Owned):
        first.beat()
    assert write(second, "a", b"the second's all the same").done


def test_a_marker_is_the_one_written_last(folder: Folder) -> None:
    first = claim(folder.open(), FIRST)
    for generation in (1, 2):
        first.write_marker({"generation": generation})
        assert first.marker() == {"generation": generation}
        claim(first, FIRST)
    first.write_marker({"generation": 3})
    assert first.marker() == {"generation": 3}


def test_104_another_folder_in_its_place_halts_and_stays_empty(folder: Folder) -> None:
    first = claim(folder.open(), FIRST)
    assert write(first, "a", b"content").done
    folder.empty()
    for call in (first.scan, first.beat, lambda: first.apply([]), lambda: first.write_marker({})):
        with pytest.raises(Halted):
            call()
    assert folder.tree() == {}
    if folder.__class__ is Folder:
        assert list(folder.root.iterdir()) == []


def test_109_the_folder_of_another_project_inside_this_one_is_not_looked_into(tmp_path: Path) -> None:
    outer = tmp_path / "project"
    (outer / "inner" / "deep").mkdir(parents=True)
    (outer / "mine.py").write_bytes(b"of the outer project")
    (outer / "inner" / "deep" / "theirs.py").write_bytes(b"of the inner one")
    LocalReplica(outer / "inner").write_marker({"pair": "another"})
    for kind in ("local", "helper", "sftp only"):
        folder = Folder(outer, kind)
        try:
            replica = folder.open()
            found = replica.scan()
            assert set(found.leaves) == {"mine.py"}
            assert "another project" in found.problems["inner"]
            if kind != "sftp only":  # which is given no hints
                assert set(replica.scan(["inner/deep/theirs.py"]).problems) == {"inner/deep/theirs.py"}
        finally:
            folder.close()
