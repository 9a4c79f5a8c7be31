"""The VMs of a subscription: which there are, and another size for one of them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from devsync.machine.azure import power_of
from devsync.machine.azure_client import AzureClient, word
from devsync.machine.azure_errors import Trouble
from devsync.machine.azure_operation import Pace, finish
from devsync.machine.azure_settings import AzureSettings
from devsync.ports import Misuse, NeedsUser, Power, Progress


@dataclass(frozen=True)
class Found:
    """A VM of the subscription."""

    name: str
    resource_group: str
    location: str
    size: str
    state: Power
    spot: bool


def list_machines(settings: AzureSettings) -> list[Found]:
    """Every VM that the account sees in the subscription, with its state, by name."""
    client = AzureClient(replace(settings, vm_name="", resource_group=""))
    machines, doing = client.compute.virtual_machines, "list the VMs of"
    try:
        with client.translated(doing):
            known = list(machines.list_all())
            states = {(vm.id or "").lower(): vm for vm in machines.list_all(status_only="true")}
        return sorted(
            (_found(vm, states.get((vm.id or "").lower())) for vm in known), key=lambda vm: vm.name.lower()
        )
    except Trouble as trouble:
        raise trouble.error from None
    finally:
        client.close()


def _found(vm: Any, with_state: Any) -> Found:  # the SDK's VirtualMachine
    view = with_state.instance_view if with_state else None
    size = vm.hardware_profile.vm_size if vm.hardware_profile else None
    return Found(
        name=vm.name or "",
        resource_group=group_of(vm.id or ""),
        location=vm.location,
        size=word(size),
        state=power_of(status.code for status in (view.statuses if view else None) or ()),
        spot=word(vm.priority).lower() == "spot",
    )


def group_of(resource: str) -> str:
    """The resource group that an id names; ids come in any case."""
    parts = resource.split("/")
    return next((parts[at + 1] for at, part in enumerate(parts[:-1]) if part.lower() == "resourcegroups"), "")


def resize(settings: AzureSettings, size: str, pace: Pace, progress: Progress) -> None:
    """Give the VM another size. Only while it is deallocated: a running one would be restarted.

    Raises NeedsUser if it is not deallocated, Misuse if it cannot have that size.
    """
    client = AzureClient(settings)
    doing, vm = "resize", (settings.resource_group, settings.vm_name)
    machines = client.compute.virtual_machines
    try:
        with client.translated(doing):
            found = machines.get(*vm)
            view = machines.instance_view(*vm)
            offered = [one.name or "" for one in machines.list_available_sizes(*vm)]
        power = power_of(status.code for status in view.statuses or ())
        present = word(found.hardware_profile.vm_size) if found.hardware_profile else ""
        if present.lower() == size.lower():
            progress(f"{settings.subject} is a {present} already")
            return
        if power is not Power.DEALLOCATED:
            raise NeedsUser(
                f"{settings.subject} is {power.value}: only a deallocated one is given another size",
                hint="devsync vm deallocate, then once more",
            )
        wanted = _offered(size, offered, settings)
        progress(f"{settings.subject} was a {present}, becomes a {wanted}")
        change = {"properties": {"hardwareProfile": {"vmSize": wanted}}}
        finish(client, client.begin(machines.begin_update, *vm, change, doing=doing), pace, doing=doing)
    except Trouble as trouble:
        raise trouble.error from None
    finally:
        client.close()


def _offered(size: str, offered: Sequence[str], settings: AzureSettings) -> str:
    """The size as Azure writes it."""
    by_name = {name.lower(): name for name in offered}
    if size.lower() in by_name:
        return by_name[size.lower()]
    near = [by_name[name] for name in difflib.get_close_matches(size.lower(), by_name, 4, 0.5)]
    raise Misuse(
        f"{settings.subject} cannot become a {size}",
        hint=f"near to it: {', '.join(near)}" if near else "what it can become: az vm list-vm-resize-options",
    )
