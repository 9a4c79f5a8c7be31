"""The loopback endpoint against Azure's own examples and recordings, and against the SDK's own pollers."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.mgmt.compute import ComputeManagementClient

from devsync.machine.azure import AzureMachine, AzureSettings
from devsync.ports import Power
from tests.fakes.arm import GROUP, SUBSCRIPTION, VM_NAME, Arm, Vm, World
from tests.fakes.arm.routes import Request, answer
from tests.fakes.arm.world import Answer
from tests.fakes.az import install

DATA = Path(__file__).parent.parent / "data" / "azure"
BASE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers"
VM = f"{BASE}/Microsoft.Compute/virtualMachines/{VM_NAME}"


def examples(*names: str) -> list[Any]:
    """The bodies of successful answers in the files."""
    bodies = []
    for name in names:
        file = json.loads((DATA / name).read_text())
        if "responses" in file:
            bodies.append(file["responses"]["200"]["body"])
        else:
            bodies += [entry["response"]["body"] for entry in file["interactions"]]
    return [body for body in bodies if body is not None]


def ask(world: World, path: str, method: str = "GET", **query: str) -> Answer:
    headers = {"authorization": "Bearer t"}
    given = answer(world, "https://127.0.0.1", Request(method, path, {"api-version": "1"} | query, headers))
    assert given is not None
    return given


def strange(sent: Any, known: list[Any], path: str = "") -> list[str]:
    """Where `sent` has a key or a JSON type that none of `known` has."""
    alike = [example for example in known if type(example) is type(sent)]
    if not alike:
        return [f"{path}: {sent!r}"]
    if isinstance(sent, dict):
        return [
            problem
            for key, value in sent.items()
            for problem in strange(value, [entry[key] for entry in alike if key in entry], f"{path}.{key}")
        ]
    if isinstance(sent, list):
        items = [item for example in alike for item in example]
        return [problem for value in sent for problem in strange(value, items, f"{path}[]")]
    return []


@pytest.mark.parametrize("power", ["running", "deallocated", "starting"])
@pytest.mark.parametrize(
    ("path", "query", "files"),
    [
        (f"{VM}/instanceView", {}, ["instance_view.json"]),
        (VM, {}, ["get.json", "recorded_get_deallocated.json"]),
        (VM, {"$expand": "instanceView"}, ["get.json", "recorded_get_deallocated.json"]),
        (f"{BASE}/Microsoft.Network/networkInterfaces/{VM_NAME}VMNic", {}, ["network_interface.json"]),
        (
            f"{BASE}/Microsoft.Network/publicIPAddresses/{VM_NAME}PublicIP",
            {},
            ["public_ip.json", "recorded_public_ip.json"],
        ),
    ],
)
def test_answers_have_the_shape_of_the_examples(
    path: str, query: dict[str, str], files: list[str], power: str
) -> None:
    given = ask(World(Vm(power=power)), path, **query)
    known = examples(*files)
    if "$expand" in query:
        known += [{"properties": {"instanceView": view}} for view in examples("instance_view.json")]
    assert given.status == 200
    assert strange(given.body, known) == []


def test_a_shape_that_azure_does_not_have_is_noticed() -> None:
    known = examples("instance_view.json")
    assert strange({"statuses": [{"code": 1}]}, known) == [".statuses[].code: 1"]
    assert strange({"powerState": "running"}, known) == [".powerState: 'running'"]


def test_a_list_has_the_shape_of_its_members() -> None:
    given = ask(World(Vm()), f"{BASE}/Microsoft.Compute/virtualMachines")
    assert isinstance(given.body, dict)
    assert set(given.body) == {"value"}
    assert [problem for vm in given.body["value"] for problem in strange(vm, examples("get.json"))] == []


def test_an_operation_is_answered_as_it_was_recorded() -> None:
    recorded = json.loads((DATA / "recorded_deallocate.json").read_text())["interactions"]
    world = World(Vm(power="running"))
    accepted = ask(world, f"{VM}/deallocate", "POST")
    assert accepted.status == recorded[0]["response"]["status"] == 202
    assert accepted.body is None
    headers = {name.lower() for name in accepted.headers}
    assert headers == {"azure-asyncnotification", "azure-asyncoperation", "location"}
    assert headers <= set(recorded[0]["response"]["headers"])
    assert 3000 < len(accepted.headers["Azure-AsyncOperation"]) < 4096
    assert "&monitor=true&" in accepted.headers["Location"]

    seen: list[str] = []
    known = examples("recorded_deallocate.json")
    with_query = accepted.headers["Azure-AsyncOperation"].removeprefix("https://127.0.0.1")
    path, _, query = with_query.partition("?")
    while not seen or seen[-1] == "InProgress":
        body = ask(world, path, **dict(pair.split("=", 1) for pair in query.split("&"))).body
        assert isinstance(body, dict)
        assert strange(body, known) == []
        seen.append(body["status"])
    assert seen[0] == "InProgress"
    assert seen[-1] == "Succeeded"
    assert ask(world, path, p="cut").status == 403


SUB = f"/subscriptions/{SUBSCRIPTION}"
IMAGES = (
    f"{SUB}/providers/Microsoft.Compute/locations/x/publishers/microsoft-dsvm/artifacttypes/vmimage"
    "/offers/ubuntu-2204/skus/2204-gen2/versions"
)
TERMS = f"{SUB}/providers/Microsoft.MarketplaceOrdering/offerTypes/virtualmachine/x/agreements/current"
DEPLOYMENT = f"{BASE}/Microsoft.Resources/deployments/d"


@pytest.mark.parametrize(
    ("path", "file"),
    [
        (f"{SUB}/providers/Microsoft.Compute/skus", "skus.json"),
        (f"{VM}/vmSizes", "sizes.json"),
        (IMAGES, "images.json"),
        (f"{IMAGES}/25.05.19", "image.json"),
        (TERMS, "terms.json"),
    ],
)
def test_what_is_on_offer_has_the_shape_of_the_examples(path: str, file: str) -> None:
    world = World(Vm())
    world.image_plan = {"name": "a", "publisher": "b", "product": "c"}
    known = examples(file)
    if file == "skus.json":
        limit = {"type": "Location", "values": [""], "reasonCode": ""}
        known.append({"value": [{"restrictions": [limit]}]})
    given = ask(world, path, **{"$filter": "location eq 'x'"})
    assert given.status == 200
    assert strange(given.body, known) == []


def settled(world: World, given: Answer) -> Answer:
    """What an answer leads to."""
    while given.status == 202:
        given = ask(world, given.headers["Location"].removeprefix("https://127.0.0.1").partition("?")[0])
    return given


def test_a_deployment_has_the_shape_of_the_examples() -> None:
    world = World(Vm())
    rules = {"securityRules": [{"name": "ssh", "properties": {"access": "Allow"}}]}
    group = {"type": "Microsoft.Network/networkSecurityGroups", "apiVersion": "2024-01-01", "name": "n"}
    template = {"resources": [group | {"location": "x", "properties": rules}]}
    sent = {"properties": {"mode": "Incremental", "template": template}}

    def put(method: str, path: str, body: object) -> Answer:
        headers = {"authorization": "Bearer t"}
        given = answer(world, "https://127.0.0.1", Request(method, path, {"api-version": "1"}, headers, body))
        assert given is not None
        return settled(world, given)

    assert strange(put("POST", f"{DEPLOYMENT}/validate", sent).body, examples("validate.json")) == []
    assert strange(put("POST", f"{DEPLOYMENT}/whatIf", sent).body, examples("what_if.json")) == []
    assert put("PUT", DEPLOYMENT, sent).status == 201
    while True:
        found = ask(world, DEPLOYMENT).body
        assert isinstance(found, dict)
        assert strange(found, examples("deployment.json")) == []
        if found["properties"]["provisioningState"] == "Succeeded":
            break
    rule = f"{BASE}/Microsoft.Network/networkSecurityGroups/n/securityRules/ssh"
    moved = put("PUT", rule, {"properties": {"access": "Allow", "sourceAddressPrefix": "203.0.113.7/32"}})
    assert strange(moved.body, examples("security_rule.json")) == []
    assert strange(ask(world, rule).body, examples("security_rule.json")) == []


# ---------------------------------------------------------------- with the SDK alone


class Token:
    """A credential that has what is asked for."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken("some-token", 2**31)


