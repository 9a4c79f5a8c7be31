"""How editors save: the system calls of each, in their order. A save ends when its function returns."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Save = Callable[[Path, bytes], None]

SLICES = 6
"""Into so many writes a content is cut where an editor writes in slices."""

BREATH = 0.005
"""Seconds between two slices: a slow disk, or an editor that has other things to do."""

pauses: list[float] = []
"""Seconds that each write came after the one before it: on a busy computer more than was meant."""

LEFTOVERS = ("4913", ".#", "___jb_", ".goutputstream", ".~", ".swp")
"""What the names have in common that exist only while a file is being saved."""


def vim(path: Path, content: bytes) -> None:
    """A probe for the folder's rights, the old file out of the way, a new one, the old one gone."""
    probe = path.with_name("4913")
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW, 0o100644))
    os.stat(probe)
    os.unlink(probe)
    backup = path.with_name(path.name + "~")
    backup.unlink(missing_ok=True)
    os.rename(path, backup)
    _write(path, content, os.O_CREAT | os.O_WRONLY)
    os.chmod(path, 0o644)
    os.unlink(backup)


def vim_in_place(path: Path, content: bytes) -> None:
    """vim with backupcopy=yes: a copy of the old text first, and the file keeps its inode."""
    backup = path.with_name(path.name + "~")
    shutil.copy(path, backup)
    _write(path, content, os.O_WRONLY | os.O_TRUNC)
    os.unlink(backup)


def emacs(path: Path, content: bytes) -> None:
    """A dangling link for a lock; the old file becomes the backup, which stays."""
    lock = path.with_name(".#" + path.name)
    os.symlink("somebody@laptop.4711:1764000000", lock)
    os.rename(path, path.with_name(path.name + "~"))
    _write(path, content, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
    os.unlink(lock)


def vs_code(path: Path, content: bytes) -> None:
    """In place: opened for reading and writing, emptied, written, flushed."""
    _write(path, content, os.O_RDWR, empty=True)


def pycharm(path: Path, content: bytes) -> None:
    """The safe write: a temporary beside it, the old file aside, the temporary in, the old one gone."""
    new, old = path.with_name(path.name + "___jb_tmp___"), path.with_name(path.name + "___jb_old___")
    _write(new, content, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.rename(path, old)
    os.rename(new, path)
    os.unlink(old)


def gedit(path: Path, content: bytes) -> None:
    """A temporary with a random name, flushed, renamed over the file."""
    new = path.with_name(".goutputstream-" + os.urandom(3).hex().upper())
    _write(new, content, os.O_CREAT | os.O_RDWR | os.O_EXCL)
    os.rename(new, path)


def jupyter(path: Path, content: bytes) -> None:
    """A copy of the old notebook, then the notebook itself emptied and written in slices, the copy gone."""
    intermediate = path.with_name(".~" + path.name)
    shutil.copy2(path, intermediate)
    _write(path, content, os.O_WRONLY | os.O_TRUNC, slices=SLICES)
    os.unlink(intermediate)


EDITORS: Mapping[str, Save] = {
    save.__name__: save for save in (vim, vim_in_place, emacs, vs_code, pycharm, gedit, jupyter)
}


def _write(path: Path, content: bytes, flags: int, *, empty: bool = False, slices: int = 1) -> None:
    before = time.monotonic()
    descriptor = os.open(path, flags, 0o644)
    try:
        if empty:
            os.ftruncate(descriptor, 0)
        length = -(-len(content) // slices)
        for start in range(0, len(content), length):
            if start:
                time.sleep(BREATH)  # the slice is on the disk, and the next one is not: that is the point
            os.write(descriptor, content[start : start + length])
            before, now = time.monotonic(), before
            pauses.append(before - now)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
