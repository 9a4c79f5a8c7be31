"""The published template: its form, what each of its resources holds, and the plan that fills it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it ships none
import pytest

from devsync.machine.azure_destroy import _ORDER, kind_of
from devsync.machine.azure_plan import Plan, Prices, body, described, parameters, template
from devsync.ports import Misuse
from tests.fakes.arm import SUBSCRIPTION, World
from tests.system.test_arm_endpoint import examples, strange

DATA = Path(__file__).parent.parent / "data" / "azure"
PLAN = Plan(
    subscription_id=SUBSCRIPTION,
    resource_group="group",
    name="box",
    location="westeurope",
    size="Standard_NC4as_T4_v3",
    user="ada",
    public_key="ssh-ed25519 AAAA ada",
    source="203.0.113.7/32",
    image_version="25.05.19",
    disk_gib=512,
    spot=True,
    shutdown="1930",
    purchase={"name": "p", "publisher": "q", "product": "r"},
)
TYPES = {"string", "securestring", "int", "bool", "object", "secureObject", "array"}


def inner() -> dict[str, Any]:
    found: dict[str, Any] = template()["resources"][1]["properties"]["template"]
    return found


@pytest.mark.parametrize("which", [template, inner])
def test_it_has_the_form_of_a_template(which: Any) -> None:
    found = which()
    assert {"$schema", "contentVersion", "resources"} <= set(found)
    assert set(found) <= {"$schema", "contentVersion", "metadata", "parameters", "resources", "outputs"}
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", found["contentVersion"])
    assert {one["type"] for one in found["parameters"].values()} <= TYPES
    for one in found["resources"]:
        assert {"type", "apiVersion", "name"} <= set(one)
        assert re.fullmatch(r"[\w.]+/\w+", one["type"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", one["apiVersion"])


def test_every_parameter_is_given_declared_and_used() -> None:
    whole, below = template(), inner()
    assert set(parameters(PLAN)) == set(whole["parameters"])
    nested = whole["resources"][1]["properties"]
    assert set(nested["parameters"]) == set(below["parameters"])
    text = json.dumps(below["resources"]) + json.dumps(below["outputs"])
    assert set(re.findall(r"parameters\('(\w+)'\)", text)) == set(below["parameters"])
    assert all(one["metadata"]["description"] for one in whole["parameters"].values())


def test_into_a_group_that_is_there_goes_the_inner_part() -> None:
    sent = body(replace(PLAN, new_group=False))
    assert "location" not in sent
    assert sent["properties"]["template"] == inner()
    assert "resourceGroup" not in sent["properties"]["parameters"]
    assert body(PLAN)["location"] == "westeurope"


@pytest.fixture(scope="module")
def made() -> dict[str, dict[str, Any]]:
    """Every resource of the plan by its type, each with what its expressions mean."""
    estate = World().estate
    deployment = estate.deploy("/deployments/d", SUBSCRIPTION, "", body(PLAN))
    while deployment.state == "Running":
        estate.step(deployment)
    return {one["type"]: one for one in estate.resources.values() if one.get("apiVersion")}


def closed(node: Any) -> Any:
    """A definition in which an object may hold nothing that is not named."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: closed(one) for key, one in node.items()}
    if (
        isinstance(node.get("properties"), dict)
        and "additionalProperties" not in node
        and "allOf" not in node
    ):
        found["additionalProperties"] = False
    return found


@pytest.mark.parametrize(
    ("kind", "definition"),
    [
        ("Microsoft.Compute/virtualMachines", "VirtualMachineProperties"),
        ("Microsoft.DevTestLab/schedules", "ScheduleProperties"),
    ],
)
def test_what_it_makes_is_as_the_official_definitions_have_it(
    made: dict[str, dict[str, Any]], kind: str, definition: str
) -> None:
    known = json.loads((DATA / "definitions.json").read_text())
    schema = closed(known) | {"$ref": f"#/definitions/{definition}"}
    checker = jsonschema.Draft4Validator(schema)
    assert [
        f"{list(error.path)}: {error.message}" for error in checker.iter_errors(made[kind]["properties"])
    ] == []
    wrong = made[kind]["properties"] | {"hardwarProfile": {}, "status": 3}
    assert list(checker.iter_errors(wrong)), "a misspelt key is noticed"


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("networkSecurityGroups", ["network_security_group.json", "security_rule.json"]),
        ("publicIPAddresses", ["public_ip.json", "public_ip_create.json", "recorded_public_ip.json"]),
        ("networkInterfaces", ["network_interface.json", "network_security_group.json"]),
    ],
)
def test_the_network_is_as_in_the_examples(
    made: dict[str, dict[str, Any]], kind: str, files: list[str]
) -> None:
    (found,) = (one for type_, one in made.items() if type_.endswith(kind))
    known = [one["properties"] for one in examples(*files)]
    known.append({"networkSecurityGroup": {"id": ""}, "securityRules": [{"properties": {"description": ""}}]})
    assert strange(found["properties"], known) == []


def test_destroy_knows_every_kind_and_its_version(made: dict[str, dict[str, Any]]) -> None:
    assert {type_.lower(): one["apiVersion"] for type_, one in made.items()} == dict(_ORDER)
    assert kind_of("/subscriptions/s/resourceGroups/g/providers/A.B/c/d/providers/M.N/o/p") == "m.n/o"


@pytest.mark.parametrize(
    "wrong",
    [
        *({"name": name} for name in ("", "-a", "a_b", "x" * 60)),
        *({"user": user} for user in ("root", "Ada", "a b")),
        *({"public_key": key} for key in ("", "ecdsa-sha2-nistp256 AAAA")),
        {"resource_group": "a/b"},
    ],
)
def test_what_azure_would_refuse_is_refused_at_once(wrong: dict[str, str]) -> None:
    PLAN.check()
    with pytest.raises(Misuse):
        replace(PLAN, **wrong).check()  # type: ignore[arg-type]  # all of them are texts


def test_prices_are_told_where_they_are_known() -> None:
    known = {item.name: item.price for item in described(PLAN, Prices("EUR", 0.5, {256: 18.0}, 0.004), "")}
    assert known["machine"] == "0.500 EUR an hour while it is not deallocated"
    assert known["system disk"].startswith("18.00 EUR a month")
    assert known["data disk"] == "price unknown"
    assert known["address"].startswith("2.92 EUR a month")
    offline = [item.price for item in described(PLAN, Prices(), "") if item.price]
    assert all("unknown" in price for price in offline)
