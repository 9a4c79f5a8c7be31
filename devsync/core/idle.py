"""Busy or idle, and what follows from it. Pure; times are seconds of one monotonic clock. Travels (3.8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum


@dataclass(frozen=True)
class Signal:
    """One sign of work. `last` is when it was last active; a signal with an error counts as active.

    `since` is when the present activity began, `doing` the begin of a sentence about it that ends with how
    long. An `event` has no length: it counts for as long as it is recent. What does not `count` is shown
    only.
    """

    name: str
    active: bool
    value: str
    threshold: str
    last: float | None = None
    error: str = ""
    since: float | None = None
    doing: str = ""
    event: bool = False
    counts: bool = True

    def quiet_since(self, started: float, now: float) -> float:
        """Since when nothing was seen; `now` while it is active or cannot be read."""
        if self.active or self.error:
            return now
        return started if self.last is None else max(started, self.last)

    def busy(self, after: float | None, now: float) -> bool:
        """Whether this is a sign of work now; of an event, whether it was less than `after` seconds ago."""
        recent = self.event and self.last is not None and (after is None or now - self.last < after)
        return self.active or bool(self.error) or recent

    def story(self, now: float) -> str:
        """What goes on, in one line."""
        if self.error:
            return f"{self.name} cannot be read: {self.error}"
        if self.doing and self.since is not None:
            return f"{self.doing} for {lasting(now - self.since)}"
        return f"{self.name}: {self.value}"


@dataclass(frozen=True)
class Policy:
    """When a machine is idle: quiet for `after` seconds (None: never); then `warn` seconds of warning."""

    after: float | None
    warn: float


@dataclass(frozen=True)
class Verdict:
    """`quiet_since` is when the last sign of work was seen, `reason` one line for people."""

    busy: bool
    quiet_since: float
    deallocate_at: float | None
    reason: str
    signals: tuple[Signal, ...]


def judge(signals: Sequence[Signal], policy: Policy, started: float, now: float) -> Verdict:
    """Idle only if all signals that count were quiet for `policy.after`, counted from `started` or later."""
    counted = [signal for signal in signals if signal.counts]
    quiet_since = max([started, *(signal.quiet_since(started, now) for signal in counted)])
    if policy.after is None:
        return Verdict(True, quiet_since, None, "idle.after is 'never'", tuple(signals))
    awake = [signal for signal in counted if signal.active or signal.error]
    if awake:
        # What is known to work explains more than what is not known.
        reason = min(awake, key=lambda signal: (not signal.active, bool(signal.error))).story(now)
        return Verdict(True, quiet_since, None, reason, tuple(signals))
    reason = "nothing was seen yet"
    if quiet_since > started:
        last = max(counted, key=lambda signal: signal.quiet_since(started, now)).name
        reason = f"the last sign of work was {last}, {lasting(now - quiet_since)} ago"
    busy = now - quiet_since < policy.after
    return Verdict(busy, quiet_since, quiet_since + policy.after + policy.warn, reason, tuple(signals))


DAY = 86400.0
KEEPING = ("keepalive",)
RUNNING = (*KEEPING, "jobs", "jupyter-kernels", "containers")
"""What keeps a machine at the end of the day: what the user said, and what runs with nobody there."""


def closing(signals: Sequence[Signal], policy: Policy, *, waits: bool, reason: str, now: float) -> Verdict:
    """The verdict at the end of the day: nobody's presence counts; `waits` for what runs by itself.

    What it says of the length of the warning holds of `at_once(policy)`.
    """
    kept = RUNNING if waits else KEEPING
    shown = [replace(signal, counts=signal.counts and signal.name in kept) for signal in signals]
    verdict = judge(shown, at_once(policy), now, now)
    return replace(verdict, reason=verdict.reason if verdict.busy else reason, signals=tuple(signals))


def at_once(policy: Policy) -> Policy:
    """The same warning, without a time of quiet before it."""
    return Policy(0.0, policy.warn)


def passed(moment: float, clock: float, elapsed: float) -> bool:
    """Whether it was `moment` within the last `elapsed` seconds; both it and `clock` are times of the day."""
    return (clock - moment) % DAY < elapsed


def within(hours: tuple[float, float] | None, clock: float) -> bool:
    """Whether a time of the day lies in these hours, which may go beyond midnight."""
    return hours is not None and (clock - hours[0]) % DAY < (hours[1] - hours[0]) % DAY


def lasting(seconds: float) -> str:
    """A length of time for people: `40 s`, `12 min`, `3 h 12 min`, `2 d 4 h`."""
    minutes = int(max(seconds, 0.0)) // 60
    if minutes < 1:
        return f"{int(max(seconds, 0.0))} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


class Action(Enum):
    """What the keeper is to do after a verdict."""

    NOTHING = "nothing"
    WARN = "warn"
    CALL_OFF = "call-off"
    DEALLOCATE = "deallocate"


def act(verdict: Verdict, policy: Policy, warned_at: float | None, now: float) -> Action:
    """Warn first; deallocate `policy.warn` after the warning if it is still idle; call off if it is not."""
    if verdict.busy:
        return Action.NOTHING if warned_at is None else Action.CALL_OFF
    if warned_at is None:
        return Action.WARN
    return Action.DEALLOCATE if now - warned_at >= policy.warn else Action.NOTHING
