"""The processors: how much of one core people's processes use. Travels (Python 3.8).

An average over many cores is blind to one that is busy, and the busiest core alone may be the system's. What
is reported is the smaller of two: how busy the busiest core, or the busiest process, is; and how much all
processes that count use together.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping

from devsync.core.observation import Observation
from devsync.probe.processes import Process
from devsync.probe.view import View

NAME = "cpu"


def cores(text: str) -> dict[str, tuple[int, int]]:
    """Of /proc/stat: for each core the ticks that it was busy, and all of them."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if words and words[0].startswith("cpu") and words[0] != "cpu":
            ticks = [int(word) for word in words[1:9]]  # what guests use is in `user` already
            waiting = sum(ticks[3:5])
            stolen = ticks[7] if len(ticks) > 7 else 0
            found[words[0]] = (sum(ticks) - waiting - stolen, sum(ticks))
    return found


def busiest(before: Mapping[str, tuple[int, int]], now: Mapping[str, tuple[int, int]]) -> float:
    """Percent of its time that the busiest core worked."""
    shares = [0.0]
    for core, (busy, total) in now.items():
        was_busy, was_total = before.get(core, (busy, total))
        if total > was_total:
            shares.append(100.0 * max(0, busy - was_busy) / (total - was_total))
    return min(100.0, max(shares))


def used(before: Mapping[int, Process], now: Mapping[int, Process]) -> dict[int, int]:
    """The ticks that each process used between two looks, those of children that came and went included."""
    gone: dict[int, int] = defaultdict(int)
    for pid, process in before.items():
        if pid not in now or now[pid].started != process.started:
            gone[process.parent] += process.own + process.reaped
    ticks = {}
    for pid, process in now.items():
        was = before.get(pid)
        if was is None or was.started != process.started:
            ticks[pid] = process.own + process.reaped
            continue
        # A child that ends hands over all that it ever used; what it had before was counted then.
        inherited = max(0, process.reaped - was.reaped - gone[pid])
        ticks[pid] = max(0, process.own - was.own) + inherited
    return ticks


class Cpu:
    """Compares each look with the one before."""

    name = NAME

    def __init__(self) -> None:
        self._hertz = os.sysconf("SC_CLK_TCK")
        self._before: tuple[float, dict[str, tuple[int, int]], Mapping[int, Process]] | None = None

    def look(self, view: View) -> Observation | None:
        """None at the first look."""
        if not os.path.exists(view.path("proc/stat")):
            return Observation(NAME)  # not Linux: the embedded machine on another system
        now = (view.monotonic(), cores(view.read("proc", "stat")), view.processes.look())
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return None
        window = (now[0] - before[0]) * self._hertz
        floor = window / 100
        shares: dict[int, float] = {}
        for pid, ticks in used(before[2], now[2]).items():
            if ticks >= floor and view.processes.counts(now[2][pid]):
                shares[pid] = 100.0 * ticks / window
        if not shares:
            return Observation(NAME, 0.0, "0 % of a core")
        most = max(shares, key=lambda pid: shares[pid])
        level = min(100.0, sum(shares.values()), max(busiest(before[1], now[1]), shares[most]))
        called = view.processes.called(now[2][most])
        return Observation(
            NAME,
            round(level, 1),
            f"{level:.0f} % of a core ({called})",
            doing=f"{called} has used {level:.0f} % of a core",
        )
