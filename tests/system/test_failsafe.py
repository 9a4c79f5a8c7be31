"""No bill unseen, with a hand-wound clock: the daemon, the watchdog and Azure's own switch, each alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devsync.core.lease import MARK, STEP
from devsync.core.observation import PROBED, Observation
from devsync.machine.azure_client import AzureClient
from devsync.machine.azure_grant import grant
from devsync.machine.lease import AzureLease
from devsync.ports import NeedsUser
from devsync.probe.ring import Record, Ring
from devsync.probe.sampler import boot, folder
from devsync.probe.watchdog import Watchdog
from devsync.probe.watchdog_azure import METADATA_AT
from devsync.probe.watchdog_verbs import attend
from tests.fakes.arm import GROUP, SUBSCRIPTION, VM_NAME, refusal
from tests.fakes.arm.cloud import Cloud, cloud, refused
from tests.fakes.imds import Imds
from tests.probe.machine import Machine

pytestmark = pytest.mark.timeout(60)

HOUR, AFTER = 3600.0, 2700.0
GROUP_ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
VM_ID = f"{GROUP_ID}/providers/Microsoft.Compute/virtualMachines/{VM_NAME}"
MIDNIGHT = 1_790_000_000.0 - 1_790_000_000.0 % 86400


@dataclass
class Layers:
    """A VM that runs, its watchdog, and the lease as the daemon holds it; one clock for all of them."""

    azure: Cloud
    imds: Imds
    view: Machine
    watchdog: Watchdog | None
    lease: AzureLease

    def taken(self) -> AzureLease:
        lease = AzureLease(AzureClient(self.azure.settings), take=True, wall=self.azure.world.now)
        self.azure.opened.callback(lease.close)
        return lease

    def daemon_is_there(self) -> None:
        """What a living daemon does, for the two layers behind it."""
        self.lease.renew(3 * HOUR)
        order = {
            "after": AFTER,
            "thresholds": {},
            "modes": {},
            "lease": 3 * HOUR,
            "root": "~/work",
            "vm": VM_ID.lower(),
            "endpoint": self.azure.settings.endpoint,
            "audience": "https://management.azure.com",
            "certificates": Path(self.azure.settings.ca_bundle or "").read_text(),
            "keep": 0,
        }
        attend(self.view, {"project": "0123abcd", "order": order})

    def report(self) -> Any:
        return attend(self.view, {"project": "0123abcd", "order": None})

    def wait(self, seconds: float, cpu: float = 0.0) -> None:
        """Time passes for the cloud, the machine and its watchdog."""
        for _ in range(int(seconds / 60)):
            self.azure.world.pass_time(60)
            self.view.pass_by(60)
            if self.azure.vm.power != "running":
                return
            if self.watchdog is None:
                continue
            seen = tuple(Observation(name, cpu if name == "cpu" else 0.0, "some") for name in PROBED)
            Ring(folder(self.view)).append(Record("b", self.view.monotonic(), self.view.wall(), seen))
            self.watchdog.turn()

    def schedule(self) -> dict[str, Any]:
        found: dict[str, Any] = self.azure.world.estate.resources[self.lease.id.lower()]
        return found


@pytest.fixture
def layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Layers]:
    with ExitStack() as stack:
        azure = stack.enter_context(cloud(tmp_path, monkeypatch, caplog))
        imds = stack.enter_context(Imds(VM_ID))
        azure.vm.power, azure.world.clock = "running", MIDNIGHT + 22 * HOUR
        view = Machine(tmp_path / "vm", {METADATA_AT: imds.url})
        view.now, view.uptime = azure.world.now(), 10 * HOUR
        view.write("proc/sys/kernel/random/boot_id", "b\n")
        watchdog = Watchdog(view, folder(view), lambda: boot(view), lambda body: body())
        lease = AzureLease(AzureClient(azure.settings), wall=azure.world.now)
        stack.callback(lease.close)
        made = Layers(azure, imds, view, watchdog, lease)
        yield made


def test_each_layer_alone_ends_the_bill(layers: Layers) -> None:
    azure = layers.azure
    # The daemon: it lets the machine go itself.
    layers.daemon_is_there()
    azure.deallocate()
    assert azure.vm.power == "deallocated"

    # The daemon is killed: a training goes on through the night, and ends; then the watchdog acts.
    azure.world.put(azure.vm, "running")
    layers.daemon_is_there()
    layers.wait(9 * HOUR, cpu=90.0)
    assert azure.vm.power == "running", "nine hours are three leases: the watchdog has pushed it"
    layers.wait(AFTER + 300)
    azure.world.wind(3)
    assert azure.vm.power == "deallocated"
    report = layers.report()
    assert report["deallocate"] == {"ok": True, "why": "asked for", "age": report["deallocate"]["age"]}
    assert "cpu" in report["idle"]["why"]

    # The watchdog is dead, too: Azure's switch fires when the lease has run out, whatever runs.
    azure.world.put(azure.vm, "running")
    layers.daemon_is_there()
    layers.watchdog = None
    layers.wait(3 * HOUR - STEP - 120, cpu=90.0)
    assert azure.vm.power == "running"
    layers.wait(STEP + 300, cpu=90.0)
    assert azure.vm.power == "deallocated"
    assert "powerOff" not in azure.world.log


def test_the_lease_is_pushed_over_midnight_and_never_within_the_half_hour(layers: Layers) -> None:
    for _ in range(60):
        held = layers.lease.renew(2 * HOUR)
        assert held.until is not None
        assert held.until - layers.azure.world.now() > 1800
        assert held.note == ""
        layers.watchdog = None
        layers.wait(600)
    assert layers.azure.vm.power == "running"
    assert layers.schedule()["tags"] == {MARK: "nothing"}
    layers.lease.release()
    assert layers.lease.id.lower() not in layers.azure.world.estate.resources
    layers.lease.release()


def test_a_schedule_of_the_users_is_left_alone_until_he_says_so(layers: Layers) -> None:
    layers.lease.renew(2 * HOUR)
    mine = layers.schedule()
    mine["tags"], mine["properties"]["dailyRecurrence"] = {"team": "vision"}, {"time": "1930"}
    before = repr(mine["properties"])
    held = layers.lease.renew(2 * HOUR)
    assert held.until is None
    assert "19:30 UTC daily" in held.note
    assert repr(layers.schedule()["properties"]) == before

    taken = layers.taken()
    assert taken.renew(2 * HOUR).until is not None
    taken.release()
    assert repr(layers.schedule()["properties"]) == before
    assert layers.schedule()["tags"] == {"team": "vision"}


def test_a_clock_that_is_wrong_does_not_move_the_lease(layers: Layers) -> None:
    now = layers.azure.world.now()
    wrong = AzureLease(AzureClient(layers.azure.settings), wall=lambda: now + 5 * HOUR)
    layers.azure.opened.callback(wrong.close)
    held = wrong.renew(2 * HOUR)
    assert held.until == pytest.approx(now + 2 * HOUR, abs=61)
    assert "300 min ahead of Azure's" in held.note


def test_a_lease_that_is_refused_says_why(layers: Layers) -> None:
    layers.azure.world.fault("put_schedule", refusal(403, "AuthorizationFailed", "perform action 'x/write'"))
    error = refused(lambda: layers.lease.renew(2 * HOUR))
    assert type(error) is NeedsUser
    assert "auto-shutdown" in error.message


def test_without_an_identity_it_says_so_and_grant_says_how(layers: Layers) -> None:
    layers.imds.token = None
    layers.daemon_is_there()
    layers.wait(120)
    assert layers.report()["check"]["why"] == "the VM has no managed identity"
    client = AzureClient(layers.azure.settings)
    layers.azure.opened.callback(client.close)
    error = refused(lambda: grant(client, layers.lease.id, layers.azure.lines.append))
    assert "az vm identity assign" in error.hint

    layers.azure.vm.principal = "99999999-0000-0000-0000-000000000000"
    for _ in range(2):  # a second time finds everything there
        grant(client, layers.lease.id, layers.azure.lines.append)
    rights = [one for name, one in layers.azure.world.estate.resources.items() if "authorization" in name]
    assert len(rights) == 3
    (role,) = [one for one in rights if "permissions" in one["properties"]]
    assert (
        "Microsoft.Compute/virtualMachines/deallocate/action"
        in role["properties"]["permissions"][0]["actions"]
    )
    scopes = {one["id"].partition("/providers/Microsoft.Authorization")[0] for one in rights}
    assert scopes == {GROUP_ID, VM_ID, layers.lease.id}


def test_a_copy_of_the_disk_in_another_vm_does_nothing(layers: Layers) -> None:
    layers.daemon_is_there()
    layers.imds.resource_id = VM_ID + "-copy"
    layers.wait(2 * AFTER)
    assert layers.azure.vm.power == "running"
    assert "not the VM" in layers.report()["deallocate"]["why"]


def test_a_refusal_of_azures_is_recorded_and_the_next_try_succeeds(layers: Layers) -> None:
    layers.daemon_is_there()
    layers.azure.world.fault("deallocate", refusal(403, "AuthorizationFailed", "no"))
    layers.wait(AFTER + 600)
    layers.azure.world.wind(3)
    assert layers.azure.vm.power == "deallocated"
    assert layers.azure.world.log.count("deallocate") >= 2


def test_an_answer_that_went_down_with_the_machine_is_no_refusal(layers: Layers) -> None:
    layers.daemon_is_there()
    layers.azure.world.fault("deallocate", None, after=True)
    layers.wait(AFTER + 120)
    layers.azure.world.wind(3)
    assert layers.azure.vm.power == "deallocated"
    assert layers.report()["deallocate"]["ok"]
