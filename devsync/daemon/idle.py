"""Asks for the verdict when the bell rings, and obeys it: warn, wait, look again, flush, deallocate."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from datetime import datetime, timedelta

from devsync.core.idle import Action, Policy, Signal, Verdict, act, judge
from devsync.daemon.bell import Bell
from devsync.daemon.board import Board
from devsync.daemon.inbox import Inbox
from devsync.daemon.link import Link
from devsync.daemon.observed import Observed
from devsync.ports import Clock, DevsyncError, Notifier

log = logging.getLogger(__name__)

FLUSH = 120.0
"""Seconds that the last flush before a deallocation may take; what is not here stays on the disk there."""

REACHED_WITHIN = 0.25
"""Seconds between two looks while the machine is out of reach."""

FIRST_RETRY, LONGEST_RETRY = 30.0, 900.0
"""Seconds between two tries to deallocate a machine that refuses."""

ONE_MORE = 30.0
"""Seconds that the last look at the machine may take; without it, nobody is switched off."""


class Activities:
    """When each kind of work was last seen. Any thread may report."""

    def __init__(
        self, clock: Clock, keepalive: datetime | None, save: Callable[[datetime | None], None]
    ) -> None:
        """`save` makes a keepalive outlive the daemon."""
        self._clock, self._save = clock, save
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._running = 0
        self._detached: int | None = 0
        self._keepalive = keepalive

    def seen(self, name: str) -> None:
        """There was work of this kind just now."""
        with self._lock:
            self._last[name] = self._clock.monotonic()

    def running(self, difference: int) -> None:
        """One command more or less runs on the machine."""
        with self._lock:
            self._running += difference
            self._last["jobs"] = self._clock.monotonic()

    def detached(self, running: int | None) -> None:
        """So many detached jobs run on the machine; None: nobody knows."""
        with self._lock:
            if running or self._detached:
                self._last["jobs"] = self._clock.monotonic()
            self._detached = running

    def keep_until(self, until: datetime | None) -> None:
        """Not idle until then; None takes it back."""
        with self._lock:
            self._keepalive = until
            self._save(until)

    def keepalive(self) -> datetime | None:
        """Until when the machine is kept, if that is not past."""
        with self._lock:
            kept = self._keepalive
        return kept if kept is not None and kept > self._clock.now() else None

    def signals(self) -> list[Signal]:
        """Every sign of work that devsync sees by itself."""
        kept = self.keepalive()
        with self._lock:
            last, running, detached = dict(self._last), self._running + (self._detached or 0), self._detached
        edits = [
            Signal(f"{side}-edits", False, "none now", "any change", last.get(f"{side}-edits"), event=True)
            for side in ("local", "remote")
        ]
        unknown = "" if detached is not None else "the detached jobs are not known yet"
        jobs = Signal("jobs", running > 0, f"{running} running", "0 running", last.get("jobs"), unknown)
        until = "none" if kept is None else f"until {kept:%Y-%m-%d %H:%M} UTC"
        return [*edits, jobs, Signal("keepalive", kept is not None, until, "none")]


class IdleKeeper:
    """The service that deallocates the machine when nobody and nothing works any more."""

    name = "idle"

    def __init__(
        self,
        *,
        policy: Policy,
        check: float,
        obey: bool,
        activities: Activities,
        link: Link,
        inbox: Inbox,
        board: Board,
        clock: Clock,
        notifier: Notifier,
        observed: Observed | None = None,
        modes: Mapping[str, str] | None = None,
    ) -> None:
        """`check` is the number of seconds between two verdicts; without `obey` they are only shown.

        `observed` is what the machine does; `modes` says of a signal that it is off, or advisory.
        """
        self._observed, self._modes = observed, modes or {}
        self._policy, self._check, self._obey, self._activities = policy, check, obey, activities
        self._link, self._inbox, self._board = link, inbox, board
        self._clock, self._notifier = clock, notifier
        self._ring = threading.Event()
        self._started: float | None = None
        self._warned_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Look each time the bell rings."""
        bell = Bell(self._check, self._ring.set)
        try:
            while not stop.is_set():
                self.look(stop)
                if stop.is_set():
                    break  # RACE: `look` may have taken the ring that was to end the wait below
                # Out of reach is no time to wait for the bell: a machine that comes back is looked at soon.
                self._ring.wait(None if self._started is not None else REACHED_WITHIN)
                self._ring.clear()
        finally:
            bell.close()

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        self._ring.set()

    def look(self, stop: threading.Event) -> None:
        """One verdict, and what follows from it."""
        now = self._clock.monotonic()
        facts = self._board.read()
        if facts.link.state != "connected":
            # Nothing is known of a machine out of reach: the time of quiet begins anew with the next look.
            self._started = self._warned_at = None
            self._show(None, now)
            return
        verdict = self._verdict(now)
        action = act(verdict, self._policy, self._warned_at, now) if self._obey else Action.NOTHING
        if action is Action.WARN:
            self._warned_at = now
            self._warn(verdict)
        elif action is Action.CALL_OFF:
            self._warned_at = None
            log.info("deallocation called off: %s", verdict.reason)
        elif action is Action.DEALLOCATE and not stop.is_set():
            self._deallocate(stop)
            return
        self._show(verdict, now)

    def _verdict(self, now: float) -> Verdict:
        if self._started is None:
            self._started = now
        return judge(self._signals(), self._policy, self._started, now)

    def _signals(self) -> list[Signal]:
        signals = self._activities.signals()
        if self._board.read().sync.activity == "synchronising":
            signals.append(Signal("local-edits", True, "being synchronised", "any change"))
        if self._observed is not None:
            signals += self._observed.signals()
        return [
            replace(signal, counts=self._modes.get(signal.name, "on") == "on")
            for signal in signals
            if self._modes.get(signal.name) != "off"
        ]

    def _warn(self, verdict: Verdict) -> None:
        seconds = round(self._policy.warn)
        text = f"{verdict.reason}; the machine is deallocated in {seconds} s unless you work on"
        log.warning("idle: %s", text)
        self._notifier.notify("devsync: the machine is idle", f"{text} (devsync keepalive 2h keeps it)")

    def _deallocate(self, stop: threading.Event) -> None:
        log.warning("idle: deallocating the machine")
        self._flush(stop)
        seen = self._look_once_more(stop)
        now = self._clock.monotonic()
        verdict = self._verdict(now)
        if stop.is_set() or not seen or verdict.busy or self._board.read().link.state != "connected":
            self._warned_at = None
            log.info("deallocation called off at the last moment: %s", verdict.reason)
            self._show(verdict, now)
            return
        pause = FIRST_RETRY
        while not stop.is_set():
            try:
                self._link.deallocate(stop)
            except DevsyncError as error:
                self._fail(error, pause)
                if not self._await_retry(stop, pause):
                    break
                pause = min(2 * pause, LONGEST_RETRY)
            else:
                self._notifier.notify(
                    "devsync", "the machine was idle and is deallocated; devsync start brings it back"
                )
                log.warning("idle: the machine is deallocated")
                break
        self._board.post(idle=replace(self._board.read().idle, failure=None))
        self._started = self._warned_at = None
        self._show(None, self._clock.monotonic())

    def _await_retry(self, stop: threading.Event, pause: float) -> bool:
        """Wait for the next try; False when it is not called for any more: ended, wanted again, or let go."""
        due = self._clock.monotonic() + pause
        while not stop.is_set() and not self._link.wanted:
            if self._board.read().link.billed is False:
                return False
            left = due - self._clock.monotonic()
            if left <= 0:
                return True
            self._ring.wait(left)
            self._ring.clear()
        return False

    def _flush(self, stop: threading.Event) -> None:
        reply = self._inbox.request()
        reply.add_done_callback(lambda _: self._ring.set())
        due = self._clock.monotonic() + FLUSH
        while not reply.done() and not stop.is_set() and self._clock.monotonic() < due:
            self._ring.wait(1.0)
            self._ring.clear()
        try:
            answer = reply.result(0)
        except (DevsyncError, FutureTimeout) as error:
            log.warning("not everything was brought here before the deallocation (it stays there): %s", error)
            return
        for path in (*answer.conflicts, *answer.unsettled):
            log.warning("stays as it is on the machine's disk: %s", ascii(path))

    def _look_once_more(self, stop: threading.Event) -> bool:
        """Wait until the machine was seen after this moment; whether it was."""
        began = self._clock.monotonic()
        if self._observed is not None:
            self._observed.hurry()
        while self._observed is not None and not stop.is_set():
            newest = self._observed.newest()
            if newest is not None and newest >= began:
                return True
            if newest is None or self._clock.monotonic() - began > ONE_MORE:
                return False
            self._ring.wait(0.25)
            self._ring.clear()
        return not stop.is_set()

    def _fail(self, error: DevsyncError, pause: float) -> None:
        text = f"the machine could not be deallocated and is still billed: {error.message}"
        log.error("%s (next try in %d s)", text, pause)
        self._board.post(idle=replace(self._board.read().idle, failure=error.message))
        self._notifier.notify("devsync: STILL BILLED", f"{text}. {error.hint}")

    def _show(self, verdict: Verdict | None, now: float) -> None:
        kept = self._activities.keepalive()
        facts = self._board.read().idle
        shown = {} if verdict is None else self._as_json(verdict, now)
        self._board.post(
            idle=replace(
                facts,
                verdict=shown,
                warned=self._warned_at is not None,
                keepalive_until=None if kept is None else _stamp(kept),
            )
        )

    def _as_json(self, verdict: Verdict, now: float) -> dict[str, object]:
        today = self._clock.now()

        def when(moment: float | None) -> str | None:
            return None if moment is None else _stamp(today + timedelta(seconds=moment - now))

        at = verdict.deallocate_at if self._obey else None
        if self._warned_at is not None:
            at = self._warned_at + self._policy.warn
        return {
            "verdict": "busy" if verdict.busy else "idle",
            "since": when(verdict.quiet_since),
            "deallocate_at": when(at),
            "reason": verdict.reason,
            "signals": [
                {
                    "name": signal.name,
                    "busy": signal.busy(self._policy.after, now),
                    "value": signal.value,
                    "threshold": signal.threshold,
                    "since": when(signal.last),
                    "error": signal.error or None,
                    "counts": signal.counts,
                }
                for signal in verdict.signals
            ],
        }


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
