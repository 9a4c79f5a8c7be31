"""What devsync remembers between two starts, in one SQLite file: the ancestor, intents, digests, identities.

Owned by the thread that synchronises; nobody else opens the file while the project's lock is held.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devsync.core.snapshot import Ancestor, Change, File, Leaf, RelPath, from_json, to_json
from devsync.ports import DevsyncError

SCHEMA = 1

_TABLES = """
CREATE TABLE ancestor (path BLOB PRIMARY KEY, leaf TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE intent (side TEXT, path BLOB, old TEXT, new TEXT, PRIMARY KEY (side, path)) WITHOUT ROWID;
CREATE TABLE digest (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, inode INTEGER, ctime INTEGER,
                     digest TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

Known = tuple[RelPath, File, int, int, int]
"""A path, what the file there is, and the stamps for which that holds: mtime in ns, inode, ctime in ns."""


class Store:
    """The memory of one project. Every method that writes is one durable transaction.

    What stays in memory for each file is there once: the paths and leaves of `digests` are the objects
    of `ancestor`, which is read from the disk once and is the same object each time.
    """

    def __init__(self, path: Path) -> None:
        """Open the file or make it (0600). Raises DevsyncError if it cannot be used as it is."""
        self._path = path
        self._ancestor: Ancestor | None = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.close(descriptor)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, OSError) as error:
            raise self._unreadable(error) from error
        try:
            self._open()
        except sqlite3.Error as error:
            self._db.close()
            raise self._unreadable(error) from error
        except DevsyncError:
            self._db.close()
            raise

    def _open(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA:
            raise DevsyncError(
                f"{self._path} was written by a newer devsync (schema {version}, this one knows {SCHEMA})",
                hint="upgrade devsync on this computer",
            )
        if version == 0:
            self._db.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")

    def ancestor(self) -> Ancestor:
        """What both sides last agreed on; `settle` keeps it up to date."""
        if self._ancestor is None:
            rows = self._read("SELECT path, leaf FROM ancestor")
            found = ((os.fsdecode(path), self._leaf(text)) for path, text in rows)
            self._ancestor = Ancestor({path: leaf for path, leaf in found if leaf is not None})
        return self._ancestor

    def intents(self) -> list[tuple[str, Change]]:
        """The changes that were begun and not seen to end: (side, change)."""
        rows = self._read("SELECT side, path, old, new FROM intent")
        return [
            (side, Change(os.fsdecode(path), self._leaf(old), self._leaf(new)))
            for side, path, old, new in rows
        ]

    def begin(self, side: str, changes: Iterable[Change]) -> None:
        """Record that these changes are about to be made on `side`."""
        rows = ((side, os.fsencode(c.path), _text(c.old), _text(c.new)) for c in changes)
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO intent VALUES (?, ?, ?, ?)", rows)

    def settle(
        self, agreed: Sequence[tuple[RelPath, Leaf | None]], ended: Iterable[tuple[str, RelPath]] = ()
    ) -> None:
        """Both sides agree on these leaves now, and these intents (side, path) have ended."""
        gone = ((os.fsencode(path),) for path, leaf in agreed if leaf is None)
        kept = ((os.fsencode(path), _text(leaf)) for path, leaf in agreed if leaf is not None)
        with self._transaction():
            self._db.executemany("DELETE FROM ancestor WHERE path = ?", gone)
            self._db.executemany("INSERT OR REPLACE INTO ancestor VALUES (?, ?)", kept)
            self._db.executemany(
                "DELETE FROM intent WHERE side = ? AND path = ?",
                ((side, os.fsencode(path)) for side, path in ended),
            )
        if self._ancestor is not None:
            for path, leaf in agreed:
                self._ancestor.set(path, leaf)

    def forget(self) -> None:
        """Start from nothing: no ancestor, no intents. Both sides will be compared anew."""
        self._ancestor = None
        with self._transaction():
            self._db.execute("DELETE FROM ancestor")
            self._db.execute("DELETE FROM intent")

    def digests(self) -> dict[RelPath, Known]:
        """What is known of local files without reading them. The executable bit is not among it."""
        leaves = self.ancestor().leaves
        paths = {path: path for path in leaves}
        known: dict[RelPath, Known] = {}
        for name, size, mtime, inode, ctime, digest in self._read(
            "SELECT path, size, mtime, inode, ctime, digest FROM digest"
        ):
            path = os.fsdecode(name)
            path = paths.get(path, path)
            leaf = leaves.get(path)
            if not isinstance(leaf, File) or (leaf.digest, leaf.size) != (digest, size):
                leaf = File(digest, size)
            known[path] = (path, leaf, mtime, inode, mtime if ctime == mtime else ctime)
        return known

    def remember_digests(self, changed: Mapping[RelPath, Known], gone: Collection[RelPath] = ()) -> None:
        """Keep what is known of these files, and forget the paths in `gone`."""
        with self._transaction():
            self._db.executemany("DELETE FROM digest WHERE path = ?", ((os.fsencode(path),) for path in gone))
            self._db.executemany(
                "INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (os.fsencode(path), file.size, *stamps, file.digest)
                    for path, file, *stamps in changed.values()
                ),
            )

    def fact(self, name: str) -> str | None:
        """A remembered value, or None."""
        rows = list(self._read("SELECT value FROM fact WHERE name = ?", name))
        return str(rows[0][0]) if rows else None

    def set_fact(self, name: str, value: str) -> None:
        """Remember a value."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:  # a full disk has rolled it back already
                    self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._ancestor = None  # nobody can tell which of the two is right: the disk is asked again
            raise DevsyncError(
                f"cannot write the project's memory: {self._path}: {error}", hint="is the disk full?"
            ) from error

    def _read(self, query: str, *values: str) -> Iterator[Any]:
        """The rows, one by one: there may be very many."""
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _leaf(self, text: str) -> Leaf | None:
        try:
            return from_json(json.loads(text))
        except (TypeError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> DevsyncError:
        return DevsyncError(
            f"the project's memory cannot be read: {self._path}: {error}",
            hint=f"move {self._path} away and start again with --rejoin: both sides are compared anew, "
            "nothing is deleted",
        )


def _text(leaf: Leaf | None) -> str:
    return json.dumps(to_json(leaf))
