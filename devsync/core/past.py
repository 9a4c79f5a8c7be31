"""Recorded signs of work, read again: what was busy when, and what another rule would have made of it. Pure.

Times are seconds of whatever clock the samples have. Between two samples of more than HOLE apart nothing is
known: the machine was off, or nobody looked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from devsync.core.idle import Policy, Signal, Verdict, judge, lasting
from devsync.core.observation import Observation, Sample, Thresholds, Track, follow

HOLE = 660.0
"""Seconds; what is old was thinned to one sample for five minutes."""

MOMENT = 60.0
"""Seconds that an event is drawn for, and that join two times of work."""

OWN = ("local-edits", "remote-edits", "jobs", "keepalive")
"""The signals that the daemon sees by itself."""


@dataclass(frozen=True)
class Span:
    """A signal was busy; `story` is what went on, at the end of it."""

    name: str
    begin: float
    end: float
    story: str


@dataclass(frozen=True)
class Stop:
    """The machine would have been let go at `at`, and wanted again at `until`, if it was."""

    at: float
    quiet_since: float
    reason: str
    until: float | None = None


def seen(samples: Sequence[Sample]) -> list[tuple[float, float]]:
    """When somebody looked: times without a hole, for samples in the order of time."""
    found: list[tuple[float, float]] = []
    for sample in samples:
        if found and sample.at - found[-1][1] <= HOLE:
            found[-1] = (found[-1][0], sample.at)
        else:
            found.append((sample.at, sample.at))
    return found


def spans(samples: Sequence[Sample], thresholds: Thresholds) -> list[Span]:
    """Every time of work, by signal and time."""
    found: dict[str, list[Span]] = {}
    before: dict[str, float] = {}
    for sample in samples:
        for one in sample.observations:
            begin = max(before.get(one.name, sample.at - MOMENT), sample.at - HOLE)
            before[one.name] = sample.at
            span = _span(one, begin, sample.at, thresholds)
            if span is not None:
                _join(found.setdefault(one.name, []), span)
    return [span for name in sorted(found) for span in found[name]]


def _span(one: Observation, begin: float, at: float, thresholds: Thresholds) -> Span | None:
    if one.error:
        return Span(one.name, begin, at, f"cannot be read: {one.error}")
    if thresholds.over(one):
        return Span(one.name, begin, at, one.value)
    if one.age is not None and begin <= at - one.age:
        return Span(one.name, at - one.age, min(at, at - one.age + MOMENT), one.value)
    return None


def _join(found: list[Span], span: Span) -> None:
    if found and span.begin - found[-1].end <= MOMENT:
        span = Span(span.name, found.pop().begin, span.end, span.story)
    found.append(span)


# ---------------------------------------------------------------- what would have been


def replay(
    samples: Sequence[Sample], thresholds: Thresholds, policy: Policy, modes: Mapping[str, str]
) -> list[Stop]:
    """When the machine would have been let go, and when there was work again; `modes` as in the settings."""
    past = _Past(thresholds, policy, modes)
    for sample in samples:
        past.take(sample)
    return past.stops


class _Past:
    """Goes from sample to sample with the verdict of the one before."""

    def __init__(self, thresholds: Thresholds, policy: Policy, modes: Mapping[str, str]) -> None:
        self._thresholds, self._policy, self._modes = thresholds, policy, modes
        self._tracks: dict[str, Track] = {}
        self._at = self._started = float("-inf")
        self._verdict: Verdict | None = None
        self._off = False
        self.stops: list[Stop] = []

    def take(self, sample: Sample) -> None:
        """What follows from this sample, the next in the order of time."""
        if sample.at - self._at > HOLE:
            self._tracks, self._started, self._verdict, self._off = {}, sample.at, None, False
        self._tracks = follow(self._tracks, [sample], self._thresholds)
        self._at = sample.at
        signals = self._signals(sample.at)
        if self._off:
            self._wake(signals, sample.at)
            return
        due = None if self._verdict is None else self._verdict.deallocate_at
        if self._verdict is not None and due is not None and due <= sample.at and not self._worked(due):
            quiet = self._verdict.quiet_since
            reason = _last(signals, quiet, due) or self._verdict.reason
            self.stops.append(Stop(due, quiet, reason))
            self._off = True
            self._wake(signals, sample.at)
            return
        self._verdict = judge(signals, self._policy, self._started, sample.at)

    def _worked(self, due: float) -> bool:
        """Whether there was work that the last verdict did not know of, before it would have been obeyed."""
        last = [track.last for name, track in self._tracks.items() if self._counts(name)]
        quiet = self._verdict.quiet_since if self._verdict is not None else self._started
        return any(moment is not None and quiet < moment <= due for moment in last)

    def _wake(self, signals: Sequence[Signal], at: float) -> None:
        """A machine that is let go is wanted again as soon as there is work."""
        stop = self.stops[-1]
        counted = [one for one in signals if one.counts]
        work = [one for one in counted if one.active or one.error or _after(one.last, stop.at)]
        if work:
            self.stops[-1] = Stop(stop.at, stop.quiet_since, stop.reason, at)
            self._off, self._started = False, at
            self._verdict = judge(signals, self._policy, at, at)

    def _counts(self, name: str) -> bool:
        return self._modes.get(name, "on") == "on"

    def _signals(self, now: float) -> list[Signal]:
        return [
            Signal(
                name,
                self._thresholds.over(track.latest),
                track.latest.value,
                self._thresholds.shown(name),
                track.last,
                error=track.latest.error,
                counts=self._counts(name),
            )
            for name, track in self._tracks.items()
            if now - track.at <= HOLE
        ]


def _after(last: float | None, moment: float) -> bool:
    return last is not None and last > moment


def _last(signals: Sequence[Signal], quiet: float, due: float) -> str:
    """Which sign of work was the last."""
    names = [one.name for one in signals if one.counts and one.last == quiet]
    return f"the last sign of work was {names[0]}, {lasting(due - quiet)} before" if names else ""
