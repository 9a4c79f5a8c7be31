"""Makes the machine of a plan: looks at what is there, lets Azure check the plan, and deploys it.

A deployment goes on at Azure whoever watches it, and doing it again changes nothing that is right. So there
is nothing to remember: whoever comes back finds the deployment by its name, watches it or begins it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from devsync.machine.azure_client import AzureClient, Reply, word
from devsync.machine.azure_errors import Kind, Trouble
from devsync.machine.azure_operation import Pace, failure, finish
from devsync.machine.azure_plan import OFFER, PUBLISHER, SKU, TAG, Plan, body
from devsync.ports import Misuse, NeedsUser, Progress, Unavailable

GROUPS_API = "2021-04-01"
_DEPLOYMENTS_API = "2024-03-01"
_VM_API = "2024-03-01"
_TERMS_API = "2021-01-01"
_DOING = "deploy"
_CHECKING = "check the plan for"
_ACTIVE = ("Accepted", "Running", "Creating", "Updating", "Ready", "NotSpecified")


@dataclass(frozen=True)
class Survey:
    """What was found at Azure: the plan as it can be carried out, and what people should know of it.

    `finished`: the machine is there, whole. `terms` is where the image's terms are to be read, if they have
    to be accepted.
    """

    plan: Plan
    size: str
    finished: bool
    terms: str | None = None


def survey(client: AzureClient, plan: Plan) -> Survey:
    """Look at what is there, at the image and at the size. Raises Misuse or NeedsUser for what cannot be."""
    plan.check()
    group = client.send("GET", f"{_group(plan)}?api-version={GROUPS_API}", doing=_DOING, allow=(404,))
    if group.status == 404 and group.body.get("error", {}).get("code") == "SubscriptionNotFound":
        raise NeedsUser(f"there is no subscription {plan.subscription_id}, or this account does not see it")
    plan = replace(plan, new_group=group.status == 404)
    if not plan.location:
        plan = replace(plan, location=group.body.get("location", ""))
    if not plan.location:
        raise Misuse("missing: --location", hint="where the machine shall be: --location westeurope")
    plan, there = _as_it_is(client, plan)
    if not there:
        plan = replace(plan, image_version=_newest_image(client, plan))
    plan = replace(plan, purchase=_purchase(client, plan))
    finished = there and _state(client, _group(plan), plan.deployment) == "Succeeded"
    return Survey(plan, _capabilities(client, plan), finished, _terms(client, plan))


def check(client: AzureClient, plan: Plan, pace: Pace) -> list[tuple[str, str]]:
    """Let Azure check the plan: the changes that it would make, as (kind, resource). Raises DevsyncError."""
    commands, sent = client.deployments.deployments, body(plan)
    at_group = (plan.resource_group, plan.deployment, sent)
    at_subscription = (plan.outer_deployment, sent)
    steps: list[tuple[Callable[..., Any], tuple[object, ...]]] = [
        (commands.begin_validate, at_group),
        (commands.begin_what_if, at_group),
    ]
    if plan.new_group:
        steps = [
            (commands.begin_validate_at_subscription_scope, at_subscription),
            (commands.begin_what_if_at_subscription_scope, at_subscription),
        ]
    found = Reply(200)
    for command, arguments in steps:
        begun = client.begin(command, *arguments, doing=_CHECKING)
        found = finish(client, begun, pace, doing=_CHECKING)
        if found.body.get("error"):
            raise failure(client, found, _CHECKING).error
    changes = (found.body.get("properties") or {}).get("changes") or []
    return [(one["changeType"], one["resourceId"]) for one in changes]


def deploy(client: AzureClient, plan: Plan, pace: Pace, progress: Progress) -> None:
    """Make it, or go on watching how it is made; return when all is there. Raises DevsyncError."""
    _accept_terms(client, plan)
    until = pace.until()
    deployment = _active(client, plan)
    if deployment:
        progress(f"{plan.name} is being deployed already: watching it")
    while deployment is None:
        try:
            deployment = _begin(client, plan)
        except Trouble as trouble:
            if not trouble.kind.passing or trouble.kind.away:
                raise trouble.error from None
            progress(trouble.error.message)
            pause = pace.interval if trouble.retry_after is None else trouble.retry_after
            pace.wait(pause, until, f"deploying {plan.name}")
            # RACE: an answer that got lost leaves open whether it began. Beginning it again does no harm.
            deployment = _active(client, plan)
    _watch(client, plan, deployment, pace, progress)


def _active(client: AzureClient, plan: Plan) -> str | None:
    """The deployment of this plan that is on its way, if there is one."""
    outer = f"/subscriptions/{plan.subscription_id}"
    for scope, name in ((_group(plan), plan.deployment), (outer, plan.outer_deployment)):
        if _state(client, scope, name) in _ACTIVE:
            return f"{scope}{_DEPLOYMENT.format(name)}"
    return None


def _begin(client: AzureClient, plan: Plan) -> str:
    commands, sent = client.deployments.deployments, body(plan)
    if plan.new_group:
        command = commands.begin_create_or_update_at_subscription_scope
        client.begin(command, plan.outer_deployment, sent, doing=_DOING)
        return f"/subscriptions/{plan.subscription_id}{_DEPLOYMENT.format(plan.outer_deployment)}"
    client.begin(commands.begin_create_or_update, plan.resource_group, plan.deployment, sent, doing=_DOING)
    return f"{_group(plan)}{_DEPLOYMENT.format(plan.deployment)}"


def _watch(client: AzureClient, plan: Plan, deployment: str, pace: Pace, progress: Progress) -> None:
    until, told = pace.until(), set[str]()
    inner = f"{_group(plan)}{_DEPLOYMENT.format(plan.deployment)}/operations"
    while True:
        pause = None
        try:
            found = client.send("GET", _api(deployment), doing=_DOING)
            pause = found.pause
            made = client.send("GET", _api(inner), doing=_DOING, allow=(403, 404))
            for line in _made(made):
                if line not in told:
                    told.add(line)
                    progress(line)
            properties = found.body.get("properties") or {}
            state = properties.get("provisioningState")
            if state == "Succeeded":
                return
            if state in ("Failed", "Canceled"):
                raise failure(client, Reply(200, {"status": state, "error": properties.get("error")}), _DOING)
        except Trouble as trouble:
            if trouble.ended or not trouble.kind.passing:
                raise _explained(trouble) from None
            pause = trouble.retry_after
        pace.wait(pace.interval if pause is None else pause, until, f"deploying {plan.name}")


def _explained(trouble: Trouble) -> Exception:
    error = trouble.error
    if trouble.kind is Kind.CAPACITY:
        error.hint = "deploy it with another --size, or in another --location"
    elif trouble.ended:
        error.hint = f"{error.hint}; devsync vm deploy goes on where it ended, devsync vm destroy removes it"
    return error


def _made(operations: Reply) -> list[str]:
    found = []
    for one in operations.body.get("value") or []:
        properties = one.get("properties") or {}
        target = properties.get("targetResource") or {}
        if target.get("resourceName") and properties.get("provisioningState") == "Succeeded":
            found.append(f"made {target['resourceType'].rpartition('/')[2]} {target['resourceName']}")
    return found


# ---------------------------------------------------------------- looking

_DEPLOYMENT = "/providers/Microsoft.Resources/deployments/{}"


def _group(plan: Plan) -> str:
    return f"/subscriptions/{plan.subscription_id}/resourceGroups/{plan.resource_group}"


def _api(url: str) -> str:
    return f"{url}?api-version={_DEPLOYMENTS_API}"


def _state(client: AzureClient, scope: str, name: str) -> str | None:
    found = client.send("GET", _api(f"{scope}{_DEPLOYMENT.format(name)}"), doing=_DOING, allow=(404,))
    state = (found.body.get("properties") or {}).get("provisioningState")
    return str(state) if state else None


def _as_it_is(client: AzureClient, plan: Plan) -> tuple[Plan, bool]:
    """The plan, changed where a VM that is there cannot be, and whether there is one."""
    if plan.new_group:
        return plan, False
    url = f"{_group(plan)}/providers/Microsoft.Compute/virtualMachines/{plan.name}?api-version={_VM_API}"
    found = client.send("GET", url, doing=_DOING, allow=(404,))
    if found.status == 404:
        return plan, False
    if (found.body.get("tags") or {}).get(TAG) != plan.name:
        raise NeedsUser(
            f"there is a VM '{plan.name}' in {plan.resource_group} that devsync did not make",
            hint="use it as it is: devsync init; or give the new one another --name",
        )
    properties: Mapping[str, Any] = found.body["properties"]
    size = properties["hardwareProfile"]["vmSize"]
    if size.lower() != plan.size.lower():
        raise Misuse(
            f"VM '{plan.name}' is there already and is a {size}",
            hint=f"devsync vm deploy --size {size}, or devsync vm resize {plan.size}",
        )
    if found.body["location"].replace(" ", "").lower() != plan.location.replace(" ", "").lower():
        raise Misuse(f"VM '{plan.name}' is there already, in {found.body['location']}")
    version = properties["storageProfile"]["imageReference"]["version"]
    spot = str(properties.get("priority") or "").lower() == "spot"
    return replace(plan, image_version=version, size=size, spot=spot), True


def _newest_image(client: AzureClient, plan: Plan) -> str:
    with client.translated("find the image for"):
        found = client.compute.virtual_machine_images.list(plan.location, PUBLISHER, OFFER, SKU)
    versions = sorted((one.name for one in found), key=lambda name: [int(part) for part in name.split(".")])
    if not versions:
        raise Unavailable(
            f"the image {PUBLISHER}:{OFFER}:{SKU} is not offered in {plan.location}",
            hint="choose another --location",
        )
    return versions[-1]


def _purchase(client: AzureClient, plan: Plan) -> Mapping[str, str] | None:
    with client.translated("find the image for"):
        found = client.compute.virtual_machine_images.get(
            plan.location, PUBLISHER, OFFER, SKU, plan.image_version
        )
    if found.plan is None:
        return None
    return {"name": found.plan.name, "publisher": found.plan.publisher, "product": found.plan.product}


def _capabilities(client: AzureClient, plan: Plan) -> str:
    """What the size has, in words. Raises Misuse if it is not to be had there."""
    with client.translated("look for the size of"):
        sizes = list(client.compute.resource_skus.list(filter=f"location eq '{plan.location}'"))
    for one in sizes:
        if one.resource_type == "virtualMachines" and (one.name or "").lower() == plan.size.lower():
            break
    else:
        raise Misuse(f"there is no size {plan.size} in {plan.location}", hint="see: az vm list-sizes")
    if any(word(limit.type) == "Location" for limit in one.restrictions or ()):
        raise NeedsUser(
            f"this subscription may not use {plan.size} in {plan.location}",
            hint="choose another --size or --location, or ask for it: see Quotas in the Azure portal",
        )
    has = {entry.name: entry.value for entry in one.capabilities or ()}
    words = [f"{has.get('vCPUs', '?')} processors", f"{has.get('MemoryGB', '?')} GiB"]
    if has.get("GPUs"):
        words.append(f"{has['GPUs']} GPU" + ("" if has["GPUs"] == "1" else "s"))
    return ", ".join(words)


# ---------------------------------------------------------------- the terms of an image that is bought


def _agreement(plan: Plan) -> str:
    purchase = plan.purchase or {}
    return (
        f"/subscriptions/{plan.subscription_id}/providers/Microsoft.MarketplaceOrdering/offerTypes/virtualmachine"
        f"/publishers/{purchase['publisher']}/offers/{purchase['product']}/plans/{purchase['name']}"
        f"/agreements/current?api-version={_TERMS_API}"
    )


def _terms(client: AzureClient, plan: Plan) -> str | None:
    if plan.purchase is None:
        return None
    properties = client.send("GET", _agreement(plan), doing="read the terms for").body["properties"]
    return None if properties.get("accepted") else str(properties.get("licenseTextLink"))


def _accept_terms(client: AzureClient, plan: Plan) -> None:
    if plan.purchase is None:
        return
    url, doing = _agreement(plan), "accept the terms for"
    found = dict(client.send("GET", url, doing=doing).body)
    if not found["properties"].get("accepted"):
        found["properties"] = found["properties"] | {"accepted": True}
        client.send("PUT", url, found, doing=doing)