@pytest.fixture
def vm() -> Vm:
    return Vm()


@pytest.fixture
def arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vm: Vm) -> Iterator[Arm]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Arm(tmp_path, World(vm)) as made:
        yield made


@pytest.fixture
def client(arm: Arm) -> Iterator[ComputeManagementClient]:
    with ComputeManagementClient(
        Token(), SUBSCRIPTION, base_url=arm.url, connection_verify=arm.ca, retry_total=0, polling_interval=0
    ) as made:
        yield made


def test_the_sdks_own_poller_gets_to_the_end(arm: Arm, vm: Vm, client: ComputeManagementClient) -> None:
    client.virtual_machines.begin_start(GROUP, VM_NAME).result(10)
    assert vm.power == "running"
    client.virtual_machines.begin_power_off(GROUP, VM_NAME).result(10)
    assert vm.power == "stopped"
    client.virtual_machines.begin_deallocate(GROUP.upper(), VM_NAME.upper()).result(10)
    assert vm.power == "deallocated"
    assert [found.name for found in client.virtual_machines.list(GROUP)] == [VM_NAME]
    assert arm.world.log.count("operation") >= 6


def test_the_sdks_own_poller_sees_the_failure(arm: Arm, vm: Vm, client: ComputeManagementClient) -> None:
    arm.world.outcome = ("Failed", "AllocationFailed", "We do not have sufficient capacity.")
    with pytest.raises(HttpResponseError) as caught:
        client.virtual_machines.begin_start(GROUP, VM_NAME).result(10)
    assert (caught.value.status_code, caught.value.error and caught.value.error.code) == (
        200,
        "AllocationFailed",
    )
    assert vm.power == "deallocated"
    arm.world.by_polls = False
    client.virtual_machines.begin_start(GROUP, VM_NAME, polling=False)
    with pytest.raises(ResourceExistsError):
        client.virtual_machines.begin_deallocate(GROUP, VM_NAME, polling=False)
    arm.world.wind(3)
    assert vm.power == "running"


