"""What was busy when, and when another rule would have let the machine go: both records, told as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from devsync.core.idle import Policy
from devsync.core.observation import PROBED, Sample, Thresholds
from devsync.core.past import OWN, Stop, replay, seen, spans
from devsync.daemon.diary import Diary
from devsync.ports import Clock, DevsyncError, Misuse

LIMITS = ("cpu", "gpu", "network")
MODES = ("on", "off", "advisory")


class IdleHistory:
    """Asks the machine for its record, and reads the daemon's own. Any thread may ask."""

    def __init__(
        self,
        *,
        diary: Diary,
        recorded: Callable[[float], list[Sample]],
        thresholds: Thresholds,
        policy: Policy,
        modes: Mapping[str, str],
        clock: Clock,
    ) -> None:
        """`recorded` asks the machine for the last so many seconds; it may raise DevsyncError."""
        self._diary, self._recorded, self._clock = diary, recorded, clock
        self._thresholds, self._policy, self._modes = thresholds, policy, modes

    def tell(self, within: float, wishes: Mapping[str, Any] | None) -> dict[str, object]:
        """The last `within` seconds; with `wishes`, by key, also when other settings had stopped the machine.

        `away` says why the machine's part is missing. Raises Misuse for a wish that makes no sense.
        """
        thresholds, policy, modes = self._wished(wishes or {})
        away = None
        theirs: list[Sample] = []
        try:
            theirs = self._recorded(within)
        except DevsyncError as error:
            away = error.message
        samples = sorted([*theirs, *self._diary.read(within)], key=lambda sample: sample.at)
        stops = None if wishes is None else replay(samples, thresholds, policy, modes)
        return {
            "from": self._stamp(-within),
            "to": self._stamp(0.0),
            "away": away,
            "seen": [[self._stamp(begin), self._stamp(end)] for begin, end in seen(samples)],
            "spans": self._spans(samples, thresholds),
            "stops": None if stops is None else [self._stop(stop) for stop in stops],
        }

    def _wished(self, wishes: Mapping[str, Any]) -> tuple[Thresholds, Policy, dict[str, str]]:
        thresholds, policy, modes = self._thresholds, self._policy, dict(self._modes)
        for key, value in wishes.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if key in (*PROBED, *OWN) and value in MODES:
                modes[key] = value
            elif key in LIMITS and number:
                thresholds = replace(thresholds, **{key: float(value)})
            elif key in ("after", "warn") and number:
                policy = replace(policy, **{key: float(value)})
            else:
                raise Misuse(
                    f"nothing to replay: {key}", hint="devsync idle --replay after=20m,cpu=30,gpu=off"
                )
        return thresholds, policy, modes

    def _spans(self, samples: Sequence[Sample], thresholds: Thresholds) -> list[dict[str, str]]:
        return [
            {
                "signal": span.name,
                "begin": self._stamp(span.begin),
                "end": self._stamp(span.end),
                "what": span.story,
            }
            for span in spans(samples, thresholds)
        ]

    def _stop(self, stop: Stop) -> dict[str, str | None]:
        return {
            "at": self._stamp(stop.at),
            "quiet_since": self._stamp(stop.quiet_since),
            "reason": stop.reason,
            "until": None if stop.until is None else self._stamp(stop.until),
        }

    def _stamp(self, age: float) -> str:
        return (self._clock.now() + timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
