"""The way to a path below a root: by folder handles, never through a link. Travels (Python 3.8)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from devsync.core.snapshot import Leaf, Link, RelPath, proper

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
HOME = ".devsync"
"""The folder below a root that is devsync's own: staging, trash and marker."""


MARKER = "replica.json"
"""The file in it by which a replica is known."""

ANOTHER_PROJECT = "another project of devsync's has this folder: not looked into"


class RootGone(Exception):
    """The root is not there, or is no folder."""


class Blocked(Exception):
    """This path cannot be reached or changed; the text is for people."""


def open_root(root: str) -> int:
    """A handle of the root folder. RootGone if it is not there."""
    try:
        return os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RootGone(f"the project folder is gone: {root}") from error


@contextmanager
def parent(root: int, path: RelPath, made: list[RelPath] | None = None) -> Iterator[tuple[int, str]]:
    """The folder that holds `path`, as a handle, and the name in it.

    With `made`, missing folders are made and named there. FileNotFoundError if one is missing, Blocked
    if something else than a folder is in the way.
    """
    names = path.split("/")
    folder = os.dup(root)
    try:
        for depth, name in enumerate(names[:-1], 1):
            below = _enter(folder, name, "/".join(names[:depth]), made)
            os.close(folder)
            folder = below
        yield folder, names[-1]
    finally:
        os.close(folder)


def is_project(root: int, folder: RelPath) -> bool:
    """Whether a folder below `root` is the root of a replica itself."""
    try:
        os.stat(f"{folder}/{HOME}/{MARKER}", dir_fd=root, follow_symlinks=False)
    except (OSError, ValueError):
        return False
    return True


def _enter(folder: int, name: str, path: RelPath, made: list[RelPath] | None) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except FileNotFoundError:
        if made is None:
            raise
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise Blocked(f"{path!r} is no folder here (links are not followed)") from error
        raise
    try:
        os.mkdir(name, dir_fd=folder)
        made.append(path)
    except FileExistsError:
        pass  # RACE: somebody made it just now; what it is, is found out by opening it.
    return _enter(folder, name, path, None)


def refusal(path: RelPath) -> str:
    """Why nothing may ever be written to `path`; empty if it may."""
    if not proper(path):
        return "not a path that devsync writes to"
    if path.split("/", 1)[0].lower() == HOME:
        return "devsync's own folder is not mirrored"
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return "this name cannot be written here"
    return ""


def link_refusal(path: RelPath, target: str) -> str:
    """Why a link at `path` is not mirrored; empty if it stays inside the root, as far as names tell."""
    if target.startswith("/"):
        return "link leaves the project: not mirrored"
    depth = path.count("/")
    for name in target.split("/"):
        depth += -1 if name == ".." else 0 if name in ("", ".") else 1
        if depth < 0:
            return "link leaves the project: not mirrored"
    return ""


def leaf_refusal(path: RelPath, leaf: Leaf | None) -> str:
    """Why `leaf` may not be written to `path`; empty if it may."""
    return refusal(path) or (link_refusal(path, leaf.target) if isinstance(leaf, Link) else "")


def told(error: OSError) -> str:
    """What the system said, for people."""
    if error.errno == errno.ENOSPC:
        return f"the disk is full: {os.strerror(errno.ENOSPC)} (ENOSPC)"
    if error.errno == errno.EXDEV:
        return "another file system is mounted there: not mirrored (EXDEV)"
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{error.strerror or error}" + (f" ({name})" if name else "")
