"""What is at one name of a folder, with the digests of files that have not changed. Travels (Python 3.8)."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
import zlib
from collections.abc import Collection
from typing import Tuple  # noqa: UP035 (as below)

from devsync.core.snapshot import WRITING, Digest, File, Leaf, Link, RelPath
from devsync.replica.walk import Blocked

Signature = Tuple[int, int, int, int]  # noqa: UP006 (an alias is evaluated: Python 3.8)
"""(size, mtime in ns, inode, ctime in ns): as long as it is the same, so is the content."""

Known = Tuple[RelPath, File, int, int, int]  # noqa: UP006 (as above)
"""(path, what the file is, mtime in ns, inode, ctime in ns): flat, since there is one for each file."""

RACY = 2_000_000_000
"""A stamp this young, in ns, may stand for two contents (git's racy rule): not remembered."""

QUIET = 20_000_000
"""A file that was changed within so many ns may still be being written: a look waits that long, once."""

EMPTY_QUIET = 250_000_000
"""The same for an empty file: most are about to be filled, by an editor that has just emptied them."""

BLOCK = 1 << 20

_KINDS = {stat.S_IFSOCK: "socket", stat.S_IFIFO: "FIFO", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}


class Busy(Blocked):
    """The file is being written, as far as one can tell."""

    def __init__(self) -> None:
        super().__init__(WRITING)


class IsFolder(Exception):
    """There is a folder, which is no leaf."""


class Special(Blocked):
    """There is a socket, a FIFO or a device; the text says which."""


def signature(info: os.stat_result) -> Signature:
    """What tells one content of a file from another without reading it."""
    mtime, ctime = info.st_mtime_ns, info.st_ctime_ns
    # Mostly they are the same moment: then one number is kept for both.
    return (info.st_size, mtime, info.st_ino, mtime if ctime == mtime else ctime)


class Digests:
    """The digests that are known, by path, and what has changed in them since somebody asked."""

    def __init__(self, known: dict[RelPath, Known] | None = None) -> None:
        """`known` is taken over, not copied."""
        self.known: dict[RelPath, Known] = {} if known is None else known
        self._changed: set[RelPath] = set()

    def pack(self) -> bytes:
        """Everything that is known, as `unpack` takes it."""
        rows = [[path, file.size, *stamps, file.digest] for path, file, *stamps in self.known.values()]
        return zlib.compress(json.dumps(rows, separators=(",", ":")).encode("ascii"), 1)

    @staticmethod
    def unpack(data: bytes) -> Digests:
        """What was packed; nothing if that is damaged."""
        try:
            rows = json.loads(zlib.decompress(data))
            return Digests(
                {
                    path: (path, File(digest, size), mtime, node, ctime)
                    for path, size, mtime, node, ctime, digest in rows
                }
            )
        except (ValueError, TypeError, zlib.error):
            return Digests()

    def forget_all_but(self, paths: Collection[RelPath]) -> None:
        """Forget the paths that a look at everything has not seen."""
        gone = [path for path in self.known if path not in paths]
        for path in gone:
            del self.known[path]
        self._changed.update(gone)

    def take_changes(self) -> tuple[dict[RelPath, Known], set[RelPath]]:
        """What was learnt and what was forgotten since the last call, for whoever keeps it on a disk."""
        changed = {path: self.known[path] for path in self._changed if path in self.known}
        gone = self._changed - changed.keys()
        self._changed = set()
        return changed, gone

    def held(self, path: RelPath) -> RelPath:
        """The same path, as the object that is held here anyway if there is one."""
        remembered = self.known.get(path)
        return path if remembered is None else remembered[0]

    def file(self, folder: int, name: str, path: RelPath, info: os.stat_result) -> File:
        """The regular file that `info` tells of. Busy if it changes meanwhile; OSError."""
        seen = signature(info)
        executable = bool(info.st_mode & stat.S_IXUSR)
        remembered = self.known.get(path)
        if remembered is not None and remembered[2:] == seen[1:] and remembered[1].size == seen[0]:
            file = remembered[1]
            if file.executable != executable:  # which is not kept on the disk
                file = file._replace(executable=executable)
                self.known[path] = (remembered[0], file, *seen[1:])
            return file
        before = time.time_ns()
        file = File(read_digest(folder, name, seen), seen[0], executable)
        if seen[3] < before - RACY:
            self.known[path] = (path, file, *seen[1:])
            self._changed.add(path)
        return file

    def look(self, folder: int, name: str, path: RelPath) -> Leaf | None:
        """What is there now. IsFolder, Special or Busy if it is no leaf; OSError."""
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(info.st_mode):
                return self.file(folder, name, path, info)
            if stat.S_ISLNK(info.st_mode):
                return Link(os.readlink(name, dir_fd=folder))
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(info.st_mode):
            raise IsFolder
        raise Special(special(info.st_mode))


def is_young(info: os.stat_result) -> bool:
    """Whether the file was changed within the last moment. A stamp of the future says nothing."""
    quiet = QUIET if info.st_size else EMPTY_QUIET
    return 0 <= time.time_ns() - info.st_ctime_ns < quiet


def special(mode: int) -> str:
    """What to call something that is neither file nor folder nor link."""
    return _KINDS.get(stat.S_IFMT(mode), "special file")


def read_digest(folder: int, name: str, seen: Signature) -> Digest:
    """The digest of the file that `seen` tells of. Busy if it is another one, or changes meanwhile."""
    descriptor = open_file(folder, name)
    try:
        if signature(os.fstat(descriptor)) != seen:
            raise Busy
        digest = hashlib.sha256()
        left = seen[0]
        while left >= 0:  # no further than a file that grows, grew by its first byte
            block = os.read(descriptor, min(BLOCK, left + 1))
            if not block:
                break
            digest.update(block)
            left -= len(block)
        if signature(os.fstat(descriptor)) != seen:
            raise Busy
        return digest.hexdigest()
    finally:
        os.close(descriptor)


def open_file(folder: int, name: str) -> int:
    """Open for reading what is believed to be a regular file: never a link, never waiting for a FIFO."""
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
