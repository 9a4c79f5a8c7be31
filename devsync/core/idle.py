"""Busy or idle, and what follows from it. Pure; times are seconds of one monotonic clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Signal:
    """One sign of work. `last` is when it was last active; a signal with an error counts as active."""

    name: str
    active: bool
    value: str
    threshold: str
    last: float | None = None
    error: str = ""

    def quiet_since(self, started: float, now: float) -> float:
        """Since when nothing was seen; `now` while it is active or cannot be read."""
        if self.active or self.error:
            return now
        return started if self.last is None else max(started, self.last)


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
    """Idle only if every signal has been quiet for `policy.after`, counted from `started` at the earliest."""
    quiet_since = max([started, *(signal.quiet_since(started, now) for signal in signals)])
    if policy.after is None:
        return Verdict(True, quiet_since, None, "idle.after is 'never'", tuple(signals))
    awake = [signal for signal in signals if signal.active or signal.error]
    busy = now - quiet_since < policy.after
    if awake:
        reason = f"{awake[0].name}: {awake[0].error or awake[0].value}"
        return Verdict(True, quiet_since, None, reason, tuple(signals))
    reason = "nothing was seen yet"
    if quiet_since > started:
        reason = f"quiet since {max(signals, key=lambda signal: signal.quiet_since(started, now)).name}"
    return Verdict(busy, quiet_since, quiet_since + policy.after + policy.warn, reason, tuple(signals))


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
