"""The main job with a VM of Azure's, by the command line: an ARM endpoint, `az`, and sshd in the VM."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import az
from tests.fakes.arm import GROUP, SUBSCRIPTION, VM_NAME, Arm, Vm, World, refusal
from tests.fakes.sshd import Sshd, free_port
from tests.system.project import Project, tree, wait_for

pytestmark = pytest.mark.timeout(120)

CONFIG = f"""\
[machine]
provider = "azure"

[machine.azure]
subscription_id = "{SUBSCRIPTION}"
resource_group = "{GROUP}"
vm_name = "{VM_NAME}"
endpoint = "{{url}}"
ca_bundle = "{{ca}}"

[ssh]
port = {{port}}
user = "{{user}}"
identity_file = "{{key}}"
known_hosts = "{{known_hosts}}"

[sync]
path = "~/work/project"

[failsafe]
watchdog = false

[[tunnel]]
local = 0
remote = 9

[idle]
after = "never"
"""
QUICK = """\
after = "1500ms"
warn = "300ms"
check = "100ms"

[idle.signals]
cpu = "off"
sessions = "off"
network = "off"
"""
"""Without what anybody else may do on the computer of the tests."""

LOCKED = refusal(
    409, "ScopeLocked", "The scope '/subscriptions/1' cannot perform write operation because ..."
)
FORBIDDEN = refusal(
    403,
    "AuthorizationFailed",
    "The client 'ada@example.org' with object id '1' does not have authorization to perform action "
    "'Microsoft.Compute/virtualMachines/deallocate/action' over scope '/subscriptions/1/x'.",
)


@dataclass
class Azure:
    """A project and the cloud that it works with. `sshd` listens only while the VM runs."""

    project: Project
    world: World
    vm: Vm
    sshd: Sshd
    az: az.Az

    @property
    def there(self) -> Path:
        """The project's folder in the VM."""
        return self.sshd.home / "work" / "project"

    def trust(self) -> None:
        """The VM's key is known, under the name that stays when its address moves."""
        self.sshd.known_hosts.write_text(f"devsync-{self.vm.vm_id} {self.sshd.host_public_key()}\n")

    def idle(self, settings: str) -> None:
        """Another [idle] table, before the start."""
        file = self.project.root / "devsync.toml"
        file.write_text(file.read_text().replace('after = "never"\n', settings))

    def commands(self) -> list[str]:
        """The commands that the cloud was given, in order."""
        return [label for label in self.world.log if label in ("start", "deallocate", "powerOff")]

    def vm_status(self) -> dict[str, Any]:
        """The document of `vm status --json`."""
        status: dict[str, Any] = json.loads(self.project.devsync("vm", "status", "--json").stdout)
        return status

    def runs_nothing(self) -> bool:
        """Whether no daemon runs for the project."""
        self.project.devsync("status", expect=3)
        return True


@pytest.fixture
def azure(tmp_path: Path) -> Iterator[Azure]:
    """A VM that is deallocated."""
    sshd = Sshd(tmp_path / "vm")
    sshd.port = free_port()  # where it will listen; known_hosts is left to the tests
    vm = Vm()
    world = World(vm)
    world.retry_after = 0  # looks follow each other at once
    world.on_start = lambda _: sshd.start()
    world.on_deallocate = lambda _: sshd.stop()
    program = az.install(tmp_path / "bin")
    with Arm(tmp_path, world) as arm:
        text = CONFIG.format(
            url=arm.url,
            ca=arm.ca,
            port=sshd.port,
            user=sshd.user,
            key=sshd.client_key,
            known_hosts=sshd.known_hosts,
        )
        project = Project(tmp_path, text)
        project.environ |= {"PATH": f"{program.folder}:{os.environ['PATH']}", "NO_PROXY": "127.0.0.1"}
        (project.root / "train.py").write_text("print('here')\n")
        try:
            yield Azure(project, world, vm, sshd, program)
        finally:
            project.end()
            sshd.stop()


def test_start_brings_a_deallocated_vm_and_idleness_lets_it_go(azure: Azure) -> None:
    project = azure.project
    azure.trust()
    azure.idle(QUICK)

    project.devsync("start")

    assert azure.commands() == ["start"]
    assert tree(azure.there) == tree(project.root)
    assert azure.vm_status() == {
        "provider": "azure",
        "state": "running",
        "billed": True,
        "host": "127.0.0.1",
    }
    assert project.status()["machine"]["billed"] is True

    wait_for("idle: the VM is let go", lambda: azure.vm.power == "deallocated", pause=0.05)
    wait_for("the daemon knows", lambda: project.status()["machine"]["state"] == "deallocated")
    status = project.status()
    assert (status["state"], status["machine"]["billed"]) == ("offline", False)
    assert status["idle"]["failure"] is None
    assert azure.vm_status()["billed"] is False

    (project.root / "edited.txt").write_text("while it was off\n")
    for command, expected in ((["flush"], 3), (["run", "--", "true"], 125), (["idle"], 0)):
        told = project.devsync(*command, expect=expected)
        assert "deallocated" in told.stderr + told.stdout
    assert azure.commands() == ["start", "deallocate"], "an edit starts nothing"
    assert project.status()["state"] == "offline"

    azure.world.log.clear()
    again = project.devsync("start")
    assert "runs already" in again.stderr
    assert (azure.there / "edited.txt").read_text() == "while it was off\n"
    assert azure.commands() == ["start"]
    assert azure.world.log[-3:] == ["get", "nic", "publicIp"], "its address is asked for anew"

    stopped = project.devsync("stop", "--deallocate")
    assert "the machine is deallocated" in stopped.stderr
    assert azure.commands() == ["start", "deallocate"]
    assert azure.vm.power == "deallocated"
    assert azure.runs_nothing()


