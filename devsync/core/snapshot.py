"""What a replica holds, and what may change in it. This module travels to the machine (Python 3.8)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Union, runtime_checkable

RelPath = str
"""A path below the root: '/' between names, no empty name, no '.' and no '..'. Bytes that are no
UTF-8 stand as lone surrogates (`os.fsdecode`), so every name that a file system allows fits."""

Digest = str
"""SHA-256 of a file's content, 64 hexadecimal digits."""

ROOT: RelPath = ""
"""The root itself, as a hint, a scope or the place of a problem; never the path of a leaf."""

WRITING = "still being written"
"""The problem of a look that passes by itself."""


# There is one leaf for each file of a project: tuples are smaller than objects with attributes, and
# compare faster. A file is never equal to a link, since the two differ in length.
class File(NamedTuple):
    """A regular file: its content by digest, its size in bytes, its executable bit."""

    digest: Digest
    size: int
    executable: bool = False


class Link(NamedTuple):
    """A symbolic link, by the text of its target."""

    target: str


Leaf = Union[File, Link]  # noqa: UP007 (3.8)
"""What is at a path. A folder is no leaf: it exists because something is in it. Absence is None."""


@dataclass(frozen=True)
class Snapshot:
    """What a look found.

    `leaves` is complete for the paths that were looked at, except at and below the paths in
    `problems`: what is there is unknown, and nothing may be decided about it. `skipped` names what is
    no leaf and never will be (sockets, FIFOs, devices), for the user's information. `private` are files
    that only their owner may read, on a side where that is not so of every file.
    """

    leaves: Mapping[RelPath, Leaf]
    problems: Mapping[RelPath, str] = field(default_factory=dict)
    skipped: Mapping[RelPath, str] = field(default_factory=dict)
    private: Collection[RelPath] = field(default=(), compare=False)


@runtime_checkable
class Presumes(Protocol):
    """A replica that looks at everything more cheaply if it is told before what is probably there."""

    def presume(self, leaves: Mapping[RelPath, Leaf]) -> None:
        """Right before a look at everything. `leaves` is kept, and asked between looks as a hint."""


class Change(NamedTuple):
    """Make `new` of `path`. `old` is the precondition: what must be there at that moment.

    `private`: a file that is made where none was is for its owner alone.
    """

    path: RelPath
    old: Leaf | None
    new: Leaf | None
    private: bool = False


class Outcome(NamedTuple):
    """What became of a change. `now` is what is at the path after it; unknown where `problem` says so.

    done: the change was made (or was there already). Not done and no problem: the precondition did
    not hold, so look again. Not done with a problem: this path cannot be changed, and why.
    """

    path: RelPath
    done: bool
    now: Leaf | None = None
    problem: str = ""


def parents(path: RelPath) -> Iterator[RelPath]:
    """The folders above `path`, the nearest first, without the root."""
    cut = path.rfind("/")
    while cut > 0:
        path = path[:cut]
        yield path
        cut = path.rfind("/")


def within(path: RelPath, scope: Iterable[RelPath]) -> bool:
    """Whether `path` is one of `scope` or lies below one of them. The root holds everything."""
    chosen = scope if isinstance(scope, (set, frozenset, dict)) else set(scope)
    return ROOT in chosen or path in chosen or any(parent in chosen for parent in parents(path))


def proper(path: RelPath) -> bool:
    """Whether `path` can name something below a root, and nothing that any platform takes for `.git`.

    Every path that comes from another machine passes here before it touches a disk.
    """
    if not path or "\0" in path:
        return False
    return all(name not in ("", ".", "..") and not _is_git_folder(name) for name in path.split("/"))


# Code points that HFS+ leaves out when it compares names, as git's verify_path lists them.
_INVISIBLE = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


def _is_git_folder(name: str) -> bool:
    # NTFS ends a name at ':' (a stream) and at '\\', and drops what is blank before that.
    shown = name.translate(_INVISIBLE).lower().replace("\\", ":").split(":")[0].rstrip(" .")
    return shown in (".git", "git~1")


class Ancestor:
    """What both sides last agreed on: path -> leaf, and quick answers about what lies below a folder."""

    def __init__(self, leaves: Mapping[RelPath, Leaf] | None = None) -> None:
        self.leaves: dict[RelPath, Leaf] = dict(leaves or {})
        self._order: list[RelPath] | None = None

    def set(self, path: RelPath, leaf: Leaf | None) -> None:
        """Agree that `leaf` is at `path`, or that nothing is."""
        if (path in self.leaves) != (leaf is not None):
            self._order = None
        if leaf is None:
            self.leaves.pop(path, None)
        else:
            self.leaves[path] = leaf

    def share(self, leaves: Mapping[RelPath, Leaf]) -> None:
        """Hold the objects of `leaves` where they are equal to what was agreed on: one for two."""
        agreed = self.leaves
        for path, leaf in leaves.items():
            if agreed.get(path) == leaf:
                agreed[path] = leaf

    def region(self, scope: Iterable[RelPath] | None) -> Iterable[RelPath]:
        """The agreed paths that are in `scope` or below it; all of them if there is no scope."""
        chosen: set[RelPath] = set() if scope is None else set(scope)
        if scope is None or ROOT in chosen:
            return self.leaves.keys()
        found: set[RelPath] = set()
        for path in chosen:
            if path in self.leaves:
                found.add(path)
            else:
                found.update(self._below(path))
        return found

    def _below(self, folder: RelPath) -> Sequence[RelPath]:
        if self._order is None:
            self._order = sorted(self.leaves)
        start = bisect_left(self._order, folder + "/")
        end = bisect_left(self._order, folder + "0", start)  # "0" is the character after "/"
        return self._order[start:end]

    def __len__(self) -> int:
        return len(self.leaves)


def to_json(leaf: Leaf | None) -> Any:
    """A leaf as a JSON value: null, ["f", digest, size, executable] or ["l", target]."""
    if leaf is None:
        return None
    if isinstance(leaf, File):
        return ["f", leaf.digest, leaf.size, leaf.executable]
    return ["l", leaf.target]


def from_json(value: Any) -> Leaf | None:
    """The leaf of a JSON value; ValueError for anything that `to_json` does not make."""
    if value is None:
        return None
    if isinstance(value, list) and len(value) == 4 and value[0] == "f":
        _, digest, size, executable = value
        hexadecimal = isinstance(digest, str) and len(digest) == 64 and not digest.strip("0123456789abcdef")
        if hexadecimal and isinstance(executable, bool) and type(size) is int and size >= 0:
            return File(digest, size, executable)
    elif isinstance(value, list) and len(value) == 2 and value[0] == "l":
        target = value[1]
        if isinstance(target, str) and target and "\0" not in target:
            return Link(target)
    raise ValueError(f"not a leaf: {value!r}"[:200])
