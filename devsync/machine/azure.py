"""An Azure VM as the machine: its power, its address, its size.

The client and its connections belong to the AzureMachine, which is used by one thread at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from devsync.machine.azure_client import AzureClient
from devsync.machine.azure_drive import DEALLOCATE, START, Drive, Goal, Operation
from devsync.machine.azure_errors import Kind, Problem, Trouble
from devsync.machine.azure_settings import AzureSettings
from devsync.ports import Address, Power, Progress, Unavailable

__all__ = ["AzureMachine", "AzureSettings"]

_NETWORK_API = "2024-01-01"


class AzureMachine:
    """The VM of `settings` (ports.Machine).

    `interval` is the seconds between two looks while waiting, `deadline` the seconds for one start or
    deallocation. Azure's limits allow 12 looks a minute. Misuse if the settings cannot be right.
    """

    provider = "azure"

    def __init__(
        self,
        settings: AzureSettings,
        *,
        ssh_port: int = 22,
        interval: float = 5.0,
        deadline: float = 600.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._vm = _Vm(AzureClient(settings))
        self._ssh_port = ssh_port
        self._interval, self._deadline, self._monotonic = interval, deadline, monotonic

    def power(self) -> Power:
        try:
            return self._vm.look()
        except Trouble as trouble:
            if trouble.kind is Kind.MISSING:
                return Power.MISSING
            raise trouble.error from None

    def start(self, stop: threading.Event, progress: Progress) -> None:
        self._drive(START, stop, progress)

    def deallocate(self, stop: threading.Event, progress: Progress) -> None:
        self._drive(DEALLOCATE, stop, progress)

    def _drive(self, goal: Goal, stop: threading.Event, progress: Progress) -> None:
        pace = {"interval": self._interval, "deadline": self._deadline}
        Drive(self._vm, goal, stop, progress, monotonic=self._monotonic, **pace).run()

    def address(self) -> Address:
        """The public address, else the private one; `alias` is the VM's id: made anew, it is another host."""
        try:
            vm_id, host = self._vm.whereabouts()
        except Trouble as trouble:
            raise trouble.error from None
        return Address(host, self._ssh_port, f"devsync-{vm_id}")

    def close(self) -> None:
        self._vm.close()


class _Vm:
    """The requests about one VM. Every failure of theirs is a Trouble."""

    def __init__(self, client: AzureClient) -> None:
        self.name = client.settings.vm_name
        self._client, self._group = client, client.settings.resource_group

    def close(self) -> None:
        self._client.close()

    def look(self) -> Power:
        machines = self._client.compute.virtual_machines
        with self._client.translated("read the state of"):
            view = machines.instance_view(self._group, self.name)
        return power_of(status.code for status in view.statuses or ())

    def begin(self, verb: str) -> Operation | None:
        machines = self._client.compute.virtual_machines
        command = machines.begin_start if verb == START.verb else machines.begin_deallocate
        reply = self._client.begin(command, self._group, self.name, doing=verb)
        return Operation(reply.operation, reply.pause) if reply.operation else None

    def poll(self, operation: Operation, verb: str) -> Operation | None:
        reply = self._client.send("GET", operation.url, doing=verb, allow=(403, 404))
        if reply.status in (403, 404):
            # A narrow role may not read operations, and Azure forgets old ones: the state tells enough.
            return None
        status = reply.body.get("status") or ("InProgress" if reply.status == 202 else "Succeeded")
        if status == "Succeeded":
            return None
        if status in ("Failed", "Canceled"):
            error = reply.body.get("error") or {}
            problem = Problem(200, error.get("code") or status, error.get("message") or "")
            raise Trouble(problem, self._client.settings, verb, ended=True)
        return Operation(operation.url, reply.pause)

    def whereabouts(self) -> tuple[str, str]:
        """The VM's id and the address of its first network card."""
        machines = self._client.compute.virtual_machines
        with self._client.translated(_FINDING):
            vm = machines.get(self._group, self.name)
        profile = vm.network_profile
        cards = sorted((profile and profile.network_interfaces) or [], key=lambda card: not card.primary)
        if not cards or not cards[0].id:
            raise self._nowhere("it has no network card")
        return vm.vm_id or "", self._host(self._properties(cards[0].id))

    def _host(self, card: Mapping[str, Any]) -> str:
        configurations = [entry.get("properties") or {} for entry in card.get("ipConfigurations") or []]
        configurations.sort(key=lambda properties: not properties.get("primary"))
        first: Mapping[str, Any] = configurations[0] if configurations else {}
        public = first.get("publicIPAddress")
        if public is None:
            host = first.get("privateIPAddress")
        else:
            host = self._properties(public["id"]).get("ipAddress")
        if not host:
            raise self._nowhere("it has none at the moment; one that is dynamic comes with the start")
        return str(host)

    def _nowhere(self, why: str) -> Unavailable:
        return Unavailable(f"VM '{self.name}' has no address: {why}", hint="start it, or set ssh.host")

    def _properties(self, resource: str) -> Mapping[str, Any]:
        reply = self._client.send("GET", f"{resource}?api-version={_NETWORK_API}", doing=_FINDING)
        properties = reply.body.get("properties")
        return properties if isinstance(properties, dict) else {}


_FINDING = "find the address of"


def power_of(codes: Iterable[str | None]) -> Power:
    """The power state among the codes of an instance view; UNKNOWN if none is there that is known."""
    for code in codes:
        kind, _, state = (code or "").lower().partition("/")
        if kind == "powerstate":
            return next((power for power in Power if power.value == state), Power.UNKNOWN)
    return Power.UNKNOWN
