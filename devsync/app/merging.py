"""What merges the conflicts of a project, if its configuration wants that."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from devsync.config import SyncConfig
from devsync.daemon.merging import Merging
from devsync.merge.bases import Bases
from devsync.merge.programs import Programs


def open_merging(sync: SyncConfig, state: Path, environ: Mapping[str, str]) -> Merging | None:
    """Whoever gets it closes it. The project's lock must be held."""
    if not sync.merge:
        return None
    return Merging(Bases(state / "bases.db"), Programs(state / "merging", environ), time.monotonic)
