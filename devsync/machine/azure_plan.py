"""What a deployed machine is made of, as data: the plan, the template with its parameters, what it costs.

Nothing here talks to anybody. The template is `template.json` beside this module: at a subscription it makes
the resource group, too; its inner part makes the machine in a group that is there already.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devsync.ports import Misuse

TAG = "devsync"
"""The tag of all that was deployed; its value is the name of the machine."""
PUBLISHER, OFFER, SKU = "microsoft-dsvm", "ubuntu-2204", "2204-gen2"
RULE = "devsync-ssh"
"""The rule that lets in SSH from one address."""
SYSTEM_DISK = 256  # GiB; the image needs 150, and the price is that of 256
MONTH = 730  # hours

_TEMPLATE = Path(__file__).with_name("template.json")
_ROLES = uuid.UUID("2a3b0c5e-7d54-5c0e-9f0b-6f3a1f0d4e52")
"""From which the ids of roles are derived, so that a second deployment finds the first one's."""


@dataclass(frozen=True)
class Plan:
    """A machine to be made. `source` is an address with its prefix length, `shutdown` is HHmm in UTC or None.

    `purchase` is the image's purchase plan, None for most; `new_group` tells that the group is made, too.
    """

    subscription_id: str
    resource_group: str
    name: str
    location: str
    size: str
    user: str
    public_key: str
    source: str
    image_version: str
    disk_gib: int = 0
    spot: bool = False
    identity: bool = True
    shutdown: str | None = None
    purchase: Mapping[str, str] | None = None
    new_group: bool = True

    def check(self) -> None:
        """Raise Misuse for what Azure would refuse only after some minutes."""
        if not re.fullmatch(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,57}[a-zA-Z0-9])?", self.name):
            raise Misuse(
                f"'{self.name}' is no name for a VM", hint="letters, digits and '-', at most 59: --name my-vm"
            )
        if not re.fullmatch(r"[\w().-]{0,89}[\w()-]", self.resource_group):
            raise Misuse(f"'{self.resource_group}' is no name for a resource group")
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", self.user) or self.user in ("admin", "root"):
            raise Misuse(f"Azure allows no login name '{self.user}'", hint="set ssh.user to another one")
        kind = self.public_key.split()[:1]
        if kind not in (["ssh-ed25519"], ["ssh-rsa"]):
            raise Misuse(
                f"Azure takes keys of the kinds ssh-ed25519 and ssh-rsa, not {' '.join(kind) or 'this one'}",
                hint="make one with: ssh-keygen -t ed25519, and name it with --key",
            )

    @property
    def role_id(self) -> str:
        """The id of the role that the machine's identity has."""
        return role_id(self.subscription_id, self.resource_group, self.name)

    @property
    def deployment(self) -> str:
        """The name of the deployment in the group."""
        return f"devsync-{self.name}"[:64]

    @property
    def outer_deployment(self) -> str:
        """The name of the deployment at the subscription, which is bound to a region."""
        return f"devsync-{self.location}-{self.name}"[:64]


def role_id(subscription_id: str, resource_group: str, name: str) -> str:
    """The id of the role that the identity of that machine has."""
    return str(uuid.uuid5(_ROLES, f"{subscription_id}/{resource_group}/{name}".lower()))


def template() -> dict[str, Any]:
    """The published template, for a subscription."""
    found = json.loads(_TEMPLATE.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def body(plan: Plan) -> dict[str, Any]:
    """What is sent to make the plan's machine, at the subscription or at the group as `new_group` says."""
    whole, values = template(), parameters(plan)
    sent: dict[str, Any] = {"properties": {"mode": "Incremental", "parameters": values, "template": whole}}
    if plan.new_group:
        return sent | {"location": plan.location}
    inner = next(one for one in whole["resources"] if one["type"] == "Microsoft.Resources/deployments")
    del values["resourceGroup"]
    sent["properties"]["template"] = inner["properties"]["template"]
    return sent


def parameters(plan: Plan) -> dict[str, Any]:
    """The plan as the template's parameters."""
    values: dict[str, object] = {
        "resourceGroup": plan.resource_group,
        "location": plan.location,
        "tags": {TAG: plan.name},
        "name": plan.name,
        "size": plan.size,
        "adminUsername": plan.user,
        "publicKey": plan.public_key,
        "sourceAddress": plan.source,
        "imageVersion": plan.image_version,
        "plan": dict(plan.purchase or {}),
        "osDiskGiB": SYSTEM_DISK,
        "dataDiskGiB": plan.disk_gib,
        "spot": plan.spot,
        "shutdown": plan.shutdown or "",
        "identity": plan.identity,
        "roleId": plan.role_id,
    }
    return {name: {"value": value} for name, value in values.items()}


@dataclass(frozen=True)
class Prices:
    """In `currency`: the machine by the hour, a disk of each size (GiB) by the month, an address by the hour.

    None, or no such size, where nobody could say.
    """

    currency: str = "USD"
    machine: float | None = None
    disks: Mapping[int, float] | None = None
    address: float | None = None


@dataclass(frozen=True)
class Item:
    """A line of the plan: a thing, what it is like, and its price with the unit."""

    name: str
    detail: str
    price: str = ""


def described(plan: Plan, prices: Prices, size: str) -> list[Item]:
    """The plan for people. `size` says what the machine has: processors, memory, accelerators."""
    money = prices.currency

    def hourly(price: float | None) -> str:
        return "price unknown" if price is None else f"{price:.3f} {money} an hour"

    def monthly(gib: int) -> str:
        price = (prices.disks or {}).get(gib)
        return "price unknown" if price is None else f"{price:.2f} {money} a month, also while deallocated"

    spot = "spot, may be evicted; " if plan.spot else ""
    address = "price unknown"
    if prices.address is not None:
        address = f"{prices.address * MONTH:.2f} {money} a month, also while deallocated"
    found = [
        Item("resource group", f"{plan.resource_group} ({'new' if plan.new_group else 'is there already'})"),
        Item(
            "machine",
            f"{plan.name}: {plan.size} in {plan.location} ({spot}{size})",
            f"{hourly(prices.machine)} while it is not deallocated",
        ),
        Item("image", f"{PUBLISHER}:{OFFER}:{SKU}:{plan.image_version}"),
        Item("system disk", f"{SYSTEM_DISK} GiB, standard SSD", monthly(SYSTEM_DISK)),
    ]
    if plan.disk_gib:
        found.append(Item("data disk", f"{plan.disk_gib} GiB, standard SSD", monthly(plan.disk_gib)))
    found += [
        Item("address", "static, public", address),
        Item("network", f"SSH (port 22) from {plan.source} only; login as {plan.user}, by key only"),
    ]
    if plan.identity:
        found.append(Item("identity", "may see and deallocate this VM and move its shutdown, nothing else"))
    stop = f"daily at {plan.shutdown[:2]}:{plan.shutdown[2:]} UTC" if plan.shutdown else "off"
    found.append(Item("auto-shutdown", stop))
    return found
