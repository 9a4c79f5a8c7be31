"""Requests to answers: the paths, headers and bodies of ARM, over the world."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.arm import estate_routes
from tests.fakes.arm.world import Answer, Operation, Vm, World, refusal

_ID = r"/subscriptions/(?P<subscription>[^/]+)/resourcegroups/(?P<group>[^/]+)/providers"
_VMS = _ID + r"/microsoft\.compute/virtualmachines"
_ROUTES = (
    ("POST", re.compile(_VMS + r"/(?P<name>[^/]+)/(?P<verb>start|deallocate|poweroff)", re.I)),
    ("GET", re.compile(_VMS + r"/(?P<name>[^/]+)/(?P<view>instanceView)", re.I)),
    ("GET", re.compile(_VMS + r"/(?P<name>[^/]+)", re.I)),
    ("PATCH", re.compile(_VMS + r"/(?P<resize>[^/]+)", re.I)),
    ("GET", re.compile(_VMS, re.I)),
    (
        "GET",
        re.compile(
            r"/subscriptions/(?P<subscription>[^/]+)/providers/microsoft\.compute/(?P<all>virtualmachines)",
            re.I,
        ),
    ),
    ("GET", re.compile(_ID + r"/microsoft\.network/networkinterfaces/(?P<nic>[^/]+)", re.I)),
    ("GET", re.compile(_ID + r"/microsoft\.network/publicipaddresses/(?P<pip>[^/]+)", re.I)),
    (
        "GET",
        re.compile(
            r"/subscriptions/(?P<subscription>[^/]+)/providers/microsoft\.compute/locations/[^/]+"
            r"/operations/(?P<operation>[^/]+)",
            re.I,
        ),
    ),
)
_VERBS = {"start": "start", "deallocate": "deallocate", "poweroff": "powerOff"}
_LABELS = {
    "all": "listAll",
    "resize": "resize",
    "view": "instanceView",
    "nic": "nic",
    "pip": "publicIp",
    "operation": "operation",
    "name": "get",
}


@dataclass(frozen=True)
class Request:
    """A request: path without the query, query values decoded, header names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any = None


def answer(world: World, url: str, request: Request) -> Answer | None:
    """The answer to a request; None if the connection is to be dropped. `url` is the endpoint's own."""
    parts = _match(request)
    label = _label(parts) if parts is not None else "unknown"
    with world.lock:
        if request.path in _OPEN:
            return _OPEN[request.path](world, request)
        deployed = estate_routes.find(world, request.method, request.path)
        if deployed is not None:
            label, parts = deployed[0], {}
        world.log.append(label)
        refused = _authenticate(world, request) or _checked(request, parts)
        if refused is not None or parts is None:
            return refused
        fault = world.take_fault(label)
        if fault is not None and not fault.after:
            return fault.answer
        if deployed is not None:
            given = deployed[1](request.body, request.query.get("$filter", ""))
            if "Location" in given.headers:
                given = replace(given, headers={**given.headers, "Location": url + given.headers["Location"]})
        else:
            given = _route(world, url, request, label, parts)
        return fault.answer if fault is not None else given


def _match(request: Request) -> dict[str, str] | None:
    for method, pattern in _ROUTES:
        found = pattern.fullmatch(request.path)
        if found and method == request.method:
            return found.groupdict()
    return None


def _label(parts: Mapping[str, str]) -> str:
    if "verb" in parts:
        return _VERBS[parts["verb"].lower()]
    return next((label for key, label in _LABELS.items() if key in parts), "list")


def _authenticate(world: World, request: Request) -> Answer | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    world.seen_tokens.add(token)
    if scheme != "Bearer" or not token:
        return refusal(
            401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
        )
    if world.tokens is not None and token not in world.tokens:
        return refusal(401, "InvalidAuthenticationToken", "The access token is invalid.")
    return None


def _checked(request: Request, parts: Mapping[str, str] | None) -> Answer | None:
    if parts is None:
        return refusal(404, "InvalidResourceType", f"The resource type could not be found: {request.path}")
    if "api-version" not in request.query:
        return refusal(
            400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required"
        )
    return None


