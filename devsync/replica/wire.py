"""Snapshots, changes and outcomes as JSON values, judged by whoever receives them. Travels (Python 3.8).

Everything that arrives is believed to be hostile: a path that is not `proper`, or was not asked for,
makes the whole answer a ValueError.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from devsync.core.snapshot import (
    ROOT,
    Change,
    Leaf,
    Outcome,
    RelPath,
    Snapshot,
    from_json,
    proper,
    to_json,
    within,
)
from devsync.replica.sums import GROUPS_LIMIT, Sum, deal, group_of, sums

TEXT_LIMIT = 500  # characters of a message for people


def changes_to_json(changes: Sequence[Change]) -> list[Any]:
    return [[change.path, to_json(change.old), to_json(change.new), change.private] for change in changes]


def changes_from_json(value: Any) -> list[Change]:
    """The changes that are asked for. A path that is not proper is refused on its own, by the commit."""
    return [
        Change(_text(path), from_json(old), from_json(new), private is True)
        for path, old, new, private in _rows(value, 4)
    ]


def outcomes_to_json(outcomes: Sequence[Outcome]) -> list[Any]:
    """One value each: true where the change was made, else what is there instead, and why."""
    return [
        True if outcome.done else [outcome.path, to_json(outcome.now), outcome.problem]
        for outcome in outcomes
    ]


def outcomes_from_json(value: Any, changes: Sequence[Change]) -> list[Outcome]:
    """The outcomes of `changes`: one each, in order."""
    if not isinstance(value, list) or len(value) != len(changes):
        raise ValueError("outcomes of other changes")
    outcomes = []
    for row, change in zip(value, changes):  # noqa: B905 (3.8)
        if row is True:
            outcomes.append(Outcome(change.path, True, change.new))
            continue
        ((path, now, problem),) = _rows([row], 3)
        if path != change.path:
            raise ValueError("an outcome of another change")
        outcomes.append(Outcome(change.path, False, from_json(now), text(problem)))
    return outcomes


def snapshot_to_json(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "leaves": [[path, to_json(leaf)] for path, leaf in snapshot.leaves.items()],
        "problems": list(snapshot.problems.items()),
        "skipped": list(snapshot.skipped.items()),
        "private": [path for path in snapshot.private if path in snapshot.leaves],
    }


def news_to_json(snapshot: Snapshot, presumed: Sequence[Sum]) -> dict[str, Any]:
    """A look at everything, for somebody who presumes leaves with these sums: the groups that differ."""
    dealt = deal(snapshot.leaves, len(presumed))
    found = sums(snapshot.leaves, dealt)
    differing = [number for number, own in enumerate(found) if own != presumed[number]]
    news = {path: snapshot.leaves[path] for number in differing for path in dealt[number]}
    told = snapshot_to_json(Snapshot(news, snapshot.problems, snapshot.skipped, snapshot.private))
    return {**told, "differing": differing}


def news_from_json(
    value: Any, presumed: Mapping[RelPath, Leaf], dealt: Sequence[Sequence[RelPath]]
) -> Snapshot:
    """What a look found that was told the sums of `presumed`, dealt like this."""
    news = snapshot_from_json(value, None)
    differing = value.get("differing")
    if not isinstance(differing, list) or not all(type(number) is int for number in differing):
        raise ValueError("no news")
    if not all(0 <= number < len(dealt) for number in differing):
        raise ValueError("news of groups that are none")
    told = set(differing)
    if not all(group_of(path, len(dealt)) in told for path in news.leaves):
        raise ValueError("news of a group in which nothing differs")
    leaves = dict(presumed)
    for number in told:
        for path in dealt[number]:
            del leaves[path]
    leaves.update(news.leaves)
    return Snapshot(leaves, news.problems, news.skipped, news.private)


def sums_from_json(value: Any) -> list[Sum]:
    """The sums of what somebody presumes: one at least."""
    if not isinstance(value, list) or not 0 < len(value) <= GROUPS_LIMIT:
        raise ValueError("no sums")
    return [_text(each) for each in value]


def snapshot_from_json(value: Any, scope: Collection[RelPath] | None) -> Snapshot:
    """A look at `scope`. A problem may also be of a folder above it: then nothing is known below."""
    if not isinstance(value, dict):
        raise ValueError("no snapshot")
    wanted = None if scope is None else frozenset(scope)
    leaves = {}
    for path, leaf in _rows(value.get("leaves"), 2):
        found = from_json(leaf)
        if found is None or (wanted is not None and not within(_path(path), wanted)):
            raise ValueError("a leaf that is none, or nobody asked for")
        leaves[path if wanted is not None else _path(path)] = found
    private = value.get("private", [])
    if not isinstance(private, list) or not all(isinstance(path, str) and path in leaves for path in private):
        raise ValueError("no private files")
    skipped = _texts(value.get("skipped"))
    return Snapshot(leaves, _texts(value.get("problems")), skipped, frozenset(private))


def scope_from_json(value: Any) -> list[RelPath] | None:
    """The scope of a scan; None for everything."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
        raise ValueError("no scope")
    return value


def hints_from_json(value: Any) -> list[RelPath]:
    """Paths to look at; the root stands for everything."""
    if not isinstance(value, list):
        raise ValueError("no hints")
    return [path if path == ROOT else _path(path) for path in value]


def text(value: Any) -> str:
    """A message for people, with nothing in it that moves a cursor."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in _text(value)[:TEXT_LIMIT])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _texts(value: Any) -> dict[RelPath, str]:
    found = {}
    for path, why in _rows(value, 2):
        if path != ROOT:
            _path(path)
        found[path] = text(why)
    return found


def _rows(value: Any, width: int) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(row, list) and len(row) == width for row in value):
        raise ValueError("not the rows that were expected")
    return value


def _path(path: Any) -> RelPath:
    if not isinstance(path, str) or not proper(path):
        raise ValueError(f"not a path below the root: {path!r}"[:200])
    return path
