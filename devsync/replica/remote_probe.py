"""What the machine does, heard every few seconds from a helper that asks its sampler."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from devsync import ports
from devsync.core.observation import Observation, Sample
from devsync.replica import wire
from devsync.replica.channel import HelperChannel, Refusal, nonsense
from devsync.replica.luggage import NoPython, command_line, luggage, start_helper

PROBING = (
    "devsync.core.idle",
    "devsync.core.observation",
    "devsync.core.lease",
    "devsync.probe.processes",
    "devsync.probe.view",
    "devsync.probe.cpu",
    "devsync.probe.gpu",
    "devsync.probe.sessions",
    "devsync.probe.jupyter",
    "devsync.probe.containers",
    "devsync.probe.network",
    "devsync.probe.ring",
    "devsync.probe.sampler",
    "devsync.probe.watchdog_orders",
    "devsync.probe.watchdog_azure",
    "devsync.probe.watchdog",
    "devsync.probe.watchdog_verbs",
    "devsync.probe.verbs",
)
"""What travels besides, to this helper alone; the last one has the verbs."""

VERBS = ((PROBING[-1], PROBING[:-1]),)

EVERY = 10.0
"""Seconds between two questions at most: so often the machine looks at itself."""

SOON = 0.5
"""Seconds between two questions while the machine has seen nothing yet."""

BEFORE = 86400.0
"""Seconds before the first question that are of interest: how long has this been going on?"""


class Listener(Protocol):
    """Who wants to know. Called by the probe's thread."""

    def take(self, samples: Sequence[Sample]) -> None:
        """What was seen, the oldest first, in `time.monotonic`'s seconds of this computer."""

    def hurried(self) -> bool:
        """Whether a fresh sample is waited for."""

    def lose(self, why: str) -> None:
        """From now on nothing is known."""


class RemoteProbe:
    """Implements ports.Service. Owns its helper while it runs."""

    name = "probe"

    def __init__(
        self,
        open_helper: Callable[[str], ports.Process],
        listener: Listener,
        every: float = EVERY,
        attend: Callable[[Callable[..., Any]], None] = lambda _ask: None,
    ) -> None:
        """`attend` is called between two questions, and may ask the helper something itself."""
        self._attend = attend
        self._open_helper, self._listener, self._every = open_helper, listener, min(every, EVERY)
        self._lock = threading.Lock()
        self._channel: HelperChannel | None = None

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop. Raises Unavailable when the link, or the helper, is lost."""
        try:
            channel = start_helper(self._open_helper(command_line()), VERBS)
        except NoPython as error:
            self._listener.lose(error.message)
            stop.wait()
            return
        try:
            with self._lock:
                self._channel = channel
            self._ask(channel, stop)
        except (ports.Unavailable, ports.NeedsUser):
            if not stop.is_set():
                raise
        except ports.DevsyncError as error:  # it talks nonsense: the next one may not, and the rest goes on
            raise ports.Unavailable(error.message, hint=error.hint) from error
        finally:
            self._listener.lose("the machine is out of reach")
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
        version = f"{zlib.crc32(luggage(VERBS)):08x}"
        after: Any = None
        while not stop.is_set():
            hurried = self._listener.hurried()
            try:
                answer = channel.call("observe", version=version, after=after, within=BEFORE, hurry=hurried)
                samples = samples_from_json(answer["samples"], time.monotonic())
                after = answer["next"]
            except (ValueError, TypeError, KeyError) as error:
                raise nonsense(str(error)) from error
            except Refusal as error:  # a full disk, a folder that may not be written
                self._listener.lose(error.message)
                samples = ()
            if samples:
                self._listener.take(samples)
            self._attend(channel.call)
            stop.wait(self._every if samples and not hurried else min(SOON, self._every))


def samples_from_json(value: Any, now: float) -> Sequence[Sample]:
    """What the machine saw, by this computer's clock. ValueError for what no honest helper says."""
    if not isinstance(value, list):
        raise ValueError("no samples")
    found = []
    for row in value:
        age, seen = row
        if isinstance(age, bool) or not isinstance(age, (int, float)) or not isinstance(seen, list):
            raise ValueError("no sample")
        found.append(Sample(now - max(0.0, float(age)), tuple(_honest(one) for one in seen)))
    return tuple(sorted(found, key=lambda sample: sample.at))


def _honest(row: Any) -> Observation:
    """An observation whose words move no cursor."""
    if isinstance(row, list):
        row = [wire.text(cell) if isinstance(cell, str) else cell for cell in row]
    return Observation.from_json(row)
