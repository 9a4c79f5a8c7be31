"""What is done about what the cloud announces: it is told, and what changed there is brought here first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

from devsync.core.scheduled import Scheduled
from devsync.daemon.board import Board
from devsync.daemon.inbox import Inbox
from devsync.ports import Notifier

DEEDS = {
    "Preempt": "takes the spot VM back",
    "Terminate": "deletes the VM",
    "Reboot": "restarts the VM",
    "Redeploy": "moves the VM to another host, which empties its temporary disk,",
}

log = logging.getLogger("devsync")


class Announcements:
    """Hears every event that is announced for `vm`, and acts once on each. One thread calls."""

    def __init__(self, vm: str, inbox: Inbox, board: Board, notifier: Notifier) -> None:
        self._vm, self._inbox, self._board, self._notifier = vm, inbox, board, notifier
        self._told: set[str] = set()

    def take(self, events: Sequence[Scheduled]) -> None:
        """These are announced now, and no others."""
        ending = [one for one in events if one.ends(self._vm)]
        texts = [f"{_sentence(one)}; what changed there is being brought here" for one in ending]
        new = [(one, text) for one, text in zip(ending, texts, strict=True) if one.identity not in self._told]
        if new:
            self._inbox.request()  # first: the notice may be as short as thirty seconds
        self._board.notice("events", "; ".join(texts))
        for one, text in new:
            self._told.add(one.identity)
            log.warning("scheduled event %r: %s", one.identity, text)
            self._notifier.notify("devsync", text)


def _sentence(event: Scheduled) -> str:
    """What is going to be done, and when, in UTC."""
    try:
        at = f"at {parsedate_to_datetime(event.not_before).astimezone(UTC):%H:%M:%S} UTC"
    except (ValueError, TypeError, OverflowError):
        at = "now"
    return f"Azure {DEEDS[event.kind]} {at}"
