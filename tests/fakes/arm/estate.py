"""What is deployed behind the endpoint: groups, resources and what they need, deployments on their way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.arm.expressions import Scope, Wrong, evaluate
from tests.fakes.arm.world import Vm, World

_JSON_TYPES = {"string": str, "object": dict, "int": int, "bool": bool, "array": list}


@dataclass
class Deployment:
    """A deployment: each look at it makes one resource."""

    name: str
    url: str
    waiting: list[tuple[dict[str, Any], Scope]]
    done: list[str] = field(default_factory=list)
    state: str = "Running"
    error: dict[str, Any] | None = None


class Estate:
    """Resources by their ids in lower case."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.groups: dict[str, dict[str, Any]] = {}
        self.resources: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, Deployment] = {}
        self.failure: tuple[str, str, str] | None = None
        """A type of resource, and the code and message with which making it fails, once."""

    # ------------------------------------------------------------ deployments

    def plan(self, subscription: str, group: str, sent: dict[str, Any]) -> Iterator[tuple[str, Any, Scope]]:
        """Every resource that a deployment would make, as (id, resource, scope). Raises Wrong."""
        properties = sent["properties"]
        template, given = properties["template"], properties.get("parameters", {})
        values = _parameters(template, given)
        scope = Scope(subscription, group, values, self._reference)
        known: set[str] = set()
        entries = [(self._identity(one, scope), one) for one in template["resources"]]
        for identity, one in entries:
            for needed in one.get("dependsOn", []):
                if evaluate(needed, scope).lower() not in {other.lower() for other, _ in entries}:
                    raise Wrong(f"the resource {needed} is not defined in the template")
                if evaluate(needed, scope).lower() not in known:
                    raise Wrong(f"{needed} comes after what depends on it")
            known.add(identity.lower())
            if not evaluate(one.get("condition", True), scope):
                continue
            if one["type"] == "Microsoft.Resources/deployments":
                nested = {"properties": evaluate_parameters(one["properties"], scope)}
                yield from self.plan(subscription, evaluate(one["resourceGroup"], scope), nested)
            else:
                yield identity, one, scope

    def _identity(self, resource: dict[str, Any], scope: Scope) -> str:
        name, kind = evaluate(resource["name"], scope), resource["type"]
        if kind == "Microsoft.Resources/resourceGroups":
            return f"/subscriptions/{scope.subscription}/providers/{kind}/{name}"
        target = evaluate(resource.get("scope", ""), scope)
        below = f"/providers/{target}" if target else ""
        return f"{scope.base()}{below}/providers/{kind}/{name}"

    def deploy(self, url: str, subscription: str, group: str, sent: dict[str, Any]) -> Deployment:
        waiting = [(resource, scope) for _, resource, scope in self.plan(subscription, group, sent)]
        made = Deployment(url.rpartition("/")[2], url, waiting)
        self.deployments[url.lower()] = made
        for resource in sent["properties"]["template"]["resources"]:
            if resource["type"] == "Microsoft.Resources/deployments":
                scope = Scope(subscription, "", _parameters(*_both(sent)), self._reference)
                place = evaluate(resource["resourceGroup"], scope)
                nested = (
                    f"/subscriptions/{subscription}/resourceGroups/{place}/providers/{resource['type']}/"
                    f"{evaluate(resource['name'], scope)}"
                )
                self.deployments[nested.lower()] = made
        return made

    def step(self, deployment: Deployment) -> None:
        """Make the next resource, or end."""
        if deployment.state != "Running":
            return
        if not deployment.waiting:
            deployment.state = "Succeeded"
            return
        resource, scope = deployment.waiting[0]
        if self.failure and self.failure[0].lower() == resource["type"].lower():
            _, code, message = self.failure
            self.failure, deployment.state = None, "Failed"
            inner = {"code": code, "message": message}
            text = "At least one resource deployment operation failed. Please list deployment operations."
            deployment.error = {"code": "DeploymentFailed", "message": text, "details": [inner]}
            return
        deployment.waiting.pop(0)
        deployment.done.append(self._make(resource, scope))

    def _make(self, resource: dict[str, Any], scope: Scope) -> str:
        identity = self._identity(resource, scope)
        body = evaluate(
            {key: one for key, one in resource.items() if key not in ("dependsOn", "condition")}, scope
        )
        if resource["type"] == "Microsoft.Resources/resourceGroups":
            self.groups[body["name"].lower()] = body
            return identity
        old = self.resources.get(identity.lower(), {})
        body |= {"id": identity, "apiVersion": resource["apiVersion"]}
        body["properties"] = body["properties"] | {"provisioningState": "Succeeded"}
        self.resources[identity.lower()] = body
        if resource["type"] == "Microsoft.Network/publicIPAddresses":
            body["properties"]["ipAddress"] = "127.0.0.1"
        if resource["type"] == "Microsoft.Compute/virtualMachines":
            self._boot(body, old, scope)
        return identity

    def _boot(self, body: dict[str, Any], old: dict[str, Any], scope: Scope) -> None:
        if (
            old
            and old["properties"]["storageProfile"]["imageReference"]
            != (body["properties"]["storageProfile"]["imageReference"])
        ):
            raise Wrong("changing property 'imageReference' is not allowed")
        system = body["properties"]["storageProfile"]["osDisk"]
        disk = f"{scope.base()}/providers/Microsoft.Compute/disks/{system['name']}"
        system["managedDisk"]["id"] = disk
        kept = {"id": disk, "type": "Microsoft.Compute/disks", "location": body["location"], "properties": {}}
        self.resources[disk.lower()] = kept
        if not old:
            vm = Vm(body["name"], scope.group, scope.subscription, "running", location=body["location"])
            vm.size = body["properties"]["hardwareProfile"]["vmSize"]
            self.world.vms.append(vm)
            self.world.on_start(vm)
            self.world.on_change()
        else:
            vm = next(one for one in self.world.vms if one.name == body["name"])
        body["properties"]["vmId"] = vm.vm_id
        if body["identity"]["type"] == "SystemAssigned":
            body["identity"]["principalId"] = str(uuid.uuid5(uuid.NAMESPACE_OID, vm.vm_id))

    def _reference(self, identity: str) -> dict[str, Any]:
        if identity.lower() not in self.resources:
            raise Wrong(f"the resource {identity} is not there yet: dependsOn is missing")
        return self.resources[identity.lower()]

    # ------------------------------------------------------------ deleting

    def in_use(self, identity: str) -> str | None:
        """The code with which Azure refuses to delete what another resource holds."""
        kind, wanted = identity.lower().split("/")[-2], f'"{identity.lower()}'
        codes = {
            "networkinterfaces": "NicInUse",
            "publicipaddresses": "PublicIPAddressCannotBeDeleted",
            "virtualnetworks": "InUseSubnetCannotBeDeleted",
            "networksecuritygroups": "NetworkSecurityGroupCannotBeDeletedInUse",
            "disks": "DiskInUse",
            "roledefinitions": "RoleDefinitionHasAssignments",
        }
        for other, body in self.resources.items():
            if other != identity.lower() and wanted in repr(body["properties"]).replace("'", '"').lower():
                return codes.get(kind)
        return None

    def delete(self, identity: str) -> None:
        """It is gone, and with a VM its system disk and its power."""
        body = self.resources.pop(identity.lower(), None)
        if body is not None and body["type"] == "Microsoft.Compute/virtualMachines":
            disk = body["properties"]["storageProfile"]["osDisk"]
            if disk.get("deleteOption") == "Delete":
                self.resources.pop(disk["managedDisk"]["id"].lower(), None)
            self.world.vms[:] = [vm for vm in self.world.vms if vm.name != body["name"]]
            self.world.on_change()


def evaluate_parameters(properties: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """A nested deployment: only its parameters belong to the outer template."""
    return {"template": properties["template"], "parameters": evaluate(properties["parameters"], scope)}


def _both(sent: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return sent["properties"]["template"], sent["properties"].get("parameters", {})


def _parameters(template: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    declared = template.get("parameters", {})
    if set(given) - set(declared):
        raise Wrong(f"the parameters {sorted(set(given) - set(declared))} are not declared")
    values = {}
    for name, declaration in declared.items():
        if name in given:
            values[name] = given[name]["value"]
        elif "defaultValue" in declaration:
            values[name] = declaration["defaultValue"]
        else:
            raise Wrong(f"the value for the template parameter '{name}' is not provided")
        if type(values[name]) is not _JSON_TYPES[declaration["type"]]:
            raise Wrong(f"the value of '{name}' is no {declaration['type']}")
    return values
