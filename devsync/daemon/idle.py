"""Asks for the verdict when the bell rings, and obeys it: warn, wait, look again, flush, deallocate.

What counts is the time between looks: one that comes after a sleep of this computer begins anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from devsync.core.idle import Action, Policy, Signal, Verdict, act, at_once, closing, judge, lasting, passed
from devsync.daemon.activities import Activities
from devsync.daemon.bell import Bell
from devsync.daemon.board import Board
from devsync.daemon.farewell import Farewell, Last, ending, time_of_day
from devsync.daemon.link import Link
from devsync.daemon.observed import Observed
from devsync.ports import Clock, DevsyncError, Unavailable

log = logging.getLogger(__name__)

REACHED_WITHIN = 0.25
"""Seconds between two looks while the machine is out of reach."""

FIRST_RETRY, LONGEST_RETRY = 30.0, 900.0
"""Seconds between two tries to deallocate a machine that refuses."""

ONE_MORE = 30.0
"""Seconds that the last look at the machine may take; without it, nobody is switched off."""

ASLEEP = 60.0
"""Seconds by which the time of day may run ahead of the clock that stops with the computer."""

SETTLES = 60.0
"""Seconds for which the end of a command is still seen: processors and devices are measured over a while."""


@dataclass(frozen=True)
class EndOfDay:
    """When the machine is let go each day, in seconds since midnight; whether it `waits` for what runs."""

    at: float
    waits: bool = True

    def __str__(self) -> str:
        return f"{self.at // 3600:02.0f}:{self.at % 3600 // 60:02.0f}"


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
        board: Board,
        clock: Clock,
        farewell: Farewell,
        observed: Observed | None = None,
        modes: Mapping[str, str] | None = None,
        end_of_day: EndOfDay | None = None,
        note: Callable[[Sequence[Signal]], None] = lambda _signals: None,
        over: Callable[[], str] = str,
    ) -> None:
        """`check` is the number of seconds between two verdicts; without `obey` they are only shown.

        `observed` is what the machine does; `modes` says of a signal that it is off, or advisory. `note` is
        told what was seen at each look. `over` says why the machine is to be let go whoever works, if it is.
        """
        self._observed, self._modes = observed, modes or {}
        self._policy, self._check, self._obey, self._activities = policy, check, obey, activities
        self._link, self._board, self._clock, self._farewell = link, board, clock, farewell
        self._end_of_day, self._note, self._over = end_of_day, note, over
        self._ring = threading.Event()
        self._lock = threading.Lock()
        self._released: list[Future[str]] = []
        self._started: float | None = None
        self._warned_at: float | None = None
        self._closing = False
        self._looked: float | None = None
        self._ahead: float | None = None

    # ------------------------------------------------------------ for other threads

    def release(self) -> Future[str]:
        """Deallocate now, unless something works: empty when that is done, else why it stays."""
        wish: Future[str] = Future()
        with self._lock:
            self._released.append(wish)
        self._ring.set()
        return wish

    # ------------------------------------------------------------ the service

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
            self._answer(Unavailable("the daemon is stopping", hint="devsync vm deallocate"))

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        self._ring.set()

    def look(self, stop: threading.Event) -> None:
        """One verdict, and what follows from it."""
        now = self._clock.monotonic()
        if self._slept(now):
            log.info("idle: this computer slept; the time of quiet begins anew")
            self._begin_anew()
        over = self._passed(now)
        if self._board.read().link.state != "connected":
            # Nothing is known of a machine out of reach: the time of quiet begins anew with the next look.
            self._begin_anew()
            self._answer("the machine is out of reach")
            self._show(None, now)
            return
        self._started = now if self._started is None else self._started
        self._closing = self._closing or over
        verdict, policy = self._verdict(now)
        self._note(verdict.signals)
        if self._wishes():
            if self._obey:
                self._let_go(stop)
                return
            self._answer("its power is not devsync's to switch")
        action = act(verdict, policy, self._warned_at, now) if self._obey else Action.NOTHING
        if action is Action.WARN:
            self._warned_at = now
            self._warn(verdict)
        elif action is Action.CALL_OFF:
            self._warned_at = None
            log.info("deallocation called off: %s", verdict.reason)
        elif action is Action.DEALLOCATE and not stop.is_set():
            self._deallocate(stop, lambda now: self._verdict(now)[0])
            return
        self._show(verdict, now)

    def _begin_anew(self) -> None:
        self._started = self._warned_at = None
        self._closing = False

    def _slept(self, now: float) -> bool:
        """Whether this computer slept since the last look: only the time of day went on."""
        ahead = self._clock.now().timestamp() - now
        before, self._ahead = self._ahead, ahead
        return before is not None and ahead - before > ASLEEP

    def _passed(self, now: float) -> bool:
        """Whether the day ended since the last look."""
        before, self._looked = self._looked, now
        if self._end_of_day is None or before is None:
            return False
        return passed(self._end_of_day.at, time_of_day(self._clock.now()), now - before)

    def _verdict(self, now: float) -> tuple[Verdict, Policy]:
        """What is to be obeyed, and the policy that it follows."""
        signals, started = self._signals(), now if self._started is None else self._started
        over = self._over()
        if over:
            verdict = closing(signals, self._policy, waits=False, reason=over, now=now)
            if not verdict.busy:
                return verdict, at_once(self._policy)
        if self._end_of_day is not None and self._closing:
            reason = f"it is {self._end_of_day}, the end of the day"
            waits = self._end_of_day.waits
            verdict = closing(signals, self._policy, waits=waits, reason=reason, now=now)
            if not verdict.busy:
                return verdict, at_once(self._policy)
        return judge(signals, self._policy, started, now), self._policy

    def _wishes(self) -> bool:
        with self._lock:
            return bool(self._released)

    def _answer(self, answer: str | DevsyncError) -> None:
        """Tell whoever wanted the machine to be let go."""
        with self._lock:
            wishes, self._released = self._released, []
        for wish in wishes:
            if isinstance(answer, str):
                wish.set_result(answer)
            else:
                wish.set_exception(answer)

    def _let_go(self, stop: threading.Event) -> None:
        """As was wished: nobody is warned, and only what works now calls it off."""
        due = self._clock.monotonic() + SETTLES
        while self._look_once_more(stop):
            now = self._clock.monotonic()
            verdict = self._now(now)
            if not verdict.busy:
                self._deallocate(stop, self._now)
                return
            if now >= due or self._board.read().link.state != "connected":
                self._answer(verdict.reason)
                return
            self._ring.wait(0.5)
            self._ring.clear()
        self._answer("the machine is out of reach")

    def _now(self, now: float) -> Verdict:
        verdict = judge(self._signals(), Policy(0.0, 0.0), now, now)
        return verdict if verdict.busy else replace(verdict, reason="it was to go when the command had ended")

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
        text = f"{verdict.reason}; it ends in {lasting(self._policy.warn)} (devsync keepalive 2h keeps it)"
        self._farewell.tell("devsync: the machine is about to be deallocated", text, there=True)

    def _deallocate(self, stop: threading.Event, judged: Callable[[float], Verdict]) -> None:
        """Bring everything here, look once more, and if `judged` is still idle then, let the machine go."""
        log.warning("idle: deallocating the machine")
        left = self._farewell.flush(stop, self._ring)
        seen = self._look_once_more(stop)
        now = self._clock.monotonic()
        verdict = judged(now)
        if stop.is_set() or not seen or verdict.busy or self._board.read().link.state != "connected":
            self._warned_at = None
            log.info("deallocation called off at the last moment: %s", verdict.reason)
            self._answer(verdict.reason)
            self._show(verdict, now)
            return
        last = Last(verdict.reason, ending(verdict.signals, self._activities.names()), left)
        log.warning("idle: %s; %s", verdict.reason, last.line() or "nothing ends with it")
        facts = self._board.read().idle
        if self._switch_off(stop):
            told = "the machine is deallocated; devsync start brings it back"
            self._farewell.tell("devsync", f"{told}; {last.line()}" if last.line() else told)
            facts = replace(facts, last=last.to_json(self._clock.now()))
        self._board.post(idle=replace(facts, failure=None))
        self._answer("" if self._board.read().link.billed is False else "it is wanted again")
        self._begin_anew()
        self._show(None, self._clock.monotonic())

    def _switch_off(self, stop: threading.Event) -> bool:
        """Try until it is deallocated, which is true, or not called for any more."""
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
                log.warning("idle: the machine is deallocated")
                return True
        return False

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
        log.info("the next try is in %d s", pause)
        self._board.post(idle=replace(self._board.read().idle, failure=error.message))
        self._answer(DevsyncError(text, hint=error.hint))
        self._farewell.tell("devsync: STILL BILLED", f"{text}. {error.hint}", urgent=True)

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
