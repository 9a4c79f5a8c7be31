"""A week of somebody's life, minute by minute, against the real keeper on a hand-wound clock.

No false stop: the machine is never let go while there is work, nor within 45 minutes after it. And no more
than 60 minutes of idleness are paid on any day; a break after which the work goes on is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from devsync.core.observation import PROBED, Observation, Sample
from tests.daemon.test_idle import AFTER, WARN, Rig

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True)
class Work:
    """From when to when, in hours of the week, what is seen of it: a level for a signal, or an edit."""

    begin: float
    end: float
    signal: str
    level: float = 0.0
    every: float = MINUTE
    """Seconds between two signs of it: whoever reads does not type."""


def _at(day: int, hour: float) -> float:
    return 24 * day + hour


LIFE = (
    # Monday: edits with a break for lunch of 40 minutes, runs, then home.
    Work(_at(0, 9), _at(0, 12), "local-edits", every=600.0),
    Work(_at(0, 12.65), _at(0, 18), "local-edits", every=900.0),
    Work(_at(0, 15), _at(0, 16), "cpu", 100.0),
    # Tuesday: a training from the afternoon through the night, in tmux: nobody there, one core of many.
    Work(_at(1, 9), _at(1, 17), "local-edits", every=1200.0),
    Work(_at(1, 16.5), _at(2, 8.4), "cpu", 97.0),
    # Wednesday: a notebook whose kernel computes in silence; the tab stays open over night.
    Work(_at(2, 8.5), _at(2, 11), "sessions", 1.0, every=300.0),
    Work(_at(2, 10), _at(2, 15.9), "jupyter-kernels", 1.0),
    # Thursday: a data set is downloaded while somebody is at meetings, then the device computes.
    Work(_at(3, 10), _at(3, 12), "network", 2e7),
    Work(_at(3, 12), _at(3, 19), "gpu", 60.0),
    # Friday: reading, a little typing each half hour, one container, until late.
    Work(_at(4, 9), _at(4, 13), "sessions", 1.0, every=1800.0),
    Work(_at(4, 13), _at(4, 21), "containers", 40.0),
    # Saturday nothing; Sunday a quarter of an hour.
    Work(_at(6, 20), _at(6, 20.25), "local-edits"),
)


@dataclass
class _Ledger:
    last: float = 0.0
    paid: dict[int, float] = field(default_factory=dict)
    stops: list[float] = field(default_factory=list)

    def stop(self, now: float) -> None:
        """What was paid since the last work belongs to the days on which it was."""
        self.stops.append(now)
        for minute in range(int(self.last / MINUTE), int(now / MINUTE)):
            day = int(minute * MINUTE / DAY)
            self.paid[day] = self.paid.get(day, 0.0) + 1.0


def test_a_week_has_no_false_stop_and_pays_for_little() -> None:
    rig, ledger = Rig(modes={}), _Ledger()
    on = False
    for minute in range(int(7 * DAY / MINUTE)):
        now = minute * MINUTE
        working = [one for one in LIFE if one.begin * HOUR <= now < one.end * HOUR]
        signs = [one for one in working if (now - one.begin * HOUR) % one.every < MINUTE]
        if signs:
            ledger.last = now
            if not on:
                on = True
                rig.link.wake()
                rig.connected()
        if on:
            _look(rig, signs)
            on = rig.link.wanted
            if not on:
                assert not working, f"a false stop in hour {now / HOUR:.1f}"
                assert now - ledger.last >= AFTER + WARN
                ledger.stop(now)
        rig.clock.advance(MINUTE)
    assert [int(stop / DAY) for stop in ledger.stops] == [0, 2, 3, 4, 6], "none in the night of the training"
    assert max(ledger.paid.values()) <= 60.0, ledger.paid


def _look(rig: Rig, signs: list[Work]) -> None:
    levels = {one.signal: one.level for one in signs if one.signal in PROBED}
    if any(one.signal == "local-edits" for one in signs):
        rig.activities.seen("local-edits")
    rows = [Observation(name, levels.get(name, 0.0), str(levels.get(name, "none"))) for name in PROBED]
    rig.observed.take([Sample(rig.clock.monotonic(), tuple(rows))])
    rig.look()