def _route(world: World, url: str, request: Request, label: str, parts: Mapping[str, str]) -> Answer:
    if label == "operation":
        return _operation(world, url, request, parts["operation"])
    vms = [vm for vm in world.vms if _same(vm.subscription, parts["subscription"])]
    if not vms:
        return refusal(
            404, "SubscriptionNotFound", f"The subscription '{parts['subscription']}' could not be found."
        )
    if label == "listAll":
        shown = [_machine(world, vm, with_view="statusOnly" in request.query) for vm in vms]
        return Answer(200, {"value": shown})
    vms = [vm for vm in vms if _same(vm.group, parts["group"])]
    if not vms:
        return refusal(404, "ResourceGroupNotFound", f"Resource group '{parts['group']}' could not be found.")
    if label == "list":
        return Answer(200, {"value": [_machine(world, vm, with_view=False) for vm in vms]})
    kind, name = _wanted(label, parts)
    vm = next((vm for vm in vms if _same(_names(vm)[kind], name)), None)
    if vm is None or (kind == "publicIPAddresses" and not vm.has_public_ip):
        provider = "Microsoft.Compute" if kind == "virtualMachines" else "Microsoft.Network"
        text = (
            f"The Resource '{provider}/{kind}/{name}' under resource group '{parts['group']}' was not found."
        )
        return refusal(404, "ResourceNotFound", text)
    return _ANSWERS.get(label, _command)(world, url, request, label, vm)


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _wanted(label: str, parts: Mapping[str, str]) -> tuple[str, str]:
    if label == "nic":
        return "networkInterfaces", parts["nic"]
    if label == "publicIp":
        return "publicIPAddresses", parts["pip"]
    return "virtualMachines", parts.get("name") or parts["resize"]


def _names(vm: Vm) -> dict[str, str]:
    return {
        "virtualMachines": vm.name,
        "networkInterfaces": f"{vm.name}VMNic",
        "publicIPAddresses": f"{vm.name}PublicIP",
    }


# ---------------------------------------------------------------- commands and operations


def _command(world: World, url: str, request: Request, label: str, vm: Vm) -> Answer:
    operation = world.command(vm, label)
    if isinstance(operation, Answer):
        return operation
    version = request.query["api-version"]
    headers = {
        "Azure-AsyncNotification": "Enabled",
        "Azure-AsyncOperation": _signed(url, operation, f"api-version={version}"),
        "Location": _signed(url, operation, f"monitor=true&api-version={version}"),
    }
    return Answer(202, None, headers | _retry_after(world))


def _signed(url: str, operation: Operation, query: str) -> str:
    """An address as long as the real ones, which carry a signature of 3 KB."""
    vm = operation.vm
    path = f"/subscriptions/{vm.subscription}/providers/Microsoft.Compute/locations/{vm.location}/operations"
    signature = f"t=638989321553263492&c={'MIIH' * 750}&s={'aB3-' * 85}_w&h={operation.id.replace('-', '')}"
    return f"{url}{path}/{operation.id}?p={vm.vm_id}&{query}&{signature}"


def _operation(world: World, url: str, request: Request, identity: str) -> Answer:
    operation = world.operations.get(identity)
    if operation is None:
        return refusal(404, "OperationNotFound", f"The entity was not found: {identity}")
    if request.query.get("h") != identity.replace("-", "") or len(request.query.get("c", "")) != 3000:
        return refusal(403, "InvalidSignature", "The signature of the operation's address is not valid.")
    status, error = operation.status, operation.error
    world.looked()
    if request.query.get("monitor") == "true":
        return Answer(202 if status == "InProgress" else 200, None, _retry_after(world))
    body: dict[str, object] = {
        "startTime": "2026-02-03T09:10:11.2005196+00:00",
        "status": status,
        "name": identity,
    }
    if status != "InProgress":
        body["endTime"] = "2026-02-03T09:10:42.9501237+00:00"
    if error is not None:
        body["error"] = error
    return Answer(200, body, _retry_after(world))


def _retry_after(world: World) -> dict[str, str]:
    return {} if world.retry_after is None else {"Retry-After": str(world.retry_after)}


# ---------------------------------------------------------------- resources


def _identity(world: World, vm: Vm, kind: str) -> str:
    provider = "Microsoft.Compute" if kind == "virtualMachines" else "Microsoft.Network"
    identity = f"/subscriptions/{vm.subscription}/resourceGroups/{vm.group}/providers/{provider}/{kind}"
    identity = f"{identity}/{_names(vm)[kind]}"
    return identity.upper() if world.upper_ids else identity


def _view(world: World, vm: Vm) -> dict[str, object]:
    status = {
        "code": "ProvisioningState/succeeded",
        "level": "Info",
        "displayStatus": "Provisioning succeeded",
    }
    statuses: list[object] = [status | {"time": "2026-02-03T09:10:42.7941912+00:00"}]
    if world.hides_power:
        world.hides_power -= 1
    elif vm.power is not None:
        power = {"code": f"PowerState/{vm.power}", "level": "Info", "displayStatus": f"VM {vm.power}"}
        statuses.append(power)
    disk = {"name": f"{vm.name}_OsDisk", "statuses": statuses[:1]}
    view: dict[str, object] = {"disks": [disk], "hyperVGeneration": "V2", "statuses": statuses}
    if vm.power == "running":
        agent = {
            "code": "ProvisioningState/Unavailable",
            "level": "Warning",
            "displayStatus": "Not Ready",
            "message": "VM status blob is found but not yet populated.",
            "time": "2026-02-03T09:11:32+00:00",
        }
        view |= {"computerName": vm.name, "vmAgent": {"vmAgentVersion": "Unknown", "statuses": [agent]}}
    return view


