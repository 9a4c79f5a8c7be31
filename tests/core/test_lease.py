"""The lease's arithmetic: midnight, the half hour, what is the user's, what counts as a sign of life."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core import lease
from devsync.core.idle import Policy, Signal, judge

NOON = 1_790_000_000.0 - 1_790_000_000.0 % 86400 + 43200
HOUR = 3600.0
VM = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/dev-vm"

moments = st.floats(1.7e9, 1.9e9)
lengths = st.floats(lease.SHORTEST, lease.LONGEST)


def test_a_time_of_the_day_is_that_of_today_or_of_tomorrow() -> None:
    assert lease.fires("1300", NOON) == NOON + HOUR
    assert lease.fires("1200", NOON) == NOON + 24 * HOUR, "what is now has been"
    assert lease.fires("0000", NOON) == NOON + 12 * HOUR
    assert lease.fires("2359", NOON + 43199) == NOON + 43200 + 86340, "just past it"


@pytest.mark.parametrize("text", ["", "930", "2400", "1260", "12:0", "²³59"])
def test_what_is_no_time_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        lease.fires(text, NOON)


@given(moments, lengths)
def test_a_pushed_lease_fires_once_and_late_enough(now: float, length: float) -> None:
    at = lease.wanted(None, now, length)
    assert at is not None
    assert length < at - now <= length + 60
    assert at % 60 == 0
    assert lease.fires(lease.clock(at), now) == at, "the next time of that minute is that very moment"
    assert lease.wanted(at, now, length) is None, "what was just pushed is good"


@given(moments, lengths, st.floats(0, 24 * HOUR))
def test_it_is_never_left_to_the_last_half_hour(now: float, length: float, left: float) -> None:
    at = lease.wanted(now + left, now, length)
    assert at is not None or left > lease.LATE
    assert at is None or at - now > lease.LATE


def test_one_left_from_a_longer_lease_is_brought_nearer() -> None:
    assert lease.wanted(NOON + 12 * HOUR, NOON, 3 * HOUR) == NOON + 3 * HOUR + 60


def schedule(
    status: str = "Enabled", daily: str = "1900", zone: str = "W. Europe Standard Time"
) -> dict[str, Any]:
    """As Azure shows one that a user has made."""
    return {
        "id": "/x",
        "name": "shutdown-computevm-dev-vm",
        "location": "westeurope",
        "tags": {"team": "vision"},
        "properties": {
            "status": status,
            "taskType": lease.TASK,
            "dailyRecurrence": {"time": daily},
            "timeZoneId": zone,
            "notificationSettings": {"status": "Enabled", "timeInMinutes": 30, "emailRecipient": "a@b.org"},
            "targetResourceId": VM,
            "provisioningState": "Succeeded",
        },
    }


def test_a_users_schedule_comes_back_as_it_was() -> None:
    mine = schedule()
    assert not lease.is_ours(mine)
    taken = lease.moved(mine, NOON + 3 * HOUR, VM, "")
    assert lease.is_ours(taken)
    assert lease.standing(taken, NOON) == NOON + 3 * HOUR
    assert taken["properties"]["notificationSettings"] == mine["properties"]["notificationSettings"]
    again = lease.moved(taken, NOON + 6 * HOUR, VM, "")
    back = lease.given_back(again)
    assert back is not None
    assert back["tags"] == {"team": "vision"}
    assert lease.told(back) == lease.told(mine) == "19:00 W. Europe Standard Time"


def test_one_that_devsync_made_goes_and_a_deployed_one_is_switched_off() -> None:
    made = lease.moved(None, NOON, VM, "westeurope")
    assert made["location"] == "westeurope"
    assert made["properties"]["targetResourceId"] == VM
    assert lease.given_back(made) is None
    deployed = schedule(zone="UTC") | {"tags": {"devsync": "dev-vm"}}
    assert lease.is_ours(deployed)
    off = lease.given_back(lease.moved(deployed, NOON, VM, ""))
    assert off is not None
    assert (lease.told(off), off["tags"]) == ("off", {"devsync": "dev-vm"})


def test_one_that_never_fires_or_by_another_clock_stands_nowhere() -> None:
    assert lease.standing(schedule(), NOON) is None
    assert lease.standing(schedule("Disabled", zone="UTC"), NOON) is None
    assert lease.standing(schedule(daily="soon", zone="UTC"), NOON) is None
    assert lease.standing({}, NOON) is None


@pytest.mark.parametrize(
    ("active", "error", "after", "quiet", "lives"),
    [
        (True, "", 60.0, 0.0, True),
        (True, "broken", 60.0, 0.0, True),
        (False, "broken", 60.0, 0.0, False),
        (False, "", 60.0, 30.0, True),
        (False, "", 60.0, 90.0, False),
        (False, "", None, 90.0, True),
    ],
)
def test_what_cannot_be_read_alone_is_no_sign_of_life(
    active: bool, error: str, after: float | None, quiet: float, lives: bool
) -> None:
    signals = [Signal("cpu", active, "1 %", "20 %", last=0.0), Signal("gpu", False, "", "5 %", error=error)]
    verdict = judge(signals, Policy(after, 0.0), 0.0, quiet)
    assert lease.is_sign_of_life(verdict) is lives
