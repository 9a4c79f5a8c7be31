"""Requests about what is deployed, and about what can be: groups, deployments, images, sizes, prices."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.arm.expressions import Wrong
from tests.fakes.arm.world import Answer, World, refusal

_GROUP = r"(?P<base>/subscriptions/(?P<subscription>[^/]+)(?:/resourcegroups/(?P<group>[^/]+))?)"
_DEPLOYMENT = _GROUP + r"/providers/microsoft\.resources/deployments/(?P<name>[^/]+)"
_COMPUTE = r"/subscriptions/(?P<subscription>[^/]+)/providers/microsoft\.compute"
_IMAGE = _COMPUTE + (
    r"/locations/(?P<location>[^/]+)/publishers/microsoft-dsvm/artifacttypes/vmimage/offers/ubuntu-2204"
    r"/skus/2204-gen2/versions"
)
_VM = r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/microsoft\.compute/virtualmachines/(?P<vm>[^/]+)"
_RESOURCE = _GROUP + r"/.*providers/.+"
_SCHEDULE = _GROUP + r"/providers/microsoft\.devtestlab/schedules/shutdown-computevm-(?P<target>[^/]+)"

Handler = Callable[[World, Mapping[str, str], Any, str], Answer]
"""Given the world, the parts of the path, the body and the path."""


def find(world: World, method: str, path: str) -> tuple[str, Callable[[Any, str], Answer]] | None:
    """What the log calls the request, and what answers it, given its body and `$filter`.

    None if it is not about what is deployed.
    """
    for wanted, pattern, handler in _ROUTES:
        found = pattern.fullmatch(path)
        if found and wanted == method and (handler not in (_stored, _put) or _knows(world, path)):
            parts = {key: value or "" for key, value in found.groupdict().items()}
            if handler in (_group, _delete_group) and not parts["group"]:
                continue

            return handler.__name__.strip("_"), _bound(handler, world, parts, path)
    return None


def _bound(
    handler: Handler, world: World, parts: Mapping[str, str], path: str
) -> Callable[[Any, str], Answer]:
    return lambda body, wish: handler(world, {**parts, "filter": wish}, body, path)


def _knows(world: World, path: str) -> bool:
    """Whether it is stored here; VMs are answered for elsewhere."""
    path = path.lower().partition("/securityrules/")[0]
    vm = "/virtualmachines/" in path and "/microsoft.authorization/" not in path
    return path in world.estate.resources and not vm


# ---------------------------------------------------------------- groups and resources


def _group(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    found = world.estate.groups.get(parts["group"].lower())
    if found is None and any(vm.group.lower() == parts["group"].lower() for vm in world.vms):
        found = {"name": parts["group"], "location": "westeurope", "tags": {}}
    if found is None:
        return refusal(404, "ResourceGroupNotFound", f"Resource group '{parts['group']}' could not be found.")
    properties = {"provisioningState": "Succeeded"}
    return Answer(
        200,
        {
            "id": path,
            "name": found["name"],
            "type": "Microsoft.Resources/resourceGroups",
            "location": found["location"],
            "tags": found["tags"],
            "properties": properties,
        },
    )


def _delete_group(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    def gone() -> None:
        del world.estate.groups[parts["group"].lower()]
        for one in [one for one in world.estate.resources if one.startswith(path.lower() + "/")]:
            world.estate.delete(one)

    return _later(world, gone)


def _resources(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    base = parts["base"].lower() + "/"
    listed = [
        {"id": one["id"], "type": one["type"], "location": one["location"], "tags": one.get("tags", {})}
        for identity, one in world.estate.resources.items()
        if identity.startswith(base) and "/microsoft.authorization/" not in identity
    ]
    return Answer(200, {"value": listed})


def _assignments(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    listed = [
        {key: one[key] for key in ("id", "type", "name", "properties")}
        for identity, one in world.estate.resources.items()
        if "/roleassignments/" in identity
    ]
    return Answer(200, {"value": listed})


def _stored(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    if "/securityrules/" in path.lower():
        return _rule(world, path, None)
    found = world.estate.resources[path.lower()]
    shown = {key: value for key, value in found.items() if key not in ("apiVersion", "scope")}
    return Answer(200, shown)


def _put(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    return _rule(world, path, body["properties"])


def _rule(world: World, path: str, change: dict[str, Any] | None) -> Answer:
    owner, _, name = path.lower().rpartition("/securityrules/")
    for one in world.estate.resources[owner]["properties"]["securityRules"]:
        if one["name"].lower() == name:
            one["properties"] = change or one["properties"]
            properties = {"provisioningState": "Succeeded"} | one["properties"]
            return Answer(200, {"name": one["name"], "id": path, "properties": properties}, _pace(world))
    return refusal(404, "NotFound", f"Resource {path} not found.")


def _delete(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    if path.lower() not in world.estate.resources:
        return Answer(204)
    code = world.estate.in_use(path)
    if code is not None:
        return refusal(400, code, f"{path} is in use.")
    return _later(world, lambda: world.estate.delete(path))


def _put_schedule(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    """A schedule of the one name and kind that Azure takes; 201 also where it was there already."""
    target, properties = parts["target"], body["properties"]
    if not properties["targetResourceId"].lower().endswith(f"/virtualmachines/{target}".lower()):
        return refusal(400, "InvalidScheduleId", "The name of the schedule does not fit its target.")
    if properties["taskType"] != "ComputeVmShutdownTask" or not body["location"]:
        return refusal(400, "InvalidTaskType", "This task type is not supported here.")
    stored = world.estate.resources.get(path.lower(), {}) | body
    stored |= {"id": path, "name": path.rpartition("/")[2], "type": "microsoft.devtestlab/schedules"}
    stored["properties"] = properties | {"provisioningState": "Succeeded"}
    world.estate.resources[path.lower()] = stored
    world.schedules.changed(path, stored, world.now())
    return Answer(201, stored)


def _delete_schedule(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    gone = world.estate.resources.pop(path.lower(), None)
    world.schedules.removed(path)
    return Answer(204 if gone is None else 200)


def _put_right(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    """A role's definition or assignment; what is assigned already under another name is refused."""
    kind = path.lower().split("/")[-2]
    for other, one in world.estate.resources.items():
        same = kind == "roleassignments" and one["properties"] == body["properties"]
        if same and other != path.lower() and other.rpartition("/providers/")[0] == _scope(path):
            return refusal(409, "RoleAssignmentExists", "The role assignment already exists.")
    stored = {"id": path, "name": path.rpartition("/")[2], "type": f"Microsoft.Authorization/{kind}"}
    world.estate.resources[path.lower()] = {**stored, "properties": body["properties"], "location": ""}
    return Answer(201, world.estate.resources[path.lower()])


