"""Removes what was deployed for a machine: only that, in an order that Azure allows, and looks what is left.

What was deployed is known by its tag. Three things carry none: the system disk, which the VM names, and the
role of its identity with its assignments, whose id is derived from the machine's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from devsync.machine.azure_client import AzureClient
from devsync.machine.azure_deploy import GROUPS_API
from devsync.machine.azure_errors import Trouble
from devsync.machine.azure_operation import Pace, finish
from devsync.machine.azure_plan import TAG, role_id
from devsync.ports import DevsyncError, Progress

_DOING = "destroy"
_AUTHORIZATION_API = "2022-04-01"
_ORDER: Mapping[str, str] = {
    "microsoft.authorization/roleassignments": _AUTHORIZATION_API,
    "microsoft.authorization/roledefinitions": _AUTHORIZATION_API,
    "microsoft.devtestlab/schedules": "2018-09-15",
    "microsoft.compute/virtualmachines": "2024-03-01",
    "microsoft.compute/disks": "2023-10-02",
    "microsoft.network/networkinterfaces": "2024-01-01",
    "microsoft.network/publicipaddresses": "2024-01-01",
    "microsoft.network/virtualnetworks": "2024-01-01",
    "microsoft.network/networksecuritygroups": "2024-01-01",
}
"""The kinds of resources that are deployed, in the order of deleting them, with their API's version."""
_FREE = ("microsoft.authorization/", "microsoft.devtestlab/", "microsoft.network/networksecuritygroups")


@dataclass(frozen=True)
class Inventory:
    """Ids of resources, in the order of deleting them. `group` tells that the group itself was deployed.

    `others` is what else is in the group, which keeps it.
    """

    ours: tuple[str, ...]
    others: tuple[str, ...]
    group: bool


def kind_of(resource: str) -> str:
    """The type in an id, in lower case: that of the last provider that it names."""
    provider, _, rest = resource.lower().rpartition("/providers/")[2].partition("/")
    return "/".join([provider, *rest.split("/")[::2]])


def inventory(client: AzureClient) -> Inventory:
    """What was deployed for the machine of the client's settings. Raises DevsyncError."""
    try:
        return _inventory(client)
    except Trouble as trouble:
        raise trouble.error from None


def _inventory(client: AzureClient) -> Inventory:
    settings = client.settings
    group = f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
    found = client.send("GET", f"{group}?api-version={GROUPS_API}", doing=_DOING, allow=(404,))
    if found.status == 404:
        return Inventory((), (), group=False)
    tagged: list[str] = []
    others: list[str] = []
    for one in _listed(client, f"{group}/resources?api-version={GROUPS_API}"):
        mine = (one.get("tags") or {}).get(TAG) == settings.vm_name and kind_of(one["id"]) in _ORDER
        (tagged if mine else others).append(str(one["id"]))
    for vm in [one for one in tagged if kind_of(one) == "microsoft.compute/virtualmachines"]:
        disk = _system_disk(client, vm)
        if disk is not None:
            others = [one for one in others if one.lower() != disk.lower()]
            if disk.lower() not in {one.lower() for one in tagged}:
                tagged.append(disk)
    ours = [*tagged, *_rights(client, group)]
    ranks = {kind: rank for rank, kind in enumerate(_ORDER)}
    ours.sort(key=lambda one: (ranks[kind_of(one)], one.lower()))
    made = (found.body.get("tags") or {}).get(TAG) == settings.vm_name
    return Inventory(tuple(ours), tuple(others), group=made)


def _listed(client: AzureClient, url: str | None) -> Iterator[Mapping[str, Any]]:
    while url:
        page = client.send("GET", url, doing=_DOING)
        yield from page.body.get("value") or []
        url = page.body.get("nextLink")


def _system_disk(client: AzureClient, vm: str) -> str | None:
    found = client.send("GET", _versioned(vm), doing=_DOING, allow=(404,))
    storage = (found.body.get("properties") or {}).get("storageProfile") or {}
    disk = ((storage.get("osDisk") or {}).get("managedDisk") or {}).get("id")
    return str(disk) if disk else None


def _rights(client: AzureClient, group: str) -> Iterator[str]:
    """The role of the machine's identity and what assigns it; nothing if this account may not see it."""
    settings = client.settings
    role = role_id(settings.subscription_id, settings.resource_group, settings.vm_name)
    url = f"{group}/providers/Microsoft.Authorization"
    assigned = client.send(
        "GET",
        f"{url}/roleAssignments?api-version={_AUTHORIZATION_API}",
        doing=_DOING,
        allow=(403,),
    )
    for one in assigned.body.get("value") or []:
        if one["properties"]["roleDefinitionId"].lower().endswith(role):
            yield str(one["id"])
    definition = f"{url}/roleDefinitions/{role}"
    if client.send("GET", _versioned(definition), doing=_DOING, allow=(403, 404)).status == 200:
        yield definition


def destroy(client: AzureClient, found: Inventory, pace: Pace, progress: Progress) -> list[str]:
    """Delete what was `found`, then look again: lines about what remains, none of it devsync's.

    Raises DevsyncError if something of it is still there, and names what costs money.
    """
    try:
        for one in found.ours:
            _delete(client, one, pace, progress)
        left = _inventory(client)
        if left.ours:
            raise DevsyncError(
                f"still there: {', '.join(_short(one) for one in left.ours)}{_costs(left.ours)}",
                hint="run devsync vm destroy once more, or delete it in the Azure portal",
            )
        if left.group and not left.others:
            group = client.settings.resource_group
            url = f"/subscriptions/{client.settings.subscription_id}/resourceGroups/{group}"
            progress(f"deleting resource group {group}")
            gone = client.send("DELETE", f"{url}?api-version={GROUPS_API}", doing=_DOING, allow=(404,))
            finish(client, gone, pace, doing=_DOING)
            return []
    except Trouble as trouble:
        error = trouble.error
        error.hint = f"{error.hint}; what is left may cost money, and devsync vm destroy goes on with it"
        raise error from None
    return [f"not devsync's, left alone: {_short(one)}" for one in left.others]


def _delete(client: AzureClient, resource: str, pace: Pace, progress: Progress) -> None:
    """Delete it and wait for the end. Deleting what is gone, or what somebody else deletes, is right."""
    progress(f"deleting {_short(resource)}")
    until = pace.until()
    while True:
        try:
            begun = client.send("DELETE", _versioned(resource), doing=_DOING, allow=(404,))
            break
        except Trouble as trouble:
            # A card that still hangs on a VM that is going is refused for a moment.
            if not trouble.kind.passing or trouble.kind.away:
                raise
            pause = pace.interval if trouble.retry_after is None else trouble.retry_after
            pace.wait(pause, until, f"deleting {_short(resource)}")
    if begun.status != 404:
        finish(client, begun, pace, doing=_DOING)


def _versioned(resource: str) -> str:
    return f"{resource}?api-version={_ORDER[kind_of(resource)]}"


def _short(resource: str) -> str:
    return f"{kind_of(resource).partition('/')[2]} {resource.rpartition('/')[2]}"


def _costs(resources: tuple[str, ...]) -> str:
    costly = [one for one in resources if not kind_of(one).startswith(_FREE)]
    return f"; {len(costly)} of it may cost money" if costly else ""
