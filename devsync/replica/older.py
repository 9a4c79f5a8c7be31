"""A file below the root that something can be made from: the older version of a content. Travels (3.8)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from devsync.core.snapshot import RelPath, proper
from devsync.replica.delta import Blocks
from devsync.replica.digests import BLOCK, open_file
from devsync.replica.walk import Blocked, parent


class Older:
    """Opened once, so that it stays the same file; its content may change, which the digest will tell."""

    def __init__(self, root: int, path: RelPath) -> None:
        """`root` is a handle. Blocked if `path` is none, or not to be reached without a link; OSError."""
        if not proper(path):
            raise Blocked("a part of something that is no path")
        with parent(root, path) as (folder, name):
            self._file = open_file(folder, name)
        self.size = os.fstat(self._file).st_size

    def __enter__(self) -> Older:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def blocks(self) -> Blocks:
        """What to tell of it. ValueError if it is empty, or is being cut; OSError."""
        return Blocks.of(self._file, self.size)

    def part(self, start: int, size: int) -> Iterator[bytes]:
        """Some of its bytes. Blocked if it has become shorter; OSError."""
        while size:
            piece = os.pread(self._file, min(BLOCK, size), start)
            if not piece:
                raise Blocked("the file that a part was to be taken from is shorter now")
            start += len(piece)
            size -= len(piece)
            yield piece
