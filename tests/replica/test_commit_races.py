"""A user edits, or everything dies, right before any effect of a commit: nothing is lost."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, File
from devsync.ports import DevsyncError, Halted
from devsync.replica import commit as commit_module
from devsync.replica.local import LocalReplica

OLD, NEW, EDIT, LATER = b"the old one", b"new", b"edited by the user", b"and edited again"


class Dead(BaseException):
    """The process was killed right here."""


def file(content: bytes) -> File:
    return File(hashlib.sha256(content).hexdigest(), len(content))


CHANGES = {
    "create": Change("d/p", None, file(NEW)),
    "replace": Change("d/p", file(OLD), file(NEW)),
    "delete": Change("d/p", file(OLD), None),
}


def save(path: Path, content: bytes) -> None:
    """As most editors do: a new file, renamed over the old one."""
    path.parent.mkdir(exist_ok=True)
    aside = path.parent / ".swp"
    aside.write_bytes(content)
    aside.replace(path)


def save_in_place(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def delete(path: Path, _content: bytes) -> None:
    path.unlink(missing_ok=True)


ACTIONS = {"save": save, "in-place": save_in_place, "delete": delete}


def everything(root: Path) -> list[bytes]:
    return [
        Path(folder, name).read_bytes()
        for folder, _, names in os.walk(root)
        for name in names
        if Path(folder).name != "tmp" and not name.endswith(".json")
    ]


class User:
    """Acts at `path`, right before the effects with the numbers in `moments`."""

    def __init__(self, path: Path, moments: dict[int, Callable[[], None]]) -> None:
        self.path = path
        self.moments = moments
        self.edits: list[bytes] = []
        self._count = itertools.count()

    def __call__(self, _effect: str, _path: str) -> None:
        self.moments.get(next(self._count), lambda: None)()

    def does(self, action: str, content: bytes) -> None:
        ACTIONS[action](self.path, content)
        if action != "delete":
            self.edits.append(content)


def die() -> None:
    raise Dead


def fail() -> None:
    raise OSError(28, os.strerror(28))


def project(root: Path, change: Change) -> Path:
    (root / "d").mkdir(parents=True)
    (root / "d/neighbour").write_bytes(b"never touched by anybody")
    if change.old is not None:
        (root / "d/p").write_bytes(OLD)
    return root / "d/p"


def run(root: Path, change: Change, step: Callable[[str, str], None]) -> LocalReplica:
    replica = LocalReplica(root)
    staging = replica.staging()
    staging.put(file(NEW), [NEW])
    staging.finish()
    replica.tree._step = step
    return replica


def effects(root: Path, change: Change) -> list[str]:
    """A dry run: the names of all effects, in order."""
    project(root, change)
    names: list[str] = []
    run(root, change, lambda name, _: names.append(name)).apply([change])
    return names


@pytest.mark.parametrize("aside", [False, True], ids=["exchange", "two-steps"])
@pytest.mark.parametrize("kind", CHANGES)
def test_1_an_edit_before_any_effect_survives(
    kind: str, aside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = CHANGES[kind]
    if aside:
        monkeypatch.setattr(commit_module, "can_exchange", lambda _: False)
    total = len(effects(tmp_path / "dry", change)) + 4  # an edit makes more effects: of putting back
    for at, again, action in itertools.product(range(total), [None, 1, 2, 3], ACTIONS):
        root = tmp_path / f"{at}-{again}-{action}"
        path = project(root, change)
        user = User(path, {})
        if again is not None:
            user.moments[at + again] = partial(user.does, action, LATER)
        user.moments[at] = partial(user.does, action, EDIT)
        (outcome,) = run(root, change, user).apply([change])
        kept = everything(root)
        now = path.read_bytes() if path.exists() else None
        assert b"never touched by anybody" in kept
        assert not user.edits or user.edits[-1] in kept, "lost"
        assert now in {None, OLD, NEW, EDIT, LATER}, "invented"
        if outcome.done and not user.edits and action != "delete":
            assert now == (NEW if change.new else None)
        if not outcome.done:
            assert now not in {NEW} and not outcome.problem


@pytest.mark.parametrize("aside", [False, True], ids=["exchange", "two-steps"])
@pytest.mark.parametrize("kind", CHANGES)
def test_18_19_a_death_before_any_effect_loses_nothing(
    kind: str, aside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = CHANGES[kind]
    if aside:
        monkeypatch.setattr(commit_module, "can_exchange", lambda _: False)
    total = len(effects(tmp_path / "dry", change)) + 3
    for edit, death in itertools.product([None, *range(total)], range(total)):
        if edit is not None and edit >= death:
            continue
        root = tmp_path / f"{edit}-{death}"
        path = project(root, change)
        user = User(path, {death: die})
        if edit is not None:
            user.moments[edit] = partial(user.does, "save", EDIT)
        try:
            run(root, change, user).apply([change])
        except Dead:
            pass
        replica = LocalReplica(root)
        replica.claim("the next start", "here:/p", take_over=False)  # which heals
        kept = everything(root)
        assert not user.edits or EDIT in kept
        assert change.old is None or user.edits or OLD in kept
        now = path.read_bytes() if path.exists() else None
        if edit is None and change.new is not None:
            assert now in {NEW, OLD if change.old else None}
        assert list((root / ".devsync/tmp").iterdir()) == []
        listed = replica.versions()
        assert all(version.path == "d/p" for version in listed)
        assert {version.leaf for version in listed} <= {file(OLD), file(EDIT)}
        assert not list((root / ".devsync/trash").glob("*/open.json"))


def test_two_edits_around_an_exchange_keep_the_newest_in_place(tmp_path: Path) -> None:
    root = tmp_path / "p"
    path = project(root, CHANGES["replace"])

    def step(name: str, _path: str) -> None:
        if name in ("exchange", "exchange-back"):
            save(path, EDIT if name == "exchange" else LATER)

    replica = run(root, CHANGES["replace"], step)
    (outcome,) = replica.apply([CHANGES["replace"]])
    assert not outcome.done and outcome.now == file(LATER)
    assert path.read_bytes() == LATER
    (version,) = replica.versions()
    assert (version.reason, version.leaf) == ("recovered", file(EDIT))


def test_37_a_folder_that_cannot_be_listed_is_unknown(tmp_path: Path) -> None:
    root = tmp_path / "p"
    project(root, CHANGES["replace"])
    replica = LocalReplica(root)

    def locked(_name: str, path: str) -> None:
        if path == "d":
            raise PermissionError(13, os.strerror(13))

    replica.tree._step = locked
    for scope in (None, ["d"], ["d/p", "d"]):
        found = replica.scan(scope)
        assert found.problems == {"d": "cannot be read: Permission denied (EACCES)"}
        assert not found.leaves


def test_52_a_file_that_grows_while_it_is_read_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grows").write_bytes(b"first half")
    read = os.read

    def read_slowly(descriptor: int, size: int) -> bytes:
        with open(tmp_path / "grows", "ab") as file:
            file.write(b"more")
        return read(descriptor, size)

    replica = LocalReplica(tmp_path)
    monkeypatch.setattr(os, "read", read_slowly)
    found = replica.scan()
    monkeypatch.undo()
    assert found.problems == {"grows": "still being written"}


def test_33_34_no_time_of_a_file_hides_an_edit_or_makes_one(tmp_path: Path) -> None:
    path, replica = tmp_path / "f", LocalReplica(tmp_path)
    path.write_bytes(OLD)
    seen = replica.scan().leaves
    for stamp in (-5, 0, 7, 2**32 + 7, 2**33):  # before 1970, and long after today
        os.utime(path, (stamp, stamp))
        assert replica.scan().leaves == seen
        path.write_bytes(bytes(reversed(path.read_bytes())))  # of the same size, and the time is put back
        os.utime(path, (stamp, stamp))
        now = replica.scan().leaves
        assert now == {"f": file(path.read_bytes())} != seen
        seen = now


@pytest.mark.parametrize("kind", ["create", "replace"])
def test_20_the_bytes_are_on_the_disk_before_the_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str | int] = []
    path, sync = project(tmp_path, CHANGES[kind]), os.fsync
    replica = run(tmp_path, CHANGES[kind], lambda name, _: did.append(name))

    def synced(descriptor: int) -> None:
        did.append(os.fstat(descriptor).st_ino)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    assert replica.apply([CHANGES[kind]])[0].done
    visible = did.index("exchange" if kind == "replace" else "create")
    assert path.stat().st_ino in did[:visible], "the content"
    assert path.parent.stat().st_ino in did[visible:], "the name"


def test_a_root_that_is_gone_halts(tmp_path: Path) -> None:
    replica = LocalReplica(tmp_path / "p", create=True)
    replica.write_marker({"id": "x"})
    (tmp_path / "p").rename(tmp_path / "q")
    for call in (replica.scan, replica.marker, lambda: replica.apply([CHANGES["create"]])):
        with pytest.raises(Halted):
            call()
    assert not (tmp_path / "p").exists()


def test_a_file_that_is_swapped_for_a_folder_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "p"
    path = project(root, CHANGES["replace"])

    def step(name: str, _path: str) -> None:
        if name == "exchange":
            path.unlink()
            path.mkdir()
            (path / "inside").write_bytes(EDIT)

    (outcome,) = run(root, CHANGES["replace"], step).apply([CHANGES["replace"]])
    assert not outcome.done
    assert (path / "inside").read_bytes() == EDIT


@pytest.mark.parametrize("kind", CHANGES)
def test_77_a_disk_that_fails_leaves_the_file_alone(kind: str, tmp_path: Path) -> None:
    change = CHANGES[kind]
    for at, _ in enumerate(effects(tmp_path / "dry", change)):
        root = tmp_path / str(at)
        path = project(root, change)
        replica = run(root, change, User(path, {at: fail}))
        (outcome,) = replica.apply([change])
        assert outcome.done or "disk is full" in outcome.problem
        now = path.read_bytes() if path.exists() else None
        assert now in {OLD, NEW} if change.new and change.old else now in {None, OLD, NEW}
        assert change.old is None or OLD in everything(root)


def swap_for_link(folder: Path, target: Path) -> None:
    folder.rename(folder.parent / "moved")
    folder.symlink_to(target)


def test_150_a_parent_that_is_swapped_for_a_link_in_mid_commit(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "p").write_bytes(OLD)
    for at, kind in itertools.product(range(6), CHANGES):
        root = tmp_path / f"{at}-{kind}"
        project(root, CHANGES[kind])
        swap = partial(swap_for_link, root / "d", outside)
        run(root, CHANGES[kind], User(root, {at: swap})).apply([CHANGES[kind]])
        assert (outside / "p").read_bytes() == OLD
        assert len(list(outside.iterdir())) == 1


def test_an_old_version_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "p"
    path = project(root, CHANGES["delete"])
    replica = run(root, CHANGES["delete"], lambda *_: None)
    replica.apply([CHANGES["delete"]])
    (version,) = replica.versions()
    assert (version.path, version.leaf, version.reason) == ("d/p", file(OLD), "deleted")
    leaf = replica.restage(version.id)
    assert replica.apply([Change("d/p", None, leaf)])[0].done
    assert path.read_bytes() == OLD
    for wrong in (
        "../x/0",
        "20200101T000000-x/0",
        f"{version.id}/..",
        version.id.replace("/0", "/index.json"),
    ):
        with pytest.raises(DevsyncError):
            replica.restage(wrong)
    assert replica.prune_trash(days=30, size=1 << 30) == 0
    assert replica.prune_trash(days=30, size=3) == 1
    assert replica.versions() == []
