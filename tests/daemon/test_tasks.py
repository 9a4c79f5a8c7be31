"""Conflicts resolved and versions brought back, on two folders of a disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devsync.core.reconcile import Mode
from devsync.core.snapshot import File, Link
from devsync.core.version import Trash
from devsync.daemon.conflicts import name_beside
from devsync.daemon.engine import LOCAL, REMOTE, Engine, Permission
from devsync.daemon.keeping import DAY, prune
from devsync.daemon.tasks import TASKS
from devsync.ports import DevsyncError
from devsync.replica import trash
from devsync.replica.local import LocalReplica
from devsync.store import Store
from tests.daemon.rig import Meter


@dataclass
class Two:
    """Two folders and an engine between them; what the sides hold is in `here` and `there`."""

    here: Path
    there: Path
    engine: Engine

    def write(self, folder: Path, path: str, text: str) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)

    def differ(self, path: str = "a.py") -> None:
        """Make a conflict."""
        self.write(self.here, path, "as it was\n")
        self.engine.cycle(None, None)
        self.write(self.here, path, "changed here\n")
        self.write(self.there, path, "and changed on the machine\n")
        self.engine.cycle(None, None)

    def do(self, task: str, **args: object) -> Any:
        return TASKS[task](self.engine, args)

    def texts(self, folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): path.read_text()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and ".devsync" not in path.parts
        }


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    store = Store(tmp_path / "project.db")
    local, remote = (LocalReplica(tmp_path / side, create=True) for side in (LOCAL, REMOTE))
    engine = Engine(
        store,
        local,
        remote,
        mode=Mode.TWO_WAY,
        max_deletions=0.1,
        explain=tuple,
        meter=Meter(),
        clock=time.monotonic,
    )
    engine.identify(Permission())
    yield Two(tmp_path / LOCAL, tmp_path / REMOTE, engine)
    local.close()
    remote.close()
    store.close()


@pytest.mark.parametrize(
    ("keep", "text"), [(LOCAL, "changed here\n"), (REMOTE, "and changed on the machine\n")]
)
def test_one_version_wins_and_the_other_is_kept(two: Two, keep: str, text: str) -> None:
    two.differ()
    [row] = two.do("conflicts")
    assert (row["path"], row["kind"], row["local"]["size"]) == ("a.py", "both-modified", 13)
    two.do("resolve", paths=["a.py"], keep=keep)
    assert two.texts(two.here) == two.texts(two.there) == {"a.py": text}
    assert two.engine.conflicts == {}
    [version] = two.do("history", path="a.py")
    assert (version["side"], version["reason"]) == (REMOTE if keep == LOCAL else LOCAL, "replaced")
    assert two.engine.cycle(None, None).plan.quiet


def test_both_are_kept_beside_each_other(two: Two) -> None:
    two.differ("src/a.py")
    [row] = two.do("resolve", paths=["src/a.py"], keep="both")
    expected = {"src/a.py": "changed here\n", row["beside"]: "and changed on the machine\n"}
    assert two.texts(two.here) == two.texts(two.there) == expected
    assert two.do("diff") == []


def test_a_path_without_a_conflict_stops_the_whole_request(two: Two) -> None:
    two.differ()
    with pytest.raises(DevsyncError, match="no conflict is open at"):
        two.do("resolve", paths=["a.py", "b.py"], keep=LOCAL)
    assert set(two.engine.conflicts) == {"a.py"}


def test_what_changed_in_between_is_what_is_decided_about(two: Two) -> None:
    two.differ()
    two.write(two.here, "a.py", "changed here once more\n")
    two.write(two.there, "a.py", "and also there once more, unseen\n")
    two.do("resolve", paths=["a.py"], keep=LOCAL)
    assert two.texts(two.there) == {"a.py": "changed here once more\n"}
    two.do("restore", path="a.py", side=REMOTE)
    assert two.texts(two.here) == {"a.py": "and also there once more, unseen\n"}


def test_the_difference_names_every_kind(two: Two) -> None:
    two.differ("both.py")
    two.write(two.here, "new.py", "1\n")
    two.write(two.there, "result.txt", "22\n")
    (two.there / "pipe").symlink_to("/etc/passwd")
    rows = {row["path"]: (row["change"], row.get("action")) for row in two.do("diff")}
    assert rows == {
        "both.py": ("conflict", None),
        "new.py": ("to-remote", "create"),
        "result.txt": ("to-local", "create"),
        "pipe": ("unknown", None),
    }
    assert not (two.there / "new.py").exists(), "nothing is done by looking"


def test_restoring_puts_what_is_there_into_the_trash(two: Two) -> None:
    for text in ("one", "second", "the third"):
        two.write(two.here, "a.py", text)
        two.engine.cycle(None, None)
    first = two.do("history", path="a.py")[-1]
    answer = two.do("restore", path="a.py", version=first["version"])
    assert (answer["content"]["size"], answer["conflict"], answer["problem"]) == (3, False, None)
    assert two.texts(two.here) == two.texts(two.there) == {"a.py": "one"}
    assert {row["content"]["size"] for row in two.do("history", path="a.py")} == {3, 6, 9}


def test_a_restore_that_meets_an_edit_of_the_other_side_is_a_conflict(two: Two) -> None:
    for text in ("one", "second"):
        two.write(two.here, "a.py", text)
        two.engine.cycle(None, None)
    two.write(two.here, "a.py", "edited here, unseen")
    answer = two.do("restore", path="a.py", side=REMOTE)
    assert answer["conflict"]
    assert two.texts(two.here) == {"a.py": "edited here, unseen"}
    assert two.texts(two.there) == {"a.py": "one"}


@pytest.mark.parametrize(
    "args",
    [
        {"path": "never.py"},
        {"path": "a.py", "version": "20200101T000000-0/0"},
        {"path": "a.py", "version": "../x"},
    ],
)
def test_what_was_never_kept_cannot_come_back(two: Two, args: dict[str, str]) -> None:
    two.differ()
    with pytest.raises(DevsyncError, match="there is no"):
        two.do("restore", **args)


def test_old_versions_are_thrown_away_by_age_and_size(two: Two) -> None:
    for number in range(4):
        two.write(two.here, "a.py", "x" * 100 * (number + 1))
        two.engine.cycle(None, None)
    remote = two.engine.sides[REMOTE]
    assert isinstance(remote, Trash)
    assert prune(remote) == 0, "there is room"
    assert prune(remote, 30 * DAY, 600) > 0
    assert [version.leaf.size for version in remote.versions() if isinstance(version.leaf, File)] == [300]
    assert prune(remote, -DAY) == 1, "all of it is older than tomorrow"
    assert remote.versions() == []


def test_a_disk_that_is_nearly_full_keeps_fewer(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        two.write(two.here, "a.py", "x" * 10_000 * (number + 1))
        two.engine.cycle(None, None)
    remote = two.engine.sides[REMOTE]
    assert isinstance(remote, Trash)
    before = len(remote.versions())
    monkeypatch.setattr(trash, "shortage", lambda home: 15_000)
    assert prune(remote) > 0
    assert 0 < len(remote.versions()) < before
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("model.py", "model.remote-0a0a0a0a.py"),
        ("a/b.tar.gz", "a/b.tar.remote-0a0a0a0a.gz"),
        ("Makefile", "Makefile.remote-0a0a0a0a"),
        (".env", ".env.remote-0a0a0a0a"),
        ("\u00e9" * 126 + ".py", "\u00e9" * 118 + ".remote-0a0a0a0a.py"),
    ],
)
def test_the_name_beside_is_readable_and_fits(path: str, beside: str) -> None:
    assert name_beside(path, File("0a" * 32, 1)) == beside
    assert name_beside(path, Link("target")) != beside
