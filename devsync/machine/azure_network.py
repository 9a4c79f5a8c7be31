"""The one rule that lets SSH in, and where it lets it in from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devsync.machine.azure_client import AzureClient
from devsync.machine.azure_errors import Trouble
from devsync.machine.azure_operation import Pace, finish
from devsync.machine.azure_plan import RULE
from devsync.ports import NeedsUser

_API = "2024-01-01"
_DOING = "let this computer reach"


@dataclass(frozen=True)
class Rule:
    """The rule as it is; `source` is an address with its prefix length."""

    source: str
    url: str = field(repr=False)
    properties: Mapping[str, Any] = field(repr=False)


def ssh_rule(client: AzureClient) -> Rule:
    """The rule of the VM's network card. Raises NeedsUser if there is none that devsync made."""
    settings = client.settings
    try:
        with client.translated(_DOING):
            vm = client.compute.virtual_machines.get(settings.resource_group, settings.vm_name)
        cards = (vm.network_profile.network_interfaces if vm.network_profile else None) or []
        for card in cards:
            group = _properties(client, str(card.id)).get("networkSecurityGroup") or {}
            if group.get("id"):
                url = f"{group['id']}/securityRules/{RULE}?api-version={_API}"
                found = client.send("GET", url, doing=_DOING, allow=(404,))
                if found.status != 404:
                    properties = found.body["properties"]
                    return Rule(str(properties.get("sourceAddressPrefix")), url, properties)
    except Trouble as trouble:
        raise trouble.error from None
    raise NeedsUser(
        f"the network of {settings.subject} has no rule '{RULE}'",
        hint="devsync moves only the rule that devsync vm deploy made; change yours in the Azure portal",
    )


def move(client: AzureClient, rule: Rule, address: str, pace: Pace) -> None:
    """Let SSH in from `address` and from nowhere else."""
    properties = {**rule.properties, "sourceAddressPrefix": f"{address}/32"}
    properties.pop("provisioningState", None)
    properties.pop("sourceAddressPrefixes", None)
    try:
        begun = client.send("PUT", rule.url, {"properties": properties}, doing=_DOING)
        finish(client, begun, pace, doing=_DOING)
    except Trouble as trouble:
        raise trouble.error from None


def _properties(client: AzureClient, resource: str) -> Mapping[str, Any]:
    found = client.send("GET", f"{resource}?api-version={_API}", doing=_DOING).body.get("properties")
    return found if isinstance(found, dict) else {}
