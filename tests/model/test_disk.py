"""A death, and an edit, before every step of a commit on a real disk; then the next start.

Any path shows its old or its new content, whole; no version is lost; nothing temporary is visible or
left; the next start brings both sides together. The names of the steps are those of `replica.commit`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from devsync.daemon.engine import LOCAL, REMOTE
from devsync.replica.home import discard
from tests.model.disk import DiskSide, on_disk
from tests.model.effects import crash
from tests.model.model import Model
from tests.model.world import Violation, World

Edit = Callable[[World], None]


def create(world: World) -> None:
    world.write(REMOTE, "new/deep")


def replace(world: World) -> None:
    world.write(REMOTE, "f")


def delete(world: World) -> None:
    world.delete(REMOTE, "d/g")


def link(world: World) -> None:
    world.write(REMOTE, "f", "-> d/g")


def relink(world: World) -> None:
    world.write(REMOTE, "l", "-> elsewhere")


def mode(world: World) -> None:
    world.flip(REMOTE, "f")


def folder_to_file(world: World) -> None:
    world.write(REMOTE, "d")


def file_to_folder(world: World) -> None:
    world.write(REMOTE, "f/below")


def merge(world: World) -> None:
    world.flip(REMOTE, "f")
    world.write(LOCAL, "f")


def batch(world: World) -> None:
    for edit in (create, replace, delete, relink):
        edit(world)


CHANGES: dict[Edit, str] = {
    create: "new/deep",
    replace: "f",
    delete: "d/g",
    link: "f",
    relink: "l",
    mode: "f",
    folder_to_file: "d",
    file_to_folder: "f",
    merge: "f",
    batch: "f",
}
"""Each with the path at which the user meddles."""


def begin(folder: Path, change: Edit) -> Model:
    model = on_disk(folder)
    for path in ("f", "d/g", "d/h"):
        model.world.agreed(path, model.world.fresh())
    model.world.agreed("l", "-> d/h")
    model.agree(["f", "d/g", "d/h", "l"])
    assert model.engine
    change(model.world)
    return model


def committing(names: list[str]) -> Iterator[int]:
    """The steps that are no looks."""
    yield from (at for at, name in enumerate(names) if not name.endswith(" list"))


def deaths(folder: Path, change: Edit, path: str) -> Iterator[str]:
    """Play every one; a Violation has the case as a note."""
    numbers = itertools.count()

    def play(edit: int | None, action: str, death: int | None) -> list[str]:
        root = folder / str(next(numbers))
        root.mkdir()
        model = begin(root, change)
        world, effects = model.world, model.effects
        start = len(effects.names)

        def meddle() -> None:
            world.write(LOCAL, path) if action == "save" else world.delete(LOCAL, path)

        def act(at: int) -> None:
            if at == edit:
                meddle()
            if at == death:
                crash()

        for moment in {at for at in (edit, death) if at is not None}:
            effects.after(moment, partial(act, moment))
        try:
            model.cycle()
            names = effects.names[start:]
            model.quiesce()
            model.end()
            model.quiesce()  # a new start finds nothing to do
            for side in world.sides.values():
                assert isinstance(side, DiskSide)
                side.tidy()
        except Violation as violation:
            violation.add_note(
                f"{change.__name__}: {action} at {edit}, death at {death}: {effects.names[start:]}"
            )
            raise
        return names

    names = play(None, "", None)
    actions = ("save",) if change is batch else ("save", "delete")
    for edit, action in [(None, ""), *itertools.product(committing(names), actions)]:
        steps = play(edit, action, None)
        yield f"{edit} {action}"
        for death in committing(steps):
            if edit is None or death >= edit:
                play(edit, action, death)
                yield f"{edit} {action} {death}"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_death_at_every_step(change: Edit, quick_folder: Path) -> None:
    count = sum(1 for _ in deaths(quick_folder, change, CHANGES[change]))
    assert count > 20


# ------------------------------------------------------------ that this has teeth


class _AsExpected:
    """What came out, to somebody who does not look."""

    __hash__ = None  # type: ignore[assignment]  # equal to everything

    def __eq__(self, other: object) -> bool:
        return True


def _gone(home: object, digests: object, edit: tuple[int, str], *_: object) -> None:
    """Takes whatever a dead commit left for its own."""
    discard(*edit)


def _clobber(folder: int, name: str, to_folder: int, to_name: str) -> None:
    os.replace(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)


MUTANTS: dict[str, tuple[str, object, Edit]] = {
    "no_recheck": ("devsync.replica.commit.Commit._in_slot", lambda *_: _AsExpected(), replace),
    "no_recheck_of_a_removal": ("devsync.replica.commit.Commit._in_slot", lambda *_: _AsExpected(), delete),
    "gc_all": ("devsync.replica.trash._put_back", _gone, replace),
    "clobber_create": ("devsync.replica.commit.rename_new", _clobber, create),
    "no_put_back": ("devsync.replica.trash._swap_back", lambda *_: None, replace),
    "no_clearing": ("devsync.replica.home.Home.clear_staging", lambda _: 0, create),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_caught(name: str, quick_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, broken, change = MUTANTS[name]
    monkeypatch.setattr(place, broken)
    with pytest.raises(Violation) as caught:
        for _ in deaths(quick_folder, change, CHANGES[change]):
            pass
    assert str(caught.value)
