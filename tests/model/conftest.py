"""A disk on which nothing waits: what is asked here is order, not durability."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.replica import commit, digests


@pytest.fixture
def quick_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In memory, where there is such a file system. Users here save whole files: no look has to wait."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(commit, "sync_file_system", lambda _: None)
    monkeypatch.setattr(digests, "QUIET", 0)
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as made:
        yield Path(made)
