"""What of a VM has a price: its size, where it is, whether it is spot, its disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devsync.machine.azure_client import AzureClient

_VM_API = "2024-03-01"
_DISK_API = "2023-10-02"
_DOING = "look at the size of"
_PRICED = "StandardSSD_LRS"
"""The kind of disk whose price is known, since it is what devsync deploys."""


@dataclass(frozen=True)
class Parts:
    """What is paid for. `disks` in GiB; None for one that is of another kind, or cannot be seen."""

    size: str
    location: str
    spot: bool
    disks: tuple[int | None, ...]


def parts(client: AzureClient) -> Parts:
    """Look at the VM. Raises Trouble."""
    settings = client.settings
    vm = client.send(
        "GET",
        f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
        f"/providers/Microsoft.Compute/virtualMachines/{settings.vm_name}?api-version={_VM_API}",
        doing=_DOING,
    ).body
    properties = _table(vm, "properties")
    storage = _table(properties, "storageProfile")
    disks = [_table(storage, "osDisk"), *(storage.get("dataDisks") or [])]
    return Parts(
        size=str(_table(properties, "hardwareProfile").get("vmSize") or ""),
        location=str(vm.get("location") or ""),
        spot=str(properties.get("priority") or "").lower() == "spot",
        disks=tuple(_disk(client, _table(disk, "managedDisk").get("id")) for disk in disks),
    )


def _disk(client: AzureClient, resource: object) -> int | None:
    """A disk's size. The VM itself tells it only while it runs."""
    if not isinstance(resource, str):
        return None
    reply = client.send("GET", f"{resource}?api-version={_DISK_API}", doing=_DOING, allow=(403, 404))
    size = _table(reply.body, "properties").get("diskSizeGB")
    ours = _table(reply.body, "sku").get("name") == _PRICED
    return size if ours and isinstance(size, int) else None


def _table(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, dict) else {}
