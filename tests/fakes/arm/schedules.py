"""Auto-shutdown: one schedule for each VM, daily at a minute of UTC, and a clock that a test winds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fakes.arm.world import Vm, World

LATE = 1800.0
"""A change counts from the next day if the old or the new time is nearer than this."""

DAY = 86400.0


@dataclass
class Armed:
    """What will happen next, by a schedule that may have been changed meanwhile."""

    at: float
    daily: float


class Schedules:
    """Fires what is due when time passes. The bodies are in the world's estate, by their ids."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._armed: dict[str, Armed] = {}

    def changed(self, identity: str, body: dict[str, Any], now: float) -> None:
        """Somebody put it."""
        identity, properties = identity.lower(), body["properties"]
        before = self._armed.pop(identity, None)
        if properties["status"] != "Enabled":
            return
        assert properties["timeZoneId"] == "UTC", "this endpoint knows no other"
        time = properties["dailyRecurrence"]["time"]
        daily = int(time[:2]) * 3600.0 + int(time[2:]) * 60.0
        at = now - now % DAY + daily
        while at - now < LATE:
            at += DAY
        if before is not None and 0 < before.at - now < LATE:
            at = before.at  # too late for today: what was set before still happens
        self._armed[identity] = Armed(at, daily)

    def removed(self, identity: str) -> None:
        """It is gone."""
        self._armed.pop(identity.lower(), None)

    def pass_time(self, before: float, now: float) -> None:
        """Fire what was due meanwhile, each as often as it was."""
        for identity, armed in sorted(self._armed.items(), key=lambda entry: entry[1].at):
            while armed.at <= now:
                if armed.at > before:
                    self._fire(identity)
                day = armed.at - armed.at % DAY
                armed.at = day + armed.daily if day + armed.daily > armed.at else day + DAY + armed.daily

    def _fire(self, identity: str) -> None:
        vm = self._of(identity)
        if vm is not None and vm.power != "deallocated":
            self._world.on_deallocate(vm)
            self._world.put(vm, "deallocated")

    def _of(self, identity: str) -> Vm | None:
        target = self._world.estate.resources[identity]["properties"]["targetResourceId"]
        name = target.rpartition("/")[2].lower()
        return next((vm for vm in self._world.vms if vm.name.lower() == name), None)
