"""A user edits, or everything dies, right before any effect of a commit: nothing is lost."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, File
from devsync.ports import DevsyncError
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
        edits: list[bytes] = []
        count = itertools.count()

        def step(
            _name: str, _path: str, at: int = at, again: int | None = again, action: str = action
        ) -> None:
            number = next(count)
            content = EDIT if number == at else LATER
            if number == at or (again is not None and number == at + again):
                ACTIONS[action](path, content)
                if action != "delete":
                    edits.append(content)

        (outcome,) = run(root, change, step).apply([change])
        kept = everything(root)
        if edits:
            assert edits[-1] in kept, (at, again, action)
        if action == "delete" and change.old is not None:
            assert OLD in kept or not outcome.done or at < total
        now = path.read_bytes() if path.exists() else None
        if outcome.done and not edits and action != "delete":
            assert now == (NEW if change.new else None)
        assert now in {None, OLD, NEW, EDIT, LATER}
        if edits and now not in edits:
            assert now in {None, NEW} and edits[-1] in kept
        assert b"never touched by anybody" in kept


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
        if edit is not None and edit > death:
            continue
        root = tmp_path / f"{edit}-{death}"
        path = project(root, change)
        count = itertools.count()

        def step(_name: str, _path: str, edit: int | None = edit, death: int = death) -> None:
            number = next(count)
            if number == edit:
                save(path, EDIT)
            if number == death:
                raise Dead

        try:
            run(root, change, step).apply([change])
        except Dead:
            pass
        replica = LocalReplica(root)  # the next start heals
        kept = everything(root)
        assert edit is None or EDIT in kept
        assert change.old is None or edit is not None or OLD in kept
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
        count = itertools.count()

        def step(name: str, _path: str, at: int = at) -> None:
            if next(count) == at:
                raise OSError(28, os.strerror(28))

        replica = run(root, change, step)
        (outcome,) = replica.apply([change])
        assert outcome.done or "disk is full" in outcome.problem
        now = path.read_bytes() if path.exists() else None
        assert now in {OLD, NEW} if change.new and change.old else now in {None, OLD, NEW}
        assert change.old is None or OLD in everything(root)


def test_150_a_parent_that_is_swapped_for_a_link_in_mid_commit(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "p").write_bytes(OLD)
    for at, kind in itertools.product(range(6), CHANGES):
        root = tmp_path / f"{at}-{kind}"
        project(root, CHANGES[kind])
        count = itertools.count()

        def step(_name: str, _path: str, root: Path = root, at: int = at) -> None:
            if next(count) == at:
                (root / "d").rename(root / "moved")
                (root / "d").symlink_to(outside)

        run(root, CHANGES[kind], step).apply([CHANGES[kind]])
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
