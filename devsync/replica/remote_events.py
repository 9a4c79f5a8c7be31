"""What the cloud announces on the machine, heard from a helper that does nothing but ask for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from devsync import ports
from devsync.core.scheduled import Scheduled
from devsync.replica import wire
from devsync.replica.channel import HelperChannel, nonsense
from devsync.replica.luggage import NoPython, command_line, start_helper

LISTENING = (
    "devsync.core.idle",
    "devsync.core.observation",
    "devsync.core.lease",
    "devsync.probe.processes",
    "devsync.probe.view",
    "devsync.probe.watchdog_orders",
    "devsync.probe.watchdog_azure",
    "devsync.probe.scheduled_events",
)
"""What travels besides, to this helper alone; the last one has the verb."""

VERBS = ((LISTENING[-1], LISTENING[:-1]),)

WITHIN = 20.0
"""Seconds that one question may wait for news."""

RARELY = 60.0
"""Seconds until the next question where nobody knows of any events."""

log = logging.getLogger("devsync")


class RemoteEvents:
    """Implements ports.Service. Owns its helper while it runs."""

    name = "events"

    def __init__(
        self,
        open_helper: Callable[[str], ports.Process],
        take: Callable[[Sequence[Scheduled]], None],
        rarely: float = RARELY,
    ) -> None:
        """`take` hears of everything that is announced, each time that changes, in the service's thread."""
        self._open_helper, self._take, self._rarely = open_helper, take, rarely
        self._lock = threading.Lock()
        self._channel: HelperChannel | None = None

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop. Raises Unavailable when the link, or the helper, is lost."""
        try:
            channel = start_helper(self._open_helper(command_line()), VERBS)
        except NoPython:
            stop.wait()
            return
        try:
            with self._lock:
                self._channel = channel
            self._ask(channel, stop)
        except ports.Unavailable:
            if not stop.is_set():
                raise
        except ports.DevsyncError as error:  # it talks nonsense: the next one may not, and the rest goes on
            raise ports.Unavailable(error.message, hint=error.hint) from error
        finally:
            with self._lock:
                self._channel = None
            channel.close()

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        with self._lock:
            channel = self._channel
        if channel is not None:
            channel.interrupt()

    def _ask(self, channel: HelperChannel, stop: threading.Event) -> None:
        heard: list[Scheduled] | None = None  # the first answer is news: an earlier event may be over
        silent = False
        while not stop.is_set():
            answer = channel.call("events", known=[one.identity for one in heard or ()], within=WITHIN)
            try:
                if answer["events"] is None:
                    if not silent:
                        log.info("nothing is announced by the machine: %s", wire.text(answer["why"]))
                    silent = True
                    stop.wait(self._rarely)
                    continue
                found = [Scheduled.from_json(one) for one in answer["events"]]
            except (ValueError, TypeError, KeyError) as error:
                raise nonsense(str(error)) from error
            silent = False
            if found != heard:
                heard = found
                self._take(found)