def _machine(world: World, vm: Vm, *, with_view: bool) -> dict[str, object]:
    cards = [{"id": _identity(world, vm, "networkInterfaces")}] if vm.card else []
    properties: dict[str, object] = {
        "vmId": vm.vm_id,
        "hardwareProfile": {"vmSize": vm.size},
        "provisioningState": "Succeeded",
        "networkProfile": {"networkInterfaces": cards},
        "timeCreated": "2026-01-02T03:04:05.2352463+00:00",
    }
    if vm.spot:
        properties["priority"] = "Spot"
    stored = world.estate.resources.get(_identity(world, vm, "virtualMachines").lower(), {})
    for name in ("storageProfile", "networkProfile", "priority", "osProfile"):
        if name in stored.get("properties", {}):
            properties[name] = stored["properties"][name]
    if with_view:
        properties["instanceView"] = _view(world, vm)
    identity = {"principalId": vm.principal, "type": "SystemAssigned"} if vm.principal else None
    identity = stored.get("identity", identity)
    return {
        **({"identity": identity} if identity else {}),
        "name": vm.name,
        "id": _identity(world, vm, "virtualMachines"),
        "type": "Microsoft.Compute/virtualMachines",
        "location": vm.location,
        "tags": stored.get("tags", {}),
        "properties": properties,
    }


def _get(world: World, url: str, request: Request, label: str, vm: Vm) -> Answer:
    given = Answer(
        200, _machine(world, vm, with_view=request.query.get("$expand", "").lower() == "instanceview")
    )
    world.looked()
    return given


def _instance_view(world: World, url: str, request: Request, label: str, vm: Vm) -> Answer:
    given = Answer(200, _view(world, vm))
    world.looked()
    return given


def _card(world: World, url: str, request: Request, label: str, vm: Vm) -> Answer:
    identity = _identity(world, vm, "networkInterfaces")
    properties: dict[str, object] = {
        "provisioningState": "Succeeded",
        "privateIPAddress": vm.private_ip,
        "privateIPAllocationMethod": "Dynamic",
        "primary": True,
        "privateIPAddressVersion": "IPv4",
    }
    if vm.has_public_ip:
        properties["publicIPAddress"] = {"id": _identity(world, vm, "publicIPAddresses")}
    name = f"ipconfig{vm.name}"
    entry = {"name": name, "id": f"{identity}/ipConfigurations/{name}", "properties": properties}
    body = {
        "name": _names(vm)["networkInterfaces"],
        "id": identity,
        "location": vm.location,
        "properties": {"provisioningState": "Succeeded", "ipConfigurations": [entry], "primary": True},
        "type": "Microsoft.Network/networkInterfaces",
    }
    return Answer(200, body)


def _public_ip(world: World, url: str, request: Request, label: str, vm: Vm) -> Answer:
    properties: dict[str, object] = {
        "provisioningState": "Succeeded",
        "publicIPAddressVersion": "IPv4",
        "publicIPAllocationMethod": "Dynamic",
        "idleTimeoutInMinutes": 4,
        "ipTags": [],
    }
    if vm.public_ip is not None:
        properties["ipAddress"] = vm.public_ip
    body = {
        "name": _names(vm)["publicIPAddresses"],
        "id": _identity(world, vm, "publicIPAddresses"),
        "location": vm.location,
        "properties": properties,
        "type": "Microsoft.Network/publicIPAddresses",
    }
    return Answer(200, body)


def _resize(world: World, url: str, request: Request, label: str, vm: Vm) -> Answer:
    vm.size = request.body["properties"]["hardwareProfile"]["vmSize"]
    world.on_change()
    return Answer(200, _machine(world, vm, with_view=False))


def _prices(world: World, request: Request) -> Answer:
    """The items that a filter of `name eq 'value'` joined by `and` lets through."""
    wanted = dict(re.findall(r"(\w+) eq '([^']*)'", request.query["$filter"]))
    place = wanted.pop("armRegionName", "")
    found = [
        one | {"armRegionName": place}
        for one in world.prices
        if all(one.get("type" if name == "priceType" else name) == value for name, value in wanted.items())
    ]
    whole = {"BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail"}
    return Answer(200, whole | {"Items": found, "NextPageLink": None, "Count": len(found)})


_OPEN: Mapping[str, Callable[[World, Request], Answer]] = {
    "/api/retail/prices": _prices,
    "/": lambda world, request: Answer(200, world.address),
}
"""Services beside ARM, that need no token."""
_ANSWERS: Mapping[str, Callable[[World, str, Request, str, Vm], Answer]] = {
    "get": _get,
    "instanceView": _instance_view,
    "nic": _card,
    "publicIp": _public_ip,
    "resize": _resize,
}
