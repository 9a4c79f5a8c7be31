"""One content on its way into the staging folder, and what is left of it if it is cut off. Travels (3.8).

A large content bears another name until it is whole: `DIGEST.part`. If its sender is lost it stays, and
the next try goes on behind it; the digest of the whole decides in the end whether that was right.
"""

from __future__ import annotations

import hashlib
import os

from devsync.core.snapshot import Digest
from devsync.replica.digests import BLOCK
from devsync.replica.home import PART, Home, discard, write_all
from devsync.replica.walk import Blocked

KEPT_FROM = 1 << 20
"""Bytes from which on a content is worth going on with."""


class Cut(Blocked):
    """What was to come ends before its end: the sender is gone."""


class Arrival:
    """Writes and hashes; a context manager. Unless `finish` has found it whole, nothing bears its name.

    What has arrived is kept if the sender is gone (Cut, or an error that is none of a disk), and only then.
    """

    def __init__(self, home: Home, digest: Digest, size: int, start: int = 0) -> None:
        """A content of `size` bytes, of which `start` are here. Blocked if they are not; OSError."""
        self._home, self._digest, self._size, self._left = home, digest, size, size - start
        self._name = digest + PART if start or size >= KEPT_FROM else digest
        self._found = hashlib.sha256()
        self._whole = self._spoilt = False
        if start:
            self._file = home.open_part(digest, start)
            try:
                self._go_on(start)
            except BaseException:
                os.close(self._file)
                raise
        else:
            discard(home.tmp, digest)
            self._file = home.open_staging(self._name)

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        os.close(self._file)
        if isinstance(error, (OSError, Blocked)) and not isinstance(error, Cut):
            self._spoilt = True
        if self._whole:
            return
        if self._spoilt or error is None or self._name == self._digest:
            discard(self._home.tmp, self._name)
        else:
            self._home.begun.keep(self._digest, self._size - self._left, self._found)

    def write(self, piece: bytes) -> None:
        """The next bytes. Blocked if there are more than announced; OSError."""
        self._left -= len(piece)
        if self._left < 0:
            raise Blocked("more arrived than was announced")
        write_all(self._file, piece)
        self._found.update(piece)

    def spoil(self) -> None:
        """What has arrived is of no use, whatever comes now."""
        self._spoilt = True

    def finish(self) -> bool:
        """Nothing more comes: whether this is the content. Only then it bears its name."""
        if self._left or self._found.hexdigest() != self._digest:
            return False
        if self._name != self._digest:
            tmp = self._home.tmp
            os.rename(self._name, self._digest, src_dir_fd=tmp, dst_dir_fd=tmp)
        self._whole = True
        return True

    def _go_on(self, start: int) -> None:
        found = self._home.begun.take(self._digest, start)
        if found is not None:
            self._found = found
        else:
            for at in range(0, start, BLOCK):
                self._found.update(os.pread(self._file, min(BLOCK, start - at), at))
        os.ftruncate(self._file, start)
        os.lseek(self._file, start, os.SEEK_SET)
