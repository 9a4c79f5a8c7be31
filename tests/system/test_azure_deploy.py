"""vm deploy, destroy, resize, list and allow-my-ip by the command line, against an endpoint on loopback."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devsync.cli.main import main
from tests.fakes import az
from tests.fakes.arm import GROUP, SUBSCRIPTION, Answer, Arm, Vm, World, refusal
from tests.fakes.sshd import free_port
from tests.system.project import Project

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJlYWRlcg== ada@laptop"
CONFIG = f"""\
# a word of the user's
[machine.azure]
subscription_id = "{SUBSCRIPTION}"  # ours
endpoint = "{{url}}"
ca_bundle = "{{ca}}"
price_service = "{{url}}"
address_service = "{{url}}"
"""
KINDS = {
    *("networkSecurityGroups", "virtualNetworks", "publicIPAddresses", "networkInterfaces"),
    *("disks", "virtualMachines", "schedules", "roleDefinitions", "roleAssignments"),
}


@dataclass
class Site:
    """A project whose machine is yet to be made, and the cloud."""

    project: Project
    world: World
    capture: pytest.CaptureFixture[str]

    def devsync(self, *words: str, expect: int = 0) -> str:
        """Run it in this process, which has the SDK loaded already; what it told and printed."""
        status = main(["-C", str(self.project.root), *words])
        said = self.capture.readouterr()
        assert status == expect, said.err
        assert "Traceback" not in said.err
        return said.out + said.err

    def deploy(self, *words: str, expect: int = 0) -> str:
        return self.devsync("vm", "deploy", "--location", "westeurope", "--yes", *words, expect=expect)

    def config(self) -> dict[str, Any]:
        return tomllib.loads((self.project.root / "devsync.toml").read_text())

    def kinds(self) -> set[str]:
        return {one["type"].rpartition("/")[2] for one in self.world.estate.resources.values()}

    def resource(self, kind: str) -> dict[str, Any]:
        (found,) = (
            one for one in self.world.estate.resources.values() if one["type"].rpartition("/")[2] == kind
        )
        return found


@pytest.fixture
def site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Site]:
    world = World(Vm())
    world.retry_after = 0
    program = az.install(tmp_path / "bin")
    with Arm(tmp_path, world) as arm:
        project = Project(tmp_path, CONFIG.format(url=arm.url, ca=arm.ca))
        project.environ |= {"PATH": f"{program.folder}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}
        (project.home / ".ssh").mkdir()
        (project.home / ".ssh" / "id_ed25519.pub").write_text(KEY + "\n")
        for name, value in project.environ.items():
            monkeypatch.setenv(name, value)
        yield Site(project, world, capsys)


def test_a_machine_is_made_written_down_and_removed(site: Site) -> None:
    words = ("vm", "deploy", "--location", "westeurope", "--yes", "--disk", "512GiB", "--name", "box")
    told = site.project.devsync(*words).stderr
    for part in (
        "box: Standard_NC4as_T4_v3 in westeurope (4 processors, 28 GiB, 1 GPU)",
        "0.526 USD an hour",
        "19.20 USD a month",
        "2204-gen2:25.05.19",
        "SSH (port 22) from 127.0.0.1/32 only",
        "made virtualMachines box",
    ):
        assert part in told
    assert site.kinds() == KINDS
    assert site.world.log.index("validate") < site.world.log.index("what_if") < site.world.log.index("deploy")
    azure = site.config()["machine"]["azure"]
    assert (azure["vm_name"], azure["resource_group"]) == ("box", "devsync-box")
    assert "# a word of the user's" in (site.project.root / "devsync.toml").read_text()
    assert json.loads(site.devsync("vm", "status", "--json"))["state"] == "running"

    again = site.deploy()
    assert "box is there" in again
    assert site.world.log.count("deploy") == 1, "what is there is not made again"

    assert "nothing was deleted" in site.devsync("vm", "destroy", "--yes", "bax", expect=2)
    assert "nobody is there" in site.devsync("vm", "destroy", expect=2)
    assert site.kinds() == KINDS
    gone = site.devsync("vm", "destroy", "--yes", "box")
    assert "nothing of it is left that costs money" in gone
    assert not site.world.estate.resources
    assert not site.world.estate.groups
    assert [vm.name for vm in site.world.vms] == ["dev-vm"], "what devsync did not make stays"
    assert "nothing is there" in site.devsync("vm", "destroy", "--yes", "box")


def test_what_is_made_is_as_narrow_as_it_can_be(site: Site) -> None:
    site.deploy("--name", "box", "--spot")
    rule = site.resource("networkSecurityGroups")["properties"]["securityRules"]
    assert [
        (one["properties"]["sourceAddressPrefix"], one["properties"]["destinationPortRange"]) for one in rule
    ] == [("127.0.0.1/32", "22")]
    vm = site.resource("virtualMachines")
    assert "plan" not in vm
    assert vm["properties"]["priority"] == "Spot"
    assert vm["properties"]["billingProfile"] == {"maxPrice": -1}
    linux = vm["properties"]["osProfile"]["linuxConfiguration"]
    assert linux["disablePasswordAuthentication"] is True
    assert linux["ssh"]["publicKeys"][0]["keyData"] == KEY
    role = site.resource("roleDefinitions")["properties"]
    assert role["assignableScopes"] == [f"/subscriptions/{SUBSCRIPTION}/resourceGroups/devsync-box"]
    assert not [action for action in role["permissions"][0]["actions"] if "*" in action]
    assigned = [
        one for one in site.world.estate.resources.values() if one["type"].endswith("roleAssignments")
    ]
    assert {one["properties"]["principalId"] for one in assigned} == {vm["identity"]["principalId"]}
    assert {one["scope"].rpartition("/")[2] for one in assigned} == {"box", "shutdown-computevm-box"}
    assert site.resource("schedules")["name"] == "shutdown-computevm-box"
    assert site.resource("schedules")["properties"]["status"] == "Enabled"
    assert "disks" in site.kinds(), "the system's"


def test_a_failed_deployment_goes_on_where_it_ended(site: Site) -> None:
    site.world.estate.failure = ("Microsoft.Compute/virtualMachines", "AllocationFailed", "No capacity here.")
    told = site.deploy("--name", "box", expect=3)
    assert "no room" in told
    assert "another --size" in told
    assert site.config()["machine"]["azure"]["vm_name"] == "box", "it is known before it may cost money"
    assert "virtualMachines" not in site.kinds()

    site.world.images.append("25.06.18")
    site.deploy()
    assert site.kinds() == KINDS
    site.world.estate.deployments.clear()
    site.world.images.append("25.07.01")
    assert "25.06.18" in site.deploy(), "the image of a VM that is there stays"
    others = site.devsync("vm", "deploy", "--yes", "--size", "Standard_D2s_v5", expect=2)
    assert "devsync vm resize Standard_D2s_v5" in others


def test_a_deployment_that_goes_on_is_watched(site: Site) -> None:
    site.world.fault("deployment", refusal(403, "AuthorizationFailed", "no action 'a/b' here"), times=3)
    site.deploy("--name", "box", expect=3)
    site.world.faults.clear()
    site.world.fault("deploy", None, after=True)
    site.deploy()
    assert site.kinds() == KINDS
    assert site.world.log.count("deploy") == 2, "the answer was lost, and it was active already"


def test_an_existing_group_and_a_purchase_plan(site: Site) -> None:
    site.world.image_plan = {"name": "p", "publisher": "microsoft-dsvm", "product": "ubuntu-2204"}
    told = site.deploy("--name", "box", "--resource-group", GROUP, "--no-identity")
    assert "(is there already)" in told
    assert "https://terms.example/license" in told
    assert site.world.accepted
    assert site.resource("virtualMachines")["plan"] == site.world.image_plan
    assert site.resource("virtualMachines")["identity"] == {"type": "None"}
    assert not site.kinds() & {"roleDefinitions", "roleAssignments"}
    others = "/subscriptions/s/resourceGroups/science/providers/Microsoft.Storage/storageAccounts/data"
    others = others.replace("/s/", f"/{SUBSCRIPTION}/")
    site.world.estate.resources[others.lower()] = {
        **{"id": others, "type": "Microsoft.Storage/storageAccounts", "location": "x", "properties": {}}
    }
    gone = site.devsync("vm", "destroy", "--yes", "box")
    assert "not devsync's, left alone: storageaccounts data" in gone
    assert site.kinds() == {"storageAccounts"}


def test_a_removal_that_was_cut_off_is_finished_by_the_next(site: Site) -> None:
    site.deploy("--name", "box", "--disk", "64GiB")
    locked = refusal(409, "ScopeLocked", "The scope '/subscriptions/1' cannot perform delete operation.")
    site.world.fault("delete", refusal(429, "TooManyRequests", "Slow down.", Retry_After="0"))
    site.world.fault("delete", locked)
    told = site.devsync("vm", "destroy", "--yes", "box", expect=3)
    assert "a lock on it" in told
    assert "what is left may cost money" in told
    assert "virtualMachines" in site.kinds()
    site.world.fault("delete", Answer(204), times=99)
    left = site.devsync("vm", "destroy", "--yes", "box", expect=1)
    assert "still there: " in left
    assert "may cost money" in left
    site.world.faults.clear()
    site.devsync("vm", "destroy", "--yes", "box")
    assert not site.world.estate.resources


REFUSED = {
    "a VM of somebody's": (["--name", "dev-vm", "--resource-group", GROUP], 3, "devsync did not make"),
    "no such size": (["--size", "Standard_X"], 2, "there is no size Standard_X"),
    "a size that is not for us": (["--size", "Standard_ND96isr_H100_v5"], 3, "may not use"),
    "no key": (["--key", "nothing"], 3, "there is no public key"),
    "an odd address": (["--address", "here"], 2, "is no IPv4 address"),
    "an odd disk": (["--disk", "3KiB"], 2, "is not a number of GiB"),
    "an odd name": (["--name", "my_vm"], 2, "is no name for a VM"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_made(site: Site, case: str) -> None:
    words, status, sentence = REFUSED[case]
    before = (site.project.root / "devsync.toml").read_text()
    assert sentence in site.deploy(*words, expect=status)
    assert "deploy" not in site.world.log
    assert (site.project.root / "devsync.toml").read_text() == before


def test_nobody_is_there_to_be_asked_and_azure_finds_fault(site: Site) -> None:
    told = site.devsync("vm", "deploy", "--location", "westeurope", expect=2)
    assert "--yes" in told
    assert "missing: --location" in site.devsync("vm", "deploy", expect=2)
    inner = {"code": "QuotaExceeded", "message": "Not enough cores.", "details": []}
    wrong = {"code": "InvalidTemplateDeployment", "message": "Not valid.", "details": [inner]}
    site.world.fault("validate", Answer(400, {"error": wrong}))
    assert "quota is used up: Not enough cores" in site.deploy(expect=3)
    assert "deploy" not in site.world.log


def test_a_project_without_a_file_gets_one(site: Site) -> None:
    path = site.project.root / "devsync.toml"
    user = Path(site.project.environ["XDG_CONFIG_HOME"]) / "devsync" / "config.toml"
    user.parent.mkdir(parents=True)
    path.rename(user)
    site.deploy("--subscription-id", SUBSCRIPTION)
    assert site.config()["machine"]["azure"]["vm_name"] == "project"
    assert "# " in path.read_text()


def test_the_rule_moves_with_the_user(site: Site) -> None:
    site.deploy("--name", "box")
    assert "already" in site.devsync("vm", "allow-my-ip", "--yes")
    site.world.address = "203.0.113.9"
    assert "nobody is there" in site.devsync("vm", "allow-my-ip", expect=2)
    site.devsync("vm", "allow-my-ip", "--yes")
    site.devsync("vm", "allow-my-ip", "--yes", "--address", "203.0.113.7")
    rule = site.resource("networkSecurityGroups")["properties"]["securityRules"][0]
    assert rule["properties"]["sourceAddressPrefix"] == "203.0.113.7/32"
    assert rule["properties"]["destinationPortRange"] == "22"
    site.world.address = "<html>"
    assert "does not tell an IPv4 address" in site.devsync("vm", "allow-my-ip", "--yes", expect=3)


def test_sizes_and_the_list(site: Site) -> None:
    site.deploy("--name", "box")
    assert "only a deallocated one" in site.devsync("vm", "resize", "Standard_NC8as_T4_v3", expect=3)
    site.devsync("vm", "deallocate")
    assert "near to it: Standard_NC8as_T4_v3" in site.devsync("vm", "resize", "Standard_NC8as_T4", expect=2)
    site.devsync("vm", "resize", "standard_nc8as_t4_v3")
    assert "already" in site.devsync("vm", "resize", "Standard_NC8as_T4_v3")
    listed = json.loads(site.devsync("vm", "list", "--json"))
    assert [(one["name"], one["size"], one["state"]) for one in listed] == [
        ("box", "Standard_NC8as_T4_v3", "deallocated"),
        ("dev-vm", "Standard_NC4as_T4_v3", "deallocated"),
    ]
    assert "dev-vm\tscience\twesteurope" in site.devsync("vm", "list")


def test_start_tells_that_the_address_has_changed(site: Site) -> None:
    path = site.project.root / "devsync.toml"
    path.write_text(path.read_text() + f"\n[ssh]\nport = {free_port()}\n")
    site.deploy("--name", "box")
    site.world.address = "203.0.113.9"
    told = site.project.devsync("start", "--timeout", "2s", expect=3).stderr
    assert "Azure lets SSH in from 127.0.0.1/32, and this is 203.0.113.9: devsync vm allow-my-ip" in told
    assert "not synchronised in time" in told


def test_init_finds_the_group_of_a_vm(site: Site) -> None:
    path = site.project.root / "devsync.toml"
    user = Path(site.project.environ["XDG_CONFIG_HOME"]) / "devsync" / "config.toml"
    user.parent.mkdir(parents=True)
    path.rename(user)
    site.devsync("init", "--subscription-id", SUBSCRIPTION, "--vm-name", "DEV-VM")
    azure = site.config()["machine"]["azure"]
    assert (azure["vm_name"], azure["resource_group"]) == ("dev-vm", GROUP)
    assert json.loads(site.devsync("vm", "status", "--json"))["state"] == "deallocated"
