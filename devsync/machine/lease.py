"""The lease: the VM's auto-shutdown at Azure, pushed forward, left alone if it is the user's, given back.

An AzureLease owns its client and its connections, and is used by one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from devsync.core import lease
from devsync.machine.azure_client import AzureClient, Reply
from devsync.machine.azure_errors import Trouble

_VM_API = "2024-03-01"
_DOING = "move the auto-shutdown of"

SKEW = 300.0
"""Seconds by which two clocks may differ before it is worth a word."""


@dataclass(frozen=True)
class Lease:
    """When Azure deallocates next, in seconds since 1970; None if devsync does not move it. A note if any."""

    until: float | None
    note: str = ""


class AzureLease:
    """The auto-shutdown of the VM that `client` is about.

    A schedule that somebody else has made is moved only if `take`. `wall` is this computer's time of day.
    """

    def __init__(
        self, client: AzureClient, *, take: bool = False, wall: Callable[[], float] = time.time
    ) -> None:
        self._client, self._take, self._wall = client, take, wall
        settings = client.settings
        group = (
            f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}/providers"
        )
        self._vm = f"{group}/Microsoft.Compute/virtualMachines/{settings.vm_name}"
        self.id = f"{group}/Microsoft.DevTestLab/schedules/{lease.NAME}{settings.vm_name}"
        self._url = f"{self.id}?api-version={lease.API}"

    def renew(self, length: float) -> Lease:
        """See that Azure deallocates after `length` seconds, unless it hears of us again.

        Raises DevsyncError.
        """
        try:
            return self._renew(length)
        except Trouble as trouble:
            raise trouble.error from None

    def _renew(self, length: float) -> Lease:
        found = self._client.send("GET", self._url, doing=_DOING, allow=(404,))
        now = self._now(found)
        schedule = found.body if found.status == 200 else None
        if schedule is not None and not lease.is_ours(schedule) and not self._take:
            return Lease(None, _yours(schedule))
        standing = None if schedule is None else lease.standing(schedule, now)
        at = lease.wanted(standing, now, length)
        if at is None:
            return Lease(standing, self._skewed(now))
        location = "" if schedule is not None else self._location()
        body = lease.moved(schedule, at, self._vm, location)
        self._client.send("PUT", self._url, body, doing=_DOING)
        if standing is not None and standing - now < lease.LATE:
            left = (standing - now) / 60
            return Lease(
                at, f"it was moved {left:.0f} min before its time, which may count from tomorrow only"
            )
        return Lease(at, self._skewed(now))

    def release(self) -> None:
        """Leave the schedule as it was found: as the user had it, switched off, or gone. DevsyncError."""
        try:
            found = self._client.send("GET", self._url, doing=_DOING, allow=(404,))
            if found.status == 404 or not lease.is_ours(found.body):
                return
            body = lease.given_back(found.body)
            if body is None:
                self._client.send("DELETE", self._url, doing=_DOING, allow=(404,))
            elif not _same(body, found.body):
                self._client.send("PUT", self._url, body, doing=_DOING)
        except Trouble as trouble:
            raise trouble.error from None

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _now(self, reply: Reply) -> float:
        """The time of day where the schedule is kept; this computer's clock may be wrong."""
        try:
            return parsedate_to_datetime(reply.headers.get("date", "")).timestamp()
        except ValueError:
            return self._wall()

    def _skewed(self, now: float) -> str:
        ahead = self._wall() - now
        if abs(ahead) < SKEW:
            return ""
        word = "ahead of" if ahead > 0 else "behind"
        return f"this computer's clock is {abs(ahead) / 60:.0f} min {word} Azure's, which counts"

    def _location(self) -> str:
        vm = self._client.send("GET", f"{self._vm}?api-version={_VM_API}", doing=_DOING)
        return str(vm.body.get("location") or "")


def _yours(schedule: Mapping[str, Any]) -> str:
    if lease.told(schedule) == "off":
        return "the VM's auto-shutdown is off, and not devsync's: it is left alone"
    return f"the VM's auto-shutdown ({lease.told(schedule)} daily) is not devsync's: it is left alone"


def _same(body: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether sending `body` would change nothing that counts."""
    return all(
        found["properties"].get(name) == body["properties"][name]
        for name in ("status", "dailyRecurrence", "timeZoneId")
    ) and body["tags"] == (found.get("tags") or {})
