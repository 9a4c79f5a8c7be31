"""Keeps contents that both sides agreed on, as the bases of merges: by digest, compressed, bounded.

Nothing here is worth a wait for the disk: a base that is missing, or is not what it should be, means a
conflict where a merge would have been, and no more. Owned by the thread that synchronises.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devsync.core.merge import LARGEST
from devsync.core.snapshot import Digest

log = logging.getLogger(__name__)

SIZE = 1 << 30
"""Bytes that all of them may take, compressed; those that came first go first."""

_TABLE = "CREATE TABLE IF NOT EXISTS base (number INTEGER PRIMARY KEY, digest BLOB UNIQUE, content BLOB)"
# A row without a content: it is known, and cannot be merged, so nobody need read it again.


class Bases:
    """The contents, in an SQLite file. One that cannot be used is begun anew, or done without."""

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path, self._limit, self._used, self._told = path, size, 0, False
        try:
            self._db = self._open(path)
        except (sqlite3.Error, OSError):
            self._db = self._anew()

    def _open(self, path: Path | str) -> sqlite3.Connection:
        if isinstance(path, Path):
            path.touch(mode=0o600)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL").fetchall()
            db.execute("PRAGMA synchronous = OFF")
            db.execute(_TABLE)
            self._used = _size(db)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _anew(self) -> sqlite3.Connection:
        try:
            for ending in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            return self._open(self._path)
        except (sqlite3.Error, OSError) as error:
            self._tell(error)
            self._limit = 0
            return self._open(":memory:")

    def get(self, digest: Digest) -> bytes | None:
        """The content with this digest, if it is here and whole."""
        packed = None
        with self._using() as db:
            row = db.execute("SELECT content FROM base WHERE digest = ?", (bytes.fromhex(digest),)).fetchone()
            packed = row[0] if row else None
        if packed is None:
            return None
        try:
            content = zlib.decompressobj().decompress(packed, LARGEST + 1)
        except zlib.error:
            return None
        return content if hashlib.sha256(content).hexdigest() == digest else None

    def put(self, contents: Mapping[Digest, bytes | None]) -> None:
        """Keep these contents; None where one is known and cannot be merged."""
        with self._writing() as db:
            for digest, content in contents.items():
                packed = None if content is None else zlib.compress(content, 1)
                added = db.execute(
                    "INSERT OR IGNORE INTO base (digest, content) VALUES (?, ?)",
                    (bytes.fromhex(digest), packed),
                ).rowcount
                self._used += len(packed) if packed is not None and added > 0 else 0
            if self._used > self._limit:
                self._shrink(db)

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Throw away the oldest until a tenth of the room is free."""
        gone: list[tuple[int]] = []
        for number, size in db.execute(
            "SELECT number, length(content) FROM base WHERE content NOTNULL ORDER BY number"
        ):
            if self._used <= self._limit * 0.9:
                break
            gone.append((number,))
            self._used -= size
        db.executemany("DELETE FROM base WHERE number = ?", gone)

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        """Which of these are not known."""
        left = set(digests)
        with self._using() as db:
            for digest in digests:
                if db.execute("SELECT 1 FROM base WHERE digest = ?", (bytes.fromhex(digest),)).fetchone():
                    left.discard(digest)
        return left

    def keep_only(self, digests: Collection[Digest]) -> None:
        """Throw the others away."""
        with self._writing() as db:
            known = db.execute("SELECT number, digest FROM base").fetchall()
            gone = [(number,) for number, digest in known if digest.hex() not in digests]
            db.executemany("DELETE FROM base WHERE number = ?", gone)
            self._used = _size(db)
        with self._using() as db:
            db.execute("PRAGMA incremental_vacuum").fetchall()

    def full(self) -> bool:
        """Whether one more content may cost another one."""
        return self._used >= self._limit * 0.8

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._db.close()

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """What goes wrong is told once, and leaves things as they were."""
        try:
            yield self._db
        except sqlite3.Error as error:
            self._tell(error)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:  # a full disk has rolled it back already
                    db.execute("ROLLBACK")

    def _tell(self, error: Exception) -> None:
        if not self._told:
            log.warning("the bases of merges are not kept: %s: %s", self._path, error)
        self._told = True


def _size(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT total(length(content)) FROM base").fetchone()[0])
