"""What a machine does, as its probes saw it, and what that says of work. Pure, and it travels (Python 3.8).

A probe makes an `Observation`: what is there, not yet whether it is work, so that the same record can be
judged again by other thresholds. `follow` folds samples of observations, the oldest first, into one `Track`
for each signal, and `signals` reads the tracks at one moment. Times are seconds of the reader's own clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from devsync.core.idle import Signal

SILENT = 60.0
"""Seconds after which a machine that said nothing new is unknown."""

OLD = 300.0
"""Seconds after which a signal that was not looked at again is unknown; the dearest probe comes sooner."""

PROBED = ("sessions", "jupyter-kernels", "cpu", "gpu", "containers", "network")
"""The signals that come from the machine itself."""


@dataclass(frozen=True)
class Observation:
    """What one probe saw. `level` is what is compared with the threshold; None: there is nothing to see.

    `age`: seconds since the last activity, where the probe knows of one between two looks. `since`: seconds
    that the present activity has lasted at least. `doing` begins a sentence that ends with how long;
    `note` is what is reported and is no work. An `error` says why nothing is known.
    """

    name: str
    level: float | None = None
    value: str = "none"
    age: float | None = None
    since: float | None = None
    doing: str = ""
    note: str = ""
    error: str = ""

    def to_json(self) -> list[Any]:
        """As a row."""
        return [
            self.name,
            self.level,
            self.value,
            self.age,
            self.since,
            self.doing,
            self.note,
            self.error,
        ]

    @staticmethod
    def from_json(row: Any) -> Observation:
        """ValueError for anything else than a row."""
        if not isinstance(row, list) or len(row) != 8:
            raise ValueError("no observation")
        name, level, value, age, since, doing, note, error = row
        if not all(isinstance(text, str) for text in (name, value, doing, note, error)):
            raise ValueError("an observation without words")
        return Observation(name, _number(level), value, _number(age), _number(since), doing, note, error)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
        raise ValueError("no number")
    return float(value)


@dataclass(frozen=True)
class Sample:
    """What the probes that were due saw at one moment."""

    at: float
    observations: tuple[Observation, ...]


@dataclass(frozen=True)
class Thresholds:
    """Percent of one core, percent of a device, bytes a second; seconds for `gpu_stale`."""

    cpu: float = 20.0
    gpu: float = 5.0
    network: float = float(1 << 20)
    gpu_stale: float = 1800.0

    def over(self, observation: Observation) -> bool:
        """Whether this is work."""
        return observation.level is not None and observation.level > self._limit(observation.name)

    def shown(self, name: str) -> str:
        """The threshold in words."""
        if name == "sessions":
            return "input or output"
        if name == "jupyter-kernels":
            return "0 busy"
        if name == "network":
            return f"{self.network / (1 << 20):g} MiB/s"
        return f"{self._limit(name):g} %"

    def _limit(self, name: str) -> float:
        limits = {"cpu": self.cpu, "containers": self.cpu, "gpu": self.gpu, "network": self.network}
        return limits.get(name, 0.0)


@dataclass(frozen=True)
class Track:
    """The last observation, when it was made, when there was work last, and since when without a pause."""

    latest: Observation
    at: float
    last: float | None = None
    since: float | None = None


def follow(
    tracks: Mapping[str, Track], samples: Iterable[Sample], thresholds: Thresholds
) -> dict[str, Track]:
    """The tracks after `samples`, which come in the order of time."""
    after = dict(tracks)
    for sample in samples:
        for seen in sample.observations:
            after[seen.name] = _step(after.get(seen.name), seen, sample.at, thresholds)
    return after


def _step(before: Track | None, seen: Observation, at: float, thresholds: Thresholds) -> Track:
    last = None if before is None else before.last
    moments = [moment for moment in (last, None if seen.age is None else at - seen.age) if moment is not None]
    if not thresholds.over(seen) and not seen.error:
        return Track(seen, at, max(moments) if moments else None, None)
    went_on = before is not None and before.since is not None and at - before.at <= OLD
    since = before.since if went_on and before is not None else at
    if seen.since is not None:
        since = min(at if since is None else since, at - seen.since)
    return Track(seen, at, at, since)


def signals(
    tracks: Mapping[str, Track], thresholds: Thresholds, now: float, *, unknown: str = ""
) -> list[Signal]:
    """Every signal of the machine's own; `unknown` says why nothing is known at all, if that is so."""
    newest = max([track.at for track in tracks.values()], default=None)
    if not unknown and newest is None:
        unknown = "nothing was heard of the machine yet"
    elif not unknown and newest is not None and now - newest > SILENT:
        unknown = f"nothing was heard of the machine for {now - newest:.0f} s"
    return [_signal(name, tracks.get(name), thresholds, now, unknown) for name in PROBED]


def _signal(name: str, track: Track | None, thresholds: Thresholds, now: float, unknown: str) -> Signal:
    threshold = thresholds.shown(name)
    last = None if track is None else track.last
    if not unknown and (track is None or now - track.at > OLD):
        unknown = "it was not looked at"
    if unknown or track is None:
        return Signal(name, False, "unknown", threshold, last, error=unknown, event=name == "sessions")
    seen, active = track.latest, thresholds.over(track.latest)
    quiet = now - track.last if track.last is not None else None
    value = "unknown" if seen.error else seen.value
    if seen.note and not active and (quiet is None or quiet >= thresholds.gpu_stale):
        value = f"{value}; {seen.note}"
    return Signal(
        name,
        active,
        value,
        threshold,
        last,
        error=seen.error,
        since=track.since if active else None,
        doing=seen.doing,
        event=name == "sessions",
    )


__all__: Sequence[str] = (
    "PROBED",
    "Observation",
    "Sample",
    "Thresholds",
    "Track",
    "follow",
    "signals",
)
