"""Before a deallocation people are told, what is new is brought here, and what ends is written down."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import datetime

from devsync.core.idle import Signal, within
from devsync.daemon.inbox import Inbox
from devsync.ports import Clock, DevsyncError, Notifier

log = logging.getLogger(__name__)

FLUSH = 120.0
"""Seconds that the last flush before a deallocation may take; what is not here stays on the disk there."""

ENDING = ("jobs", "jupyter-kernels", "containers", "gpu")
"""The signals whose work, or whose memory, ends with the machine."""

NOTHING = ("none", "no server", "no kernel", "0 running", "unknown", "0 %")

SHOWN = 10
"""Names in a line."""


def time_of_day(moment: datetime) -> float:
    """Seconds since midnight, by the clocks of whoever sits here."""
    local = moment.astimezone()
    return local.hour * 3600.0 + local.minute * 60.0 + local.second


@dataclass(frozen=True)
class Last:
    """What a deallocation ended, and what was not brought here before it."""

    reason: str
    ends: tuple[str, ...] = ()
    left: Mapping[str, str] | None = None
    """Path and why; None: everything is here."""

    def to_json(self, now: datetime) -> Mapping[str, object]:
        """As `devsync idle --json` shows it of a machine that was let go `now`."""
        return {
            "at": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "reason": self.reason,
            "ended": list(self.ends),
            "left": dict(self.left or {}),
        }

    def line(self) -> str:
        """For people; empty if there is nothing to tell."""
        parts = []
        if self.ends:
            parts.append("ends with it: " + "; ".join(self.ends))
        if self.left:
            names = [ascii(path)[1:-1] for path in sorted(self.left)]
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            parts.append("only on its disk: " + ", ".join(names[:SHOWN]) + more)
        return "; ".join(parts)


class Farewell:
    """`whisper` writes a line into the user's terminals on the machine, without waiting for it."""

    def __init__(
        self,
        *,
        inbox: Inbox,
        clock: Clock,
        notifier: Notifier,
        whisper: Callable[[str], None] = lambda _text: None,
        quiet: tuple[float, float] | None = None,
    ) -> None:
        """`quiet`: the hours, as seconds since midnight, in which nobody is to be disturbed."""
        self._inbox, self._clock, self._notifier = inbox, clock, notifier
        self._whisper, self._quiet = whisper, quiet

    def tell(self, title: str, text: str, *, there: bool = False, urgent: bool = False) -> None:
        """Notify, and write it in the terminals `there`; in quiet hours only what is urgent, else the log."""
        if within(self._quiet, time_of_day(self._clock.now())) and not urgent:
            log.warning("%s: %s", title, text)
            return
        self._notifier.notify(title, text)
        if there:
            self._whisper(f"{title}: {text}")

    def flush(self, stop: threading.Event, ring: threading.Event) -> Mapping[str, str] | None:
        """Bring everything here that is new; what could not be brought, and why."""
        reply = self._inbox.request()
        reply.add_done_callback(lambda _: ring.set())
        due = self._clock.monotonic() + FLUSH
        while not reply.done() and not stop.is_set() and self._clock.monotonic() < due:
            ring.wait(1.0)
            ring.clear()
        try:
            answer = reply.result(0)
        except (DevsyncError, FutureTimeout) as error:
            log.warning("not everything was brought here before the deallocation (it stays there): %s", error)
            return {".": str(error) or f"not within {FLUSH:.0f} s"}
        left = {**dict.fromkeys(answer.conflicts, "a conflict is open"), **answer.unsettled}
        for path, why in left.items():
            log.warning("stays as it is on the machine's disk: %s (%s)", ascii(path), why)
        return left or None


def ending(signals: Iterable[Signal], names: Iterable[str]) -> tuple[str, ...]:
    """What ends with the machine: the jobs called `names`, kernels, containers, what holds a device."""
    found = [f"job {name}" for name in names]
    for signal in signals:
        if signal.name == "jobs" and found:
            continue
        if signal.name in ENDING and signal.value not in NOTHING:
            found.append(f"{signal.name}: {signal.value}")
    return tuple(found)
