"""Until when the cloud waits: a daily shutdown that whoever sees work pushes forward. Pure; travels (3.8).

The cloud's auto-shutdown is a dead man's switch: it fires daily at one minute of UTC, whatever runs, and
needs neither laptop nor guest. A change that is made less than half an hour before the old or the new time
may count from the next day only; so it is pushed long before, and never nearer than that. Times are seconds
since 1970; a schedule is the JSON of Azure's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from devsync.core.idle import Verdict

NAME = "shutdown-computevm-"
"""The one name that the auto-shutdown of a VM may have begins so and ends with the VM's."""

API = "2018-09-15"
TASK = "ComputeVmShutdownTask"

DEPLOYED = "devsync"
"""The tag of a schedule that was deployed with the VM; its value is the name of the VM."""

MARK = "devsync-lease"
"""The tag of a schedule that became devsync's later; its value says what it was before."""

NOTHING = "nothing"
"""What was before a schedule that devsync made."""

LATE = 1800.0
"""Seconds before a time within which Azure may take a change for one of the next day."""

SHORTEST, LONGEST = 3600.0, 23 * 3600.0
"""Seconds: between these a lease fits a switch that fires daily and cannot be moved at the last moment."""

STEP = 900.0
"""Seconds by which a lease has run down at most before it is pushed forward."""

MINUTE, DAY = 60.0, 86400.0


def clock(at: float) -> str:
    """The minute of the day, in UTC, as Azure writes it: `1930`."""
    minutes = int(at % DAY // MINUTE)
    return f"{minutes // 60:02}{minutes % 60:02}"


def fires(daily: str, now: float) -> float:
    """The next moment, after `now`, of a daily time `HHmm` in UTC. ValueError for what is no time."""
    written = len(daily) == 4 and daily.isascii() and daily.isdigit()
    if not written or int(daily[:2]) > 23 or int(daily[2:]) > 59:
        raise ValueError(f"no time of the day: {daily!r}")
    of_day = int(daily[:2]) * 3600.0 + int(daily[2:]) * MINUTE
    at = now - now % DAY + of_day
    return at if at > now else at + DAY


def wanted(standing: float | None, now: float, length: float) -> float | None:
    """The moment to which the shutdown is to be moved; None while `standing`, where it is, is good.

    It is good while it is nearly `length` seconds away: neither run down nor left from a longer lease.
    """
    if standing is not None and length - STEP < standing - now <= length + MINUTE:
        return None
    return now + length - (now + length) % MINUTE + MINUTE


def is_sign_of_life(verdict: Verdict) -> bool:
    """Whether a watchdog that sees this may push the lease forward.

    What cannot be read keeps a machine from being deallocated for idleness, but alone it does not keep it
    from the cloud's own shutdown: else a probe that is broken for good would run a bill without end.
    """
    awake = [signal for signal in verdict.signals if signal.counts and (signal.active or signal.error)]
    return verdict.busy and (not awake or any(signal.active for signal in awake))


# ---------------------------------------------------------------- the schedule


def is_ours(schedule: Mapping[str, Any]) -> bool:
    """Whether devsync may move it."""
    tags = schedule.get("tags") or {}
    return DEPLOYED in tags or MARK in tags


def standing(schedule: Mapping[str, Any], now: float) -> float | None:
    """When it fires next; None if it never does, or by a clock that is not UTC."""
    properties = schedule.get("properties") or {}
    daily = (properties.get("dailyRecurrence") or {}).get("time")
    if properties.get("status") != "Enabled" or properties.get("timeZoneId") != "UTC":
        return None
    try:
        return fires(str(daily), now)
    except ValueError:
        return None


def told(schedule: Mapping[str, Any]) -> str:
    """What a schedule does, in one word or a few: `19:30 UTC`, `off`."""
    status, daily, zone = _setting(schedule)
    return "off" if status != "Enabled" else f"{daily[:2]}:{daily[2:]} {zone}"


def moved(schedule: Mapping[str, Any] | None, at: float, vm: str, location: str) -> dict[str, Any]:
    """The schedule that fires at that moment, from the one that is there, if there is one.

    `vm` is the VM's id, `location` its region. What was before goes into the tag, once.
    """
    before = dict((schedule or {}).get("tags") or {})
    if schedule is None:
        before[MARK] = NOTHING
    elif not is_ours(schedule):
        before[MARK] = " ".join(_setting(schedule))
    return _body(schedule, before, ("Enabled", clock(at), "UTC"), vm, location)


def given_back(schedule: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schedule as it was before it became devsync's, or switched off; None: it is to be deleted."""
    tags = dict(schedule.get("tags") or {})
    was = tags.pop(MARK, "")
    if was == NOTHING:
        return None
    status, _, rest = was.partition(" ")
    daily, _, zone = rest.partition(" ")
    if not zone:
        status, (_, daily, zone) = "Disabled", _setting(schedule)
    return _body(schedule, tags, (status, daily, zone), "", "")


def _setting(schedule: Mapping[str, Any]) -> tuple[str, str, str]:
    properties = schedule.get("properties") or {}
    daily = (properties.get("dailyRecurrence") or {}).get("time") or "0000"
    return str(properties.get("status")), str(daily), str(properties.get("timeZoneId"))


def _body(
    schedule: Mapping[str, Any] | None,
    tags: Mapping[str, str],
    setting: tuple[str, str, str],
    vm: str,
    location: str,
) -> dict[str, Any]:
    """What is sent: only what may be written, and of that as much as possible as it was."""
    was = (schedule or {}).get("properties") or {}
    status, daily, zone = setting
    return {
        "location": (schedule or {}).get("location") or location,
        "tags": dict(tags),
        "properties": {
            "status": status,
            "taskType": TASK,
            "dailyRecurrence": {"time": daily},
            "timeZoneId": zone,
            "notificationSettings": was.get("notificationSettings")
            or {"status": "Disabled", "timeInMinutes": 30},
            "targetResourceId": was.get("targetResourceId") or vm,
        },
    }
