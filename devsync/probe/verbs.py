"""What the helper can be asked about the machine's work. Travels (Python 3.8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devsync.probe.ring import Record, Ring
from devsync.probe.sampler import boot, ensure, folder
from devsync.probe.view import View
from devsync.probe.watchdog import Watchdog
from devsync.probe.watchdog_verbs import attend

_VIEW = View()


def observe(_helper: Any, request: Mapping[str, Any]) -> Any:
    """What was observed since `after`, an earlier answer's `next`, or within the last `within` seconds.

    See that the sampler runs, of this `version`; with `hurry` it looks soon. Each sample comes with its age
    in seconds, so that the clocks of two computers need not agree.
    """
    watchdog = Watchdog(_VIEW, folder(_VIEW), lambda: boot(_VIEW))
    ensure(_VIEW, str(request["version"]), hurry=bool(request.get("hurry")), after=watchdog.turn)
    now, here = _VIEW.monotonic(), boot(_VIEW)
    start, at = request["after"] or (here, now - float(request["within"]))
    newer = Ring(folder(_VIEW)).newer(here, float(at) if start == here else -1.0)
    rows = [[round(now - one.at, 2), [seen.to_json() for seen in one.observations]] for one in newer]
    return {"samples": rows, "next": [here, newer[-1].at if newer else at if start == here else -1.0]}


def recorded(_helper: Any, request: Mapping[str, Any]) -> Any:
    """What is written down of the last `within` seconds, of earlier starts of the machine as well."""
    wall = _VIEW.wall()

    def recent(record: Record) -> bool:
        return wall - record.wall <= float(request["within"])

    kept = [record for record in Ring(folder(_VIEW)).read() if recent(record)]
    return [[round(wall - one.wall, 2), [seen.to_json() for seen in one.observations]] for one in kept]


VERBS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "observe": observe,
    "recorded": recorded,
    "attend": lambda _helper, request: attend(_VIEW, request),
}
