"""Every small scope: each beginning, an edit before each effect, a fault at each later one, an undo.

One path, and one that is now a file and now a folder. What is counted is runs from a beginning to quiet.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import pytest

from devsync.daemon.engine import LOCAL, REMOTE
from tests.model.effects import REFUSABLE, crash, cut, full
from tests.model.mixing import mixing
from tests.model.model import REFERENCE, Hints, Model, Parts, in_memory
from tests.model.mutants import MUTANTS, Mutant
from tests.model.world import SIDES, Violation

PATH = "f"

Edit = Callable[[Model, str], None]


def write(model: Model, side: str) -> None:
    model.world.write(side, PATH)


def delete(model: Model, side: str) -> None:
    model.world.delete(side, PATH)


def revert(model: Model, side: str) -> None:
    model.world.revert(side, PATH)


def flip(model: Model, side: str) -> None:
    model.world.flip(side, PATH)


def nothing(_model: Model, _side: str) -> None:
    pass


FAULTS = {"crash": crash, "cut": cut, "full": full}


@dataclass(frozen=True)
class Case:
    """One interleaving. `edit` and `fault` say at which hook."""

    base: bool
    local: Edit
    remote: Edit
    hinted: bool
    edit: tuple[int, str, Edit] | None = None
    fault: tuple[int, str] | None = None
    undo: tuple[str, Edit] | None = None

    def __str__(self) -> str:
        parts = [f"base={self.base} local={self.local.__name__} remote={self.remote.__name__}"]
        parts.append(f"hinted={self.hinted}")
        if self.edit:
            parts.append(f"edit={self.edit[0]},{self.edit[1]},{self.edit[2].__name__}")
        if self.fault:
            parts.append(f"fault={self.fault}")
        if self.undo:
            parts.append(f"undo={self.undo[0]},{self.undo[1].__name__}")
        return " ".join(parts)


def play(case: Case, parts: Parts = REFERENCE, *, equal_sizes: bool = False) -> list[str]:
    """Run it to the end; the names of the effects up to the fault or the end of the second cycle."""
    model = in_memory(parts, equal_sizes=equal_sizes)
    world, effects = model.world, model.effects
    if case.base:
        world.agreed(PATH, world.fresh())
        model.agree([PATH])
    assert model.engine
    case.local(model, LOCAL)
    case.remote(model, REMOTE)
    effects.names.clear()
    if case.edit:
        at, side, edit = case.edit
        effects.moments[at] = lambda: edit(model, side)
    if case.fault:
        at, kind = case.fault
        before = effects.moments.get(at, lambda: None)
        effects.moments[at] = lambda: (before(), FAULTS[kind]())[1]
    hints: Hints = {PATH} if case.hinted else None
    again = model.cycle(hints, frozenset() if case.hinted else None)
    if again:
        model.cycle(again, again)
    done = list(effects.names)
    if case.undo:
        side, undo = case.undo
        undo(model, side)
    model.quiesce()
    return done


def beginnings() -> Iterator[Case]:
    for hinted in (False, True):
        for local, remote in itertools.product((nothing, write), repeat=2):
            yield Case(False, local, remote, hinted)
        for local, remote in itertools.product((nothing, write, delete, flip), repeat=2):
            yield Case(True, local, remote, hinted)


def interleavings(
    parts: Parts = REFERENCE, *, equal_sizes: bool = False, begun: Iterable[Case] = ()
) -> Iterator[Case]:
    """Plays every case and names it after that. A Violation has the case as a note."""

    def played(case: Case) -> list[str]:
        try:
            return play(case, parts, equal_sizes=equal_sizes)
        except Violation as violation:
            violation.add_note(str(case))
            raise

    for beginning in begun or beginnings():
        hooks = range(len(played(beginning)))
        yield beginning
        active = {
            side for side, edit in ((LOCAL, beginning.local), (REMOTE, beginning.remote)) if edit != nothing
        }
        edits = [
            (0, LOCAL, nothing),
            *itertools.product(hooks, SIDES, (write, delete)),
            *itertools.product(hooks, sorted(active), (revert,)),
        ]
        for edit in edits:
            edited = replace(beginning, edit=edit)
            names = played(edited)
            yield edited
            # What follows a death does not depend on the hints before it: undone once, not twice.
            undos = [] if beginning.hinted else [(side, revert) for side in sorted(active | {edit[1]})]
            for at in range(edit[0], len(names)):
                died = replace(edited, fault=(at, "crash"))
                for undo in (None, *undos):
                    case = replace(died, undo=undo)
                    played(case)
                    yield case
                effect = names[at].split()[-1]
                if effect == "scan" or effect in REFUSABLE:
                    case = replace(edited, fault=(at, "cut" if effect == "scan" else "full"))
                    played(case)
                    yield case


@pytest.mark.timeout(240)  # a minute of one quiet core, and others share it
def test_no_interleaving_loses_anything() -> None:
    count = sum(1 for _ in interleavings())
    assert count > 20_000


def test_no_interleaving_with_a_merge_loses_anything() -> None:
    begun = [Case(True, write, write, hinted=False)]
    count = sum(1 for _ in interleavings(Parts(merging=mixing), begun=begun))
    assert count > 2_000


# Each was a fault of the product once, found here.
KEPT = [
    # Half of a merge was made, the other refused; then the edit that had been merged was taken back.
    Case(True, write, flip, False, (4, LOCAL, write), (9, "crash"), (LOCAL, revert)),
]


@pytest.mark.parametrize("case", KEPT, ids=str)
def test_what_was_found_stays_found(case: Case) -> None:
    play(case)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, broken in mutant.patches.items():
        monkeypatch.setattr(place, broken)
    with pytest.raises(Violation, match=f"^{mutant.broken}: "):
        for _ in interleavings(mutant.parts, equal_sizes=mutant.equal_sizes):
            pass
