"""This side of the watchdog: tells it that we are there and what we want, hears what it did."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from devsync.ports import Clock, DevsyncError, Notifier, Unavailable

EVERY = 30.0
"""Seconds between two words to it; without any for two minutes, it takes us for gone."""

UNSETTLED = "not known yet"

Ask = Callable[..., Any]
"""Asks the helper a verb and waits for the answer; raises DevsyncError."""


@dataclass(frozen=True)
class Standing:
    """How it is with the watchdog. `lacks` is empty if it can do its work; `did` what it did without us."""

    lacks: str = UNSETTLED
    did: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether it can deallocate the machine."""
        return not self.lacks


class Attendance:
    """Called by the probe's thread between two of its questions; any thread may read the standing."""

    def __init__(
        self,
        *,
        project: str,
        order: Mapping[str, Any] | None,
        keepalive: Callable[[], datetime | None],
        clock: Clock,
        notifier: Notifier,
        changed: Callable[[], None],
    ) -> None:
        """`order` is what the watchdog shall do, None: nothing; `keepalive`: until when it shall not."""
        self._project, self._order, self._keepalive = project, order, keepalive
        self._clock, self._notifier, self._changed = clock, notifier, changed
        self._lock = threading.Lock()
        self._standing = Standing() if order is not None else Standing("switched off")
        self._due = 0.0
        self._told = False

    @property
    def standing(self) -> Standing:
        """What was heard last."""
        with self._lock:
            return self._standing

    def attend(self, ask: Ask) -> None:
        """Show that we are there, if it is time. Raises Unavailable."""
        now = self._clock.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY
        try:
            answer = ask("attend", project=self._project, order=self._with_keepalive(), told=self._told)
            standing = self._heard(answer)
        except Unavailable:
            raise
        except DevsyncError as error:  # a full disk, a folder that may not be written
            standing = Standing(error.message)
        except (ValueError, TypeError, KeyError):
            standing = Standing("what it answers makes no sense")
        if standing.lacks == UNSETTLED:
            self._due = now + 1.0  # its first try is under way
        with self._lock:
            before, self._standing = self._standing, standing
        if standing != before:
            self._changed()

    def _with_keepalive(self) -> Mapping[str, Any] | None:
        if self._order is None:
            return None
        kept = self._keepalive()
        return {**self._order, "keep": 0 if kept is None else (kept - self._clock.now()).total_seconds()}

    def _heard(self, answer: Mapping[str, Any]) -> Standing:
        if self._order is None:
            return Standing("switched off")
        check = answer.get("check")
        lacks = UNSETTLED if check is None else "" if check["ok"] else _plain(check["why"])
        did = self.standing.did
        idle = answer.get("idle")
        if idle is not None and not self._told:
            at = self._clock.now() - timedelta(seconds=float(idle["age"]))
            refused = answer.get("deallocate")
            did = (_deed(at, _plain(idle["why"]), None if refused is None or refused["ok"] else refused),)
            self._notifier.notify("devsync: the watchdog", did[0])
        self._told = idle is not None
        return Standing(lacks, did)


def _deed(at: datetime, why: str, refused: Mapping[str, Any] | None) -> str:
    if refused is None:
        return f"the watchdog deallocated the machine at {at:%Y-%m-%d %H:%M} UTC: {why}"
    return (
        f"the watchdog could not deallocate the machine at {at:%Y-%m-%d %H:%M} UTC, and it was billed on: "
        f"{_plain(refused['why'])}"
    )


def _plain(text: object) -> str:
    """What the machine says, as it can be shown."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(text)[:200])
