"""Gives the VM's own identity the narrow role of the watchdog: see and deallocate itself, push its lease.

The role is the template's, and has the same id: what was deployed is found, and destroyed with the rest.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from devsync.machine import azure_plan
from devsync.machine.azure_client import AzureClient
from devsync.machine.azure_errors import Trouble
from devsync.ports import NeedsUser, Progress

_API = "2022-04-01"
_VM_API = "2024-03-01"
_DOING = "give rights to the identity of"


def grant(client: AzureClient, schedule: str, progress: Progress) -> None:
    """Make the role and assign it on the VM and on `schedule`, the id of its auto-shutdown.

    What is there already is left as it is. Raises DevsyncError: NeedsUser if the VM has no identity.
    """
    settings = client.settings
    group = f"/subscriptions/{settings.subscription_id}/resourceGroups/{settings.resource_group}"
    vm = f"{group}/providers/Microsoft.Compute/virtualMachines/{settings.vm_name}"
    try:
        identity = _identity(client, vm)
        role = azure_plan.role_id(settings.subscription_id, settings.resource_group, settings.vm_name)
        definition = f"{group}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        progress("making the role")
        client.send(
            "PUT", f"{definition}?api-version={_API}", {"properties": _role(group, role)}, doing=_DOING
        )
        for scope, what in ((vm, "the VM"), (schedule, "its auto-shutdown")):
            progress(f"assigning it on {what}")
            _assign(client, scope, definition, identity)
    except Trouble as trouble:
        raise trouble.error from None


def _identity(client: AzureClient, vm: str) -> str:
    found = client.send("GET", f"{vm}?api-version={_VM_API}", doing=_DOING).body.get("identity") or {}
    if not found.get("principalId"):
        settings = client.settings
        raise NeedsUser(
            f"{settings.subject} has no identity of its own",
            hint=f"run: az vm identity assign --resource-group {settings.resource_group} "
            f"--name {settings.vm_name}; then devsync vm grant",
        )
    return str(found["principalId"])


def _role(group: str, role: str) -> dict[str, Any]:
    """The template's role, for this machine."""
    properties = dict(_in_template("Microsoft.Authorization/roleDefinitions")["properties"])
    return {**properties, "roleName": f"devsync {role}", "type": "CustomRole", "assignableScopes": [group]}


def _in_template(kind: str) -> Mapping[str, Any]:
    resources = azure_plan.template()["resources"]
    inner = next(one for one in resources if one["type"] == "Microsoft.Resources/deployments")
    found: Mapping[str, Any] = next(
        one for one in inner["properties"]["template"]["resources"] if one["type"] == kind
    )
    return found


def _assign(client: AzureClient, scope: str, definition: str, identity: str) -> None:
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}/{definition}/{identity}".lower())
    url = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}?api-version={_API}"
    properties = {
        "roleDefinitionId": definition,
        "principalId": identity,
        "principalType": "ServicePrincipal",
    }
    # 409: it is assigned already, by the deployment under another name.
    client.send("PUT", url, {"properties": properties}, doing=_DOING, allow=(409,))
