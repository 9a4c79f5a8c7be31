"""The policy, case by case."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from devsync.core.reconcile import Conflict, Direction, Mode, Plan, Verdict, decide, merge, reconcile
from devsync.core.snapshot import ROOT, Ancestor, Change, Leaf, Link, RelPath, Snapshot
from tests.core.worlds import AX, BX, LINK, A, B, C

CX = type(C)(C.digest, C.size, True)
OTHER = Link("somewhere")

# One table for each ancestor; rows are the local side, columns the remote side, "." is nothing there.
# = they agree   > take local   < take remote   ! conflict
DECISIONS = """
ancestor .      ancestor A      ancestor B      ancestor C
    . A B C         . A B C         . A B C         . A B C
  . = < < <       . = > < <       . = < > <       . = < < >
  A > = ! !       A < = < <       A > = > !       A > = ! >
  B > ! = !       B > > = !       B < < = <       B > ! = >
  C > ! ! =       C > > ! =       C > ! > =       C < < < =
"""
LETTERS: dict[str, Leaf | None] = {".": None, "A": A, "B": B, "C": C}
VERDICTS = {
    "=": Verdict.AGREE,
    ">": Verdict.TAKE_LOCAL,
    "<": Verdict.TAKE_REMOTE,
    "!": Verdict.CONFLICT,
}


def _decisions() -> list[tuple[str, str, str, str]]:
    _, _, *rows = DECISIONS.strip().splitlines()
    cases = []
    for row in rows:
        words = row.split()
        for ancestor, block in zip(".ABC", range(0, len(words), 5), strict=True):
            local, *answers = words[block : block + 5]
            cases += [(ancestor, local, remote, answers[i]) for i, remote in enumerate(".ABC")]
    return cases


def test_the_table_is_whole() -> None:
    assert len({case[:3] for case in _decisions()}) == 64


@pytest.mark.parametrize("ancestor, local, remote, answer", _decisions())
def test_decide(ancestor: str, local: str, remote: str, answer: str) -> None:
    assert decide(LETTERS[ancestor], LETTERS[local], LETTERS[remote]) is VERDICTS[answer]


# An x after the letter is the executable bit.
MERGES = [
    (A, AX, B, BX, "the bit here, the content there"),
    (A, B, AX, BX, "the content here, the bit there"),
    (AX, A, BX, B, "the bit taken away here, the content there"),
    (AX, BX, A, B, "the content here, the bit taken away there"),
    (A, AX, BX, BX, "the bit on both sides, the content on one: as after half of a merge"),
    (A, B, BX, BX, "the same content on both sides, with the bit on one"),
    (AX, B, BX, B, "the same content on both sides, without the bit on one"),
    (None, B, BX, BX, "both new with the same content"),
    (None, BX, B, BX, "both new with the same content, the other way"),
    (LINK, B, BX, BX, "a link became the same file on both sides"),
    (A, B, C, None, "the content on both sides"),
    (A, BX, C, None, "the content on both sides, the bit on one"),
    (None, A, B, None, "both new"),
    (LINK, A, B, None, "a link became two files"),
    (A, LINK, B, None, "a link here"),
    (A, B, LINK, None, "a link there"),
    (LINK, OTHER, A, None, "the link changed here, a file there"),
    (A, None, B, None, "nothing here"),
    (A, B, None, None, "nothing there"),
]


@pytest.mark.parametrize(
    "ancestor, local, remote, merged", [case[:4] for case in MERGES], ids=[c[4] for c in MERGES]
)
def test_merge(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None, merged: Leaf | None) -> None:
    assert merge(ancestor, local, remote) == merged


KINDS = [
    (None, A, B, "both-added"),
    (A, B, C, "both-modified"),
    (LINK, A, B, "both-modified"),
    (A, AX, LINK, "type-changed"),
    (None, LINK, A, "type-changed"),
    (None, LINK, OTHER, "both-added"),
    (Link("once"), LINK, OTHER, "both-modified"),
]


@pytest.mark.parametrize("ancestor, local, remote, kind", KINDS)
def test_kind_of_conflict(ancestor: Leaf | None, local: Leaf, remote: Leaf, kind: str) -> None:
    plan = look({"p": ancestor} if ancestor else {}, {"p": local}, {"p": remote})
    assert plan == Plan(conflicts=(Conflict("p", kind, local, remote),))


Tree = Mapping[RelPath, Leaf]


def look(ancestor: Tree, local: Tree, remote: Tree, mode: Mode = Mode.TWO_WAY) -> Plan:
    return reconcile(Ancestor(ancestor), Snapshot(local), Snapshot(remote), mode)


# ---------------------------------------------------------------- the plan


def test_nothing_to_do() -> None:
    plan = look({"a": A, "b/c": LINK}, {"a": A, "b/c": LINK}, {"a": A, "b/c": LINK})
    assert plan == Plan()
    assert plan.quiet


def test_each_change_goes_to_the_other_side_with_what_is_there_as_its_precondition() -> None:
    plan = look({"a": A, "b": B}, {"a": C, "b": B, "new": LINK}, {"a": A})
    assert plan.to_remote == (Change("a", A, C), Change("new", None, LINK))
    assert plan.to_local == (Change("b", B, None),)
    assert not plan.quiet


def test_what_both_sides_did_alike_is_for_the_ancestor_alone() -> None:
    plan = look({"gone": A, "same": A}, {"same": B, "new": C}, {"same": B, "new": C})
    assert plan == Plan(agreed=(("gone", None), ("new", C), ("same", B)))
    assert plan.quiet


def test_a_modification_brings_back_what_the_other_side_deleted() -> None:
    plan = look({"a": A, "b": B}, {"b": C}, {"a": C})
    assert plan == Plan((Change("a", None, C),), (Change("b", None, C),))


def test_the_first_meeting_merges() -> None:
    plan = look({}, {"same": A, "here": B, "differs": A}, {"same": A, "there": C, "differs": B})
    assert plan == Plan(
        to_local=(Change("there", None, C),),
        to_remote=(Change("here", None, B),),
        agreed=(("same", A),),
        conflicts=(Conflict("differs", "both-added", A, B),),
    )


def test_a_merge_changes_both_sides() -> None:
    plan = look({"a": A}, {"a": AX}, {"a": B})
    assert plan == Plan((Change("a", AX, BX),), (Change("a", B, BX),))


def test_one_conflict_holds_nothing_else_back() -> None:
    plan = look({"d/a": A, "d/b": A}, {"d/a": B, "d/b": B}, {"d/a": C, "d/b": A, "d/c": C})
    assert plan.conflicts == (Conflict("d/a", "both-modified", B, C),)
    assert plan.to_remote == (Change("d/b", A, B),)
    assert plan.to_local == (Change("d/c", None, C),)


def test_only_one_direction() -> None:
    plan = look({"a": A, "m": A}, {"a": B, "m": AX, "c": A}, {"a": A, "b": C, "m": B, "c": C})
    push, pull = plan.only(Direction.PUSH), plan.only(Direction.PULL)
    assert plan.only(Direction.BOTH) == plan
    assert (push.to_local, push.to_remote) == ((), (Change("a", A, B),))
    assert (pull.to_local, pull.to_remote) == ((Change("b", None, C),), ())
    assert push.conflicts == pull.conflicts == plan.conflicts != ()


def test_half_a_merge_would_undo_the_other_side() -> None:
    """Why a merge is no part of a push: the ancestor would hold what the local side never had."""
    pushed_and_agreed = look({"m": BX}, {"m": AX}, {"m": BX})
    assert pushed_and_agreed.to_remote == (Change("m", BX, AX),)
    assert look({"m": A}, {"m": AX}, {"m": B}).only(Direction.PUSH).quiet


# ---------------------------------------------------------------- files, folders, links


def test_a_file_became_a_folder() -> None:
    plan = look({"a": A}, {"a/b": B, "a/c/d": C}, {"a": A})
    assert plan.to_remote == (Change("a", A, None), Change("a/b", None, B), Change("a/c/d", None, C))
    assert plan == Plan(to_remote=plan.to_remote)


def test_a_folder_became_a_file() -> None:
    plan = look({"a/b": A, "a/c/d": B}, {"a/b": A, "a/c/d": B}, {"a": C})
    assert plan.to_local == (Change("a", None, C), Change("a/b", A, None), Change("a/c/d", B, None))
    assert plan == Plan(to_local=plan.to_local)


@pytest.mark.parametrize("old, new", [(A, LINK), (LINK, A), (LINK, OTHER)])
def test_a_link_is_a_leaf_like_another(old: Leaf, new: Leaf) -> None:
    assert look({"a": old}, {"a": new}, {"a": old}) == Plan(to_remote=(Change("a", old, new),))


def test_a_folder_became_a_link() -> None:
    plan = look({"a/b": A}, {"a": LINK}, {"a/b": A})
    assert plan == Plan(to_remote=(Change("a", None, LINK), Change("a/b", A, None)))


def test_a_folder_here_where_the_file_was_modified_there() -> None:
    plan = look({"a": A, "z": A}, {"a/b": B, "z": B}, {"a": C, "z": A})
    assert plan == Plan(to_remote=(Change("z", A, B),), conflicts=(Conflict("a", "type-changed", None, C),))


@pytest.mark.parametrize("there", [{"a/b": C, "a/x": B}, {"a/b": A, "a/x": B, "a/c/d": C}])
def test_a_file_here_where_something_in_the_folder_changed_there(there: Tree) -> None:
    plan = look({"a/b": A, "a/x": B}, {"a": B}, there)
    assert plan == Plan(conflicts=(Conflict("a", "type-changed", B, None),))


def test_a_file_here_and_a_folder_there_both_new() -> None:
    assert look({}, {"a": A}, {"a/b/c": B}) == Plan(conflicts=(Conflict("a", "type-changed", A, None),))


def test_a_conflict_of_kinds_holds_back_the_whole_folder_and_nothing_beside_it() -> None:
    # '.' and '-' sort before '/', '0' after it.
    beside: dict[RelPath, Leaf] = {"a-b": A, "a.b": B, "a0": C}
    plan = look({"a/x": A}, {"a": B, **beside}, {"a/x": A, "a/y": C})
    assert [conflict.path for conflict in plan.conflicts] == ["a"]
    assert plan.to_remote == tuple(Change(path, None, leaf) for path, leaf in sorted(beside.items()))
    assert not plan.to_local


# ---------------------------------------------------------------- what is unknown


def unread(leaves: Tree, *problems: RelPath) -> Snapshot:
    return Snapshot(leaves, dict.fromkeys(problems, "permission denied"))


@pytest.mark.parametrize("problem", ["d", "d/e", ROOT])
def test_nothing_is_decided_at_or_below_a_problem(problem: RelPath) -> None:
    ancestor = Ancestor({"d/e/f": A, "d/e/g": B, "d/e/agreed": A})
    other = Snapshot({"d/e/f": C, "d/e/new": B})
    assert reconcile(ancestor, unread({}, problem), other) == Plan()
    assert reconcile(ancestor, other, unread({}, problem)) == Plan()
    assert reconcile(ancestor, other, unread({}, problem), Mode.MIRROR) == Plan()


def test_beside_a_problem_life_goes_on() -> None:
    plan = reconcile(Ancestor({"d/e": A, "d.e": A}), unread({}, "d"), Snapshot({"d/e": A, "d.e": A}))
    assert plan == Plan(to_remote=(Change("d.e", A, None),))


def test_no_file_is_put_where_a_folder_holds_what_cannot_be_read() -> None:
    plan = reconcile(Ancestor({"d/e": A}), unread({"d/e": A}, "d/odd"), Snapshot({"d": B}))
    assert plan == Plan(conflicts=(Conflict("d", "type-changed", None, B),))
    plan = reconcile(Ancestor({"d/e": A}), Snapshot({"d": B}), unread({"d/e": A}, "d/odd"), Mode.MIRROR)
    assert plan == Plan(conflicts=(Conflict("d", "type-changed", B, None),))


# ---------------------------------------------------------------- scope


def test_a_path_outside_the_scope_is_not_missed() -> None:
    ancestor = Ancestor({"a": A, "b": A, "d/e": A})
    assert reconcile(ancestor, Snapshot({"a": B}), Snapshot({"a": A}), scope=["a"]) == Plan(
        to_remote=(Change("a", A, B),)
    )
    assert reconcile(ancestor, Snapshot({}), Snapshot({}), scope=[]) == Plan()


def test_what_is_missing_below_the_scope_is_gone() -> None:
    ancestor = Ancestor({"d/e": A, "d/f/g": B, "d.e": C})
    plan = reconcile(ancestor, Snapshot({}), Snapshot({"d/e": A, "d/f/g": B}), scope=["d"])
    assert plan == Plan(to_remote=(Change("d/e", A, None), Change("d/f/g", B, None)))


def test_the_root_is_the_whole_scope() -> None:
    ancestor = Ancestor({"a": A, "d/e": A})
    for scope in (None, [ROOT], {ROOT, "a"}):
        assert reconcile(ancestor, Snapshot({}), Snapshot({}), scope=scope).agreed == (
            ("a", None),
            ("d/e", None),
        )


# ---------------------------------------------------------------- mirror


def test_mirror_lets_the_local_side_win() -> None:
    ancestor, local = {"kept": A, "gone": A}, {"kept": B, "new": A, "file": C, "folder/x": C}
    plan = look(ancestor, local, {"kept": C, "gone": B, "theirs": C, "file/x": A, "folder": A}, Mode.MIRROR)
    assert plan == Plan(
        to_remote=(
            Change("file", None, C),
            Change("file/x", A, None),
            Change("folder", A, None),
            Change("folder/x", None, C),
            Change("gone", B, None),
            Change("kept", C, B),
            Change("new", None, A),
            Change("theirs", C, None),
        )
    )