def _scope(path: str) -> str:
    return path.lower().rpartition("/providers/")[0]


# ---------------------------------------------------------------- what takes its time


def _later(world: World, then: Callable[[], None], body: object = None) -> Answer:
    """202; the second look at the address finds it done."""
    identity = str(uuid.uuid4())
    world.pending[identity] = [1, then, body]
    where = f"/subscriptions/{uuid.UUID(int=0)}/operationresults/{identity}?api-version=2021-04-01"
    return Answer(202, None, {"Location": where} | _pace(world))


def _pending(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    entry = world.pending[parts["name"]]
    if entry[0] > 0:
        entry[0] -= 1
        return Answer(202, None, {"Location": f"{path}?api-version=2021-04-01"} | _pace(world))
    entry[1]()
    entry[1] = lambda: None
    return Answer(200, entry[2]) if entry[2] is not None else Answer(204)


def _pace(world: World) -> dict[str, str]:
    return {} if world.retry_after is None else {"Retry-After": str(world.retry_after)}


# ---------------------------------------------------------------- deployments


def _valid(world: World, parts: Mapping[str, str], body: Any, path: str) -> list[tuple[str, Any]] | Answer:
    try:
        plan = list(world.estate.plan(parts["subscription"], parts["group"], body))
    except Wrong as error:
        return refusal(400, "InvalidTemplate", f"Deployment template validation failed: '{error}'.")
    return [(identity, resource) for identity, resource, _ in plan]


def _validate(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    found = _valid(world, parts, body, path)
    if isinstance(found, Answer):
        return found
    properties = {
        "mode": body["properties"]["mode"],
        "provisioningState": "Succeeded",
        "timestamp": "2026-06-05T01:20:01.723776Z",
        "validatedResources": [{"id": identity} for identity, _ in found],
    }
    done = {"name": parts["name"], "type": "Microsoft.Resources/deployments", "properties": properties}
    return _later(world, lambda: None, done | {"id": path.rpartition("/")[0]})


def _what_if(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    found = _valid(world, parts, body, path)
    if isinstance(found, Answer):
        return found
    changes = []
    for identity, resource in found:
        there = identity.lower() in world.estate.resources
        after = {"apiVersion": resource["apiVersion"], "id": identity, "type": resource["type"]}
        changes.append(
            {"resourceId": identity, "changeType": "NoChange" if there else "Create", "after": after}
        )
    return _later(world, lambda: None, {"status": "Succeeded", "properties": {"changes": changes}})


def _deploy(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    present = world.estate.deployments.get(path.lower())
    if present is not None and present.state == "Running":
        return refusal(409, "DeploymentActive", "The deployment cannot be saved: it is still active.")
    found = _valid(world, parts, body, path)
    if isinstance(found, Answer):
        return found
    world.estate.deploy(path, parts["subscription"], parts["group"], body)
    return Answer(201, _deployment_body(world, path, "Accepted"), _pace(world))


def _deployment(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    found = world.estate.deployments.get(path.lower())
    if found is None:
        return refusal(404, "DeploymentNotFound", f"Deployment '{parts['name']}' could not be found.")
    world.estate.step(found)
    return Answer(200, _deployment_body(world, path, found.state), _pace(world))


def _deployment_body(world: World, path: str, state: str) -> dict[str, Any]:
    found = world.estate.deployments[path.lower()]
    properties: dict[str, Any] = {
        "mode": "Incremental",
        "provisioningState": state,
        "timestamp": "2026-06-05T01:20:01.723776Z",
        "duration": "PT22.8356799S",
        "correlationId": str(uuid.UUID(int=0)),
    }
    if found.error is not None:
        properties["error"] = found.error
    name = path.rpartition("/")[2]
    return {"id": path, "name": name, "type": "Microsoft.Resources/deployments", "properties": properties}


def _operations(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    found = world.estate.deployments.get(path.lower().removesuffix("/operations"))
    if found is None:
        return refusal(404, "DeploymentNotFound", f"Deployment '{parts['name']}' could not be found.")
    listed = []
    for identity in found.done:
        *_, kind, name = identity.split("/")
        target = {"id": identity, "resourceType": f"Microsoft.X/{kind}", "resourceName": name}
        listed.append({"properties": {"provisioningState": "Succeeded", "targetResource": target}})
    return Answer(200, {"value": listed})


# ---------------------------------------------------------------- what is on offer


def _images(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    location = parts["location"]
    return Answer(200, [{"name": one, "location": location, "id": f"{path}/{one}"} for one in world.images])


def _image(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    properties: dict[str, Any] = {"hyperVGeneration": "V2"}
    if world.image_plan is not None:
        properties["plan"] = world.image_plan
    found = {"name": parts["version"], "location": parts["location"], "id": path, "properties": properties}
    return Answer(200, found)


def _skus(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    location = parts["filter"].partition("'")[2].rstrip("'")
    listed = [
        {
            "resourceType": "virtualMachines",
            "name": name,
            "tier": "Standard",
            "size": name.partition("_")[2],
            "locations": [location],
            "capabilities": [{"name": key, "value": value} for key, value in has.items() if key != "limit"],
            "restrictions": [{"type": "Location", "values": [location], "reasonCode": has["limit"]}]
            if "limit" in has
            else [],
        }
        for name, has in world.sizes.items()
    ]
    return Answer(200, {"value": listed})


def _sizes(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    listed = [{"name": name, "numberOfCores": int(has["vCPUs"])} for name, has in world.sizes.items()]
    return Answer(200, {"value": listed})


def _agreement(world: World, parts: Mapping[str, str], body: Any, path: str) -> Answer:
    if body is not None:
        world.accepted = body["properties"]["accepted"]
    link = "https://terms.example/license"
    return Answer(200, {"id": path, "properties": {"accepted": world.accepted, "licenseTextLink": link}})


_ROUTES: tuple[tuple[str, re.Pattern[str], Handler], ...] = tuple(
    (method, re.compile(pattern, re.I), handler)
    for method, pattern, handler in (
        ("GET", _GROUP, _group),
        ("DELETE", _GROUP, _delete_group),
        ("GET", _GROUP + "/resources", _resources),
        ("GET", _GROUP + r"/providers/microsoft\.authorization/roleassignments", _assignments),
        ("POST", _DEPLOYMENT + "/validate", _validate),
        ("POST", _DEPLOYMENT + "/whatif", _what_if),
        ("PUT", _DEPLOYMENT, _deploy),
        ("GET", _DEPLOYMENT + "/operations", _operations),
        ("GET", _DEPLOYMENT, _deployment),
        ("GET", r"/subscriptions/[^/]+/operationresults/(?P<name>[^/]+)", _pending),
        ("GET", _IMAGE, _images),
        ("GET", _IMAGE + r"/(?P<version>[^/]+)", _image),
        ("GET", _COMPUTE + "/skus", _skus),
        ("GET", _VM + "/vmsizes", _sizes),
        (
            "GET",
            r"/subscriptions/[^/]+/providers/microsoft\.marketplaceordering/.+/agreements/current",
            _agreement,
        ),
        (
            "PUT",
            r"/subscriptions/[^/]+/providers/microsoft\.marketplaceordering/.+/agreements/current",
            _agreement,
        ),
        ("PUT", _SCHEDULE, _put_schedule),
        ("DELETE", _SCHEDULE, _delete_schedule),
        ("PUT", _GROUP + r"/.*providers/microsoft\.authorization/role[a-z]+/[^/]+", _put_right),
        ("PUT", _RESOURCE, _put),
        ("DELETE", _RESOURCE, _delete),
        ("GET", _RESOURCE, _stored),
    )
)