def test_closing_ends_every_connection_and_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with Arm(tmp_path, World(Vm())) as arm:
        address = ("127.0.0.1", int(arm.url.rpartition(":")[2]))
        context = ssl.create_default_context(cafile=arm.ca)
        idle = context.wrap_socket(socket.create_connection(address), server_hostname="127.0.0.1")
        silent = socket.create_connection(address)
    assert set(threading.enumerate()) == before
    idle.close()
    silent.close()


# ---------------------------------------------------------------- as a process


def test_as_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'bin').folder}:{os.environ['PATH']}")
    state, mark = tmp_path / "state.json", tmp_path / "mark"
    state.write_text(json.dumps({"vms": [{"name": "box", "public_ip": "127.0.0.7", "power": "stopped"}]}))
    options = ["--state", str(state), "--pace", "0", "--on-start", f"echo $DEVSYNC_VM > '{mark}'"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.arm", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            hello = json.loads(process.stdout.readline())
            settings = AzureSettings(SUBSCRIPTION, GROUP, "box", "cli", hello["url"], hello["ca"])
            machine = AzureMachine(settings, interval=0.01)
            machine.start(threading.Event(), lambda line: None)
            assert machine.power() is Power.RUNNING
            assert machine.address().host == "127.0.0.7"
            machine.close()
            assert mark.read_text() == "box\n"
            assert json.loads(state.read_text())["vms"][0]["power"] == "running"
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