def test_an_unknown_host_key_is_shown_and_nothing_is_written(azure: Azure) -> None:
    project = azure.project
    refused = project.devsync("start", expect=3)
    assert azure.sshd.fingerprint() in refused.stderr
    assert "--accept-host-key" in refused.stderr
    assert "billed: devsync vm deallocate" in refused.stderr, "what was started for nothing is named"
    assert not azure.sshd.known_hosts.exists()
    assert not azure.there.exists()
    assert azure.runs_nothing()

    other = "SHA256:" + "A" * 43
    project.devsync("start", f"--accept-host-key={other}", expect=3)
    assert not azure.sshd.known_hosts.exists()

    project.devsync("start", f"--accept-host-key={azure.sshd.fingerprint()}")
    assert azure.sshd.known_hosts.read_text().split()[0] == f"devsync-{azure.vm.vm_id}"
    assert tree(azure.there) == tree(project.root)


def test_a_vm_that_was_made_anew_is_noticed(azure: Azure) -> None:
    project = azure.project
    azure.trust()
    project.devsync("start")
    project.devsync("stop", "--deallocate")
    azure.world.vms[:] = [Vm()]
    azure.sshd.new_host_key()
    told = project.devsync("start", expect=3).stderr
    assert "was made anew since the last connection" in told
    assert azure.sshd.fingerprint() in told


def test_a_changed_host_key_is_refused_whatever_is_accepted(azure: Azure) -> None:
    project = azure.project
    azure.trust()
    before = azure.sshd.known_hosts.read_text()
    azure.sshd.new_host_key()
    refused = project.devsync("start", "--accept-host-key", expect=3)
    for part in ("has changed", azure.sshd.fingerprint(), "nothing was sent", "ssh-keygen -R"):
        assert part in refused.stderr
    assert azure.sshd.known_hosts.read_text() == before
    assert "Accepted publickey" not in azure.sshd.log.read_text()
    assert not azure.there.exists()
    assert azure.runs_nothing()


@pytest.mark.parametrize(("power", "told"), [("deallocated", "start"), ("stopped", "still billed")])
def test_a_vm_that_somebody_stops_is_left_alone(azure: Azure, power: str, told: str) -> None:
    project = azure.project
    azure.trust()
    project.devsync("start")
    azure.world.put(azure.vm, power)
    azure.sshd.stop()
    wait_for("the daemon sees it", lambda: project.status()["machine"]["state"] == power)
    status = project.status()
    assert status["state"] == "offline"
    assert status["machine"]["billed"] is (power == "stopped")
    (project.root / "edited.txt").write_text("while it was off\n")
    project.devsync("flush", "--timeout", "5s", expect=3)
    assert azure.commands() == ["start"], "it is not fought"
    assert told in project.devsync("status").stdout + project.devsync("flush", expect=3).stderr

    project.devsync("start")
    assert azure.commands() == ["start", "start"]
    assert (azure.there / "edited.txt").exists()


def test_a_vm_that_cannot_be_let_go_is_shown_as_billed(azure: Azure) -> None:
    project = azure.project
    azure.trust()
    azure.idle(QUICK)
    azure.world.fault("deallocate", FORBIDDEN)
    azure.world.fault("deallocate", LOCKED, times=2)
    project.devsync("start")
    wait_for("the first refusal is shown", lambda: project.status()["idle"]["failure"] is not None)
    told = project.devsync("status").stdout
    assert "STILL BILLED" in told
    assert "deallocate/action is missing" in told
    assert project.status()["machine"]["billed"] is True

    project.devsync("start")
    wait_for("that is over: it is wanted", lambda: project.status()["idle"]["failure"] is None)
    assert azure.commands() == ["start", "deallocate"]
    assert project.status()["state"] == "watching"

    wait_for("the second refusal is shown", lambda: project.status()["idle"]["failure"] is not None)
    refused = project.devsync("stop", "--deallocate", expect=3)
    assert "a lock on it" in refused.stderr
    assert "until it is deallocated the VM may cost money" in refused.stderr
    assert project.status()["pid"], "the daemon stays, and goes on trying"

    project.devsync("stop", "--deallocate")
    assert azure.vm.power == "deallocated"


def test_what_goes_on_to_cost_is_said_and_a_refusal_that_passes_is_tried_again(azure: Azure) -> None:
    azure.trust()
    azure.project.devsync("start")
    told = azure.project.devsync("stop")
    assert "the machine is running, and billed: devsync vm deallocate" in told.stderr
    busy = refusal(409, "OperationNotAllowed", "An ongoing operation is changing it.", Retry_After="1")
    azure.world.fault("deallocate", busy, times=2)
    azure.project.devsync("vm", "deallocate")
    assert azure.commands() == ["start", "deallocate", "deallocate", "deallocate"]
    assert azure.vm.power == "deallocated"


def test_an_expired_login_asks_for_az_login(azure: Azure) -> None:
    azure.az.fail(az.EXPIRED)
    for command in (["start"], ["vm", "status"]):
        assert "run: az login" in azure.project.devsync(*command, expect=3).stderr
    assert azure.world.log == []
    assert azure.runs_nothing()
