"""What was run, when, from which state of the project and how it ended: kept on this computer.

A file of one JSON object a line, appended to; the last line about a run is what holds. Any thread may write.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from devsync.core.jobs import Job, job_from_json

KEPT = 1000
"""So many runs are remembered: the newest."""

LONGEST = 4 * 1024 * 1024
"""Bytes of the file; then it is written anew with what is kept."""


class Records:
    """The runs of one project. A record that cannot be written must not stop a run: it is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, job: Job) -> None:
        """Remember what is known of a run now."""
        with self._lock:
            try:
                self._append(self._path, [job])
                if self._path.stat().st_size > LONGEST:
                    self._shorten()
            except OSError:
                pass  # a full disk, say

    def read(self) -> list[Job]:
        """What is remembered, the oldest first; a line that makes no sense is left out."""
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return []
        found: dict[str, Job] = {}
        for line in text.splitlines():
            try:
                job = job_from_json(json.loads(line))
            except ValueError:
                continue  # cut off by a crash
            found[job.id] = job
        return list(found.values())[-KEPT:]

    def _append(self, path: Path, jobs: Iterable[Job]) -> None:
        text = "".join(json.dumps(job.to_json()) + "\n" for job in jobs)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)

    def _shorten(self) -> None:
        kept = self.read()
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        self._append(new, kept)
        new.replace(self._path)
