"""When the machine was seen billed, and when not: one row for each time that nothing changed.

Any process may write: the daemon, and the commands that look at the machine themselves. Each call has a
connection of its own, so the file belongs to nobody.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from devsync.core.cost import Span
from devsync.ports import DevsyncError

PATIENCE = 5.0
"""Seconds to wait for another process that writes."""

_TABLE = "CREATE TABLE IF NOT EXISTS span (begin REAL NOT NULL, end REAL NOT NULL, billed INTEGER NOT NULL)"


class Ledger:
    """The file, in the project's state folder. Any thread may call; each call may raise DevsyncError."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self, at: float, billed: bool) -> None:
        """At this moment (seconds since 1970) the machine was seen so; what comes too late is left out."""
        with self._open() as db:
            last = db.execute("SELECT rowid, end, billed FROM span ORDER BY rowid DESC LIMIT 1").fetchone()
            if last is not None and at < last[1]:
                return  # RACE: another process has seen later; or the clock was put back
            if last is not None and bool(last[2]) == billed:
                db.execute("UPDATE span SET end = ? WHERE rowid = ?", (at, last[0]))
            else:
                db.execute("INSERT INTO span VALUES (?, ?, ?)", (at, at, int(billed)))

    def spans(self) -> list[Span]:
        """Everything, in the order of time; nothing if there is no file yet."""
        if not self._file.exists():
            return []
        with self._open() as db:
            rows = db.execute("SELECT begin, end, billed FROM span ORDER BY rowid").fetchall()
        return [Span(begin, end, bool(billed)) for begin, end, billed in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """One transaction."""
        try:
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self._file, PATIENCE, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(_TABLE)
                yield db
                db.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise DevsyncError(
                f"the ledger {self._file} cannot be used: {error}",
                hint="move it away; what the machine costs is then counted from now on",
            ) from error
