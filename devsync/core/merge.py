"""Which conflicts may end by a merge of their contents, in which way, and what becomes of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

from devsync.core.reconcile import Conflict, Plan, executable
from devsync.core.snapshot import Change, File, Leaf, RelPath

LARGEST = 5 << 20
"""Bytes of the largest content that is merged, or kept as a base of a merge."""


class Method(Enum):
    """How three contents become one."""

    TEXT = "text"
    """Line by line."""
    NOTEBOOK = "notebook"
    """Cell by cell, and the source of a cell line by line."""


class Candidate(NamedTuple):
    """A conflict that a merge may end: what both sides last agreed on, and what each made of it."""

    path: RelPath
    method: Method
    base: File
    local: File
    remote: File


def method(path: RelPath, leaf: Leaf | None) -> Method | None:
    """How what is at `path` would be merged, as far as its name and size tell; None if not at all."""
    if not isinstance(leaf, File) or not 0 < leaf.size <= LARGEST:
        return None
    return Method.NOTEBOOK if path.endswith(".ipynb") else Method.TEXT


def is_text(content: bytes) -> bool:
    """Whether lines mean anything in it: git's own test, over all of it."""
    return b"\0" not in content


def candidates(conflicts: Iterable[Conflict], agreed: Mapping[RelPath, Leaf]) -> list[Candidate]:
    """The conflicts in which both sides changed a content that both had, and all three can be merged."""
    found = []
    for conflict in conflicts:
        base, local, remote = agreed.get(conflict.path), conflict.local, conflict.remote
        ways = {method(conflict.path, leaf) for leaf in (base, local, remote)}
        if conflict.kind != "both-modified" or None in ways:
            continue
        assert isinstance(base, File) and isinstance(local, File) and isinstance(remote, File)
        [way] = (one for one in ways if one is not None)
        found.append(Candidate(conflict.path, way, base, local, remote))
    return found


def merged(plan: Plan, results: Mapping[Candidate, File]) -> Plan:
    """The plan in which these conflicts have become changes, of each side that is not so already."""
    if not results:
        return plan
    to_local, to_remote = list(plan.to_local), list(plan.to_remote)
    for one, content in results.items():
        new = content._replace(executable=executable(one.base, one.local, one.remote))
        to_local += [Change(one.path, one.local, new)] if new != one.local else []
        to_remote += [Change(one.path, one.remote, new)] if new != one.remote else []
    ended = {one.path for one in results}
    conflicts = tuple(conflict for conflict in plan.conflicts if conflict.path not in ended)
    return replace(plan, to_local=tuple(to_local), to_remote=tuple(to_remote), conflicts=conflicts)
