"""How much is kept of the versions that were replaced or deleted, on either side."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from devsync.core.version import Trash
from devsync.ports import DevsyncError, NeedsUser, Replica, Unavailable

log = logging.getLogger(__name__)

DAY = 86400.0  # seconds
FOREVER = 36500 * DAY
EVERYTHING = 1 << 62  # bytes


def tidy(sides: Mapping[str, Replica], keep: float, size: int) -> None:
    """Prune each of the sides, and say so."""
    for side, replica in sides.items():
        thrown = prune(replica, keep, size)
        if thrown:
            log.info("the old versions of %d commits on the %s side were thrown away", thrown, side)


def prune(replica: Replica, keep: float = FOREVER, size: int = EVERYTHING) -> int:
    """Throw away versions older than `keep` seconds and the oldest beyond `size` bytes; how many commits'.

    Without either, only a disk that is nearly full loses some. A disk that cannot be written is no error
    here: whoever writes next is told so.
    """
    if not isinstance(replica, Trash):
        return 0
    try:
        return replica.prune_trash(keep / DAY, size)
    except (Unavailable, NeedsUser):
        raise
    except DevsyncError as error:
        log.warning("old versions were not thrown away: %s", error.message)
        return 0
