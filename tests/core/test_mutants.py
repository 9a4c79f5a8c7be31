"""That the laws have teeth: each broken variant of the policy breaks the law named beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from devsync.core import reconcile as core
from devsync.core.reconcile import Conflict, Direction, Plan, Verdict
from devsync.core.snapshot import Ancestor, Change, File, Leaf, RelPath, Snapshot
from tests.core.test_laws import (
    Law,
    cause,
    convergence,
    crash,
    nothing_lost,
    one_direction,
    part,
    preconditions,
    room,
    sole_writer,
    symmetry,
    unknown,
)
from tests.core.worlds import B, small_worlds

decide, merge, reconcile, entangled = core.decide, core.merge, core.reconcile, core._entangled


def _delete_wins(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    if local is None and ancestor is not None:
        return Verdict.AGREE if remote is None else Verdict.TAKE_LOCAL
    if remote is None and ancestor is not None:
        return Verdict.TAKE_REMOTE
    return decide(ancestor, local, remote)


def _newest_wins(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    verdict = decide(ancestor, local, remote)
    if verdict is not Verdict.CONFLICT:
        return verdict
    return Verdict.TAKE_LOCAL if repr(local) > repr(remote) else Verdict.TAKE_REMOTE


def _local_wins(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    return Verdict.AGREE if local == remote else Verdict.TAKE_LOCAL


def _no_ancestor(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    return decide(None, local, remote)


def _difference_is_conflict(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    return Verdict.AGREE if local == remote else Verdict.CONFLICT


def _merge_takes_local(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> File | None:
    return local if isinstance(local, File) and merge(ancestor, local, remote) is not None else None


def _merge_drops_the_bit(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> File | None:
    merged = merge(ancestor, local, remote)
    return merged._replace(executable=False) if merged is not None else None


def _merge_of_one_change_each(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> File | None:
    """Gives up when both sides have the executable bit already: after half of a merge, for one."""
    if isinstance(local, File) and isinstance(remote, File) and local.digest != remote.digest:
        return merge(ancestor, local, remote) if local.executable != remote.executable else None
    return merge(ancestor, local, remote)


def _nothing_is_unknown(path: RelPath, scope: object) -> bool:
    return False


def _nothing_entangled(side: Snapshot, changes: Mapping[RelPath, Change]) -> set[RelPath]:
    return set()


def _only_leaves_in_the_way(side: Snapshot, changes: Mapping[RelPath, Change]) -> set[RelPath]:
    return entangled(replace(side, problems={}), changes)


def _conflicts_hold_nothing_back(
    changes: Mapping[RelPath, Change], conflicts: Mapping[RelPath, Conflict]
) -> dict[RelPath, Change]:
    return {path: change for path, change in changes.items() if path not in conflicts}


def _whole_region(self: Ancestor, scope: object) -> list[RelPath]:
    return list(self.leaves)


def _half_of_it(self: Plan, direction: Direction) -> Plan:
    return replace(self, to_local=()) if direction is Direction.PUSH else replace(self, to_remote=())


def _clobber(*args: object, **kwargs: object) -> Plan:
    plan = reconcile(*args, **kwargs)  # type: ignore[arg-type]  # passed through as they come
    return replace(plan, to_local=tuple(change._replace(old=B) for change in plan.to_local))


def _never_agree(*args: object, **kwargs: object) -> Plan:
    return replace(reconcile(*args, **kwargs), agreed=())  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    "place, broken, law",
    [
        ("decide", _delete_wins, nothing_lost),
        ("decide", _newest_wins, nothing_lost),
        ("decide", _local_wins, symmetry),
        ("decide", _local_wins, nothing_lost),
        ("decide", _local_wins, cause),
        ("decide", _no_ancestor, sole_writer),
        ("decide", _difference_is_conflict, sole_writer),
        ("merge", _merge_takes_local, symmetry),
        ("merge", _merge_takes_local, nothing_lost),
        ("merge", _merge_drops_the_bit, nothing_lost),
        ("merge", _merge_of_one_change_each, crash),
        ("within", _nothing_is_unknown, unknown),
        ("_entangled", _nothing_entangled, room),
        ("_entangled", _only_leaves_in_the_way, unknown),
        ("_without", _conflicts_hold_nothing_back, room),
        ("Ancestor.region", _whole_region, part),
        ("Plan.only", _half_of_it, one_direction),
        ("reconcile", _clobber, preconditions),
        ("reconcile", _never_agree, convergence),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_a_broken_variant_breaks_a_law(
    place: str, broken: Callable[..., object], law: Law, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"devsync.core.reconcile.{place}", broken)
    with pytest.raises(AssertionError):
        for world in small_worlds():
            law(world)
