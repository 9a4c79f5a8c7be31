"""Azure beyond the power switch: VMs to choose from, deploying, destroying, sizes, the way in for SSH."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from devsync.app.machine import azure_settings
from devsync.config import AzureConfig, Config
from devsync.folders import expand
from devsync.machine import (
    azure_deploy,
    azure_destroy,
    azure_fleet,
    azure_grant,
    azure_network,
    azure_plan,
    azure_web,
)
from devsync.machine.azure_client import AzureClient
from devsync.machine.azure_destroy import Inventory as Inventory  # noqa: PLC0414 - what is confirmed
from devsync.machine.azure_errors import Trouble
from devsync.machine.azure_fleet import Found as Found  # noqa: PLC0414 - what list_vms gives
from devsync.machine.azure_operation import Pace
from devsync.machine.lease import AzureLease
from devsync.ports import Misuse, NeedsUser, Progress

FIRST_SHUTDOWN = timedelta(hours=12)
"""How long after the deployment Azure deallocates for the first time, and from then on daily."""


def _azure(config: Config) -> AzureConfig:
    if config.machine.azure is None or config.machine.provider != "azure":
        raise Misuse(
            f"the machine is not Azure's, but of the provider '{config.machine.provider}'",
            hint='set machine.provider = "azure" in devsync.toml',
        )
    return config.machine.azure


def _web(azure: AzureConfig) -> azure_web.Web:
    bundle = None if azure.ca_bundle is None else str(azure.ca_bundle)
    return azure_web.Web(azure.price_service, azure.address_service, bundle)


@contextmanager
def _client(config: Config) -> Iterator[AzureClient]:
    client = AzureClient(azure_settings(_azure(config)))
    try:
        yield client
    except Trouble as trouble:
        raise trouble.error from None
    finally:
        client.close()


def list_vms(config: Config) -> list[Found]:
    """Every VM of the project's subscription."""
    return azure_fleet.list_machines(azure_settings(_azure(config)))


def resize_vm(config: Config, size: str, progress: Progress) -> None:
    """Give the machine, which must be deallocated, another size."""
    azure_fleet.resize(azure_settings(_azure(config)), size, Pace(), progress)


# ---------------------------------------------------------------- deploy


@dataclass(frozen=True)
class Wish:
    """What a user wants deployed beside what the configuration says; None where nothing is said."""

    size: str
    location: str | None = None
    disk_gib: int = 0
    key: Path | None = None
    address: str | None = None
    spot: bool = False
    identity: bool = True


@dataclass(frozen=True)
class Offer:
    """What would be deployed: the plan, its lines for people, and what Azure says it would change."""

    plan: azure_plan.Plan
    items: list[azure_plan.Item]
    changes: list[tuple[str, str]]
    finished: bool
    terms: str | None


def offer(config: Config, wish: Wish, environ: Mapping[str, str], progress: Progress) -> Offer:
    """Look at what is there and let Azure check the plan; changes nothing. Raises DevsyncError."""
    azure = _azure(config)
    public_key = _public_key(config, wish.key, environ)
    address = checked_address(wish.address) if wish.address else azure_web.own_address(_web(azure))
    shutdown = None
    if config.failsafe.lease is not None:
        shutdown = f"{datetime.now(UTC) + FIRST_SHUTDOWN:%H%M}"
    plan = azure_plan.Plan(
        subscription_id=azure.subscription_id,
        resource_group=azure.resource_group,
        name=azure.vm_name,
        location=wish.location or "",
        size=wish.size,
        user=config.ssh.user or "azureuser",
        public_key=public_key,
        source=f"{address}/32",
        image_version="",
        disk_gib=wish.disk_gib,
        spot=wish.spot,
        identity=wish.identity,
        shutdown=shutdown,
    )
    with _client(config) as client:
        found = azure_deploy.survey(client, plan)
        if found.finished:
            return Offer(found.plan, [], [], finished=True, terms=None)
        progress("Azure checks the plan")
        changes = azure_deploy.check(client, found.plan, Pace())
    disks = tuple({azure_plan.SYSTEM_DISK, wish.disk_gib} - {0})
    prices = azure_web.prices(_web(azure), found.plan.location, found.plan.size, disks, spot=found.plan.spot)
    items = azure_plan.described(found.plan, prices, found.size)
    return Offer(found.plan, items, changes, finished=False, terms=found.terms)


def deploy(config: Config, plan: azure_plan.Plan, progress: Progress) -> None:
    """Make what was offered; returns when all is there."""
    with _client(config) as client:
        azure_deploy.deploy(client, plan, Pace(), progress)


def _public_key(config: Config, named: Path | None, environ: Mapping[str, str]) -> str:
    private = config.ssh.identity_file or expand(Path("~/.ssh/id_ed25519"), config.root, environ)
    path = named or private
    path = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise NeedsUser(
            f"there is no public key {path}: {error.strerror}",
            hint="make one with: ssh-keygen -t ed25519, or name it with --key",
        ) from None
    if "PRIVATE KEY" in text or len(text.splitlines()) != 1:
        raise Misuse(f"{path} holds no public key", hint="a public key is one line: ssh-ed25519 AAAA…")
    return text


def checked_address(text: str) -> str:
    """An IPv4 address that SSH may come from. Raises Misuse."""
    try:
        return str(IPv4Address(text.removesuffix("/32")))
    except AddressValueError:
        raise Misuse(f"'{text}' is no IPv4 address", hint="for example: --address 203.0.113.7") from None


# ---------------------------------------------------------------- destroy


def destroy(config: Config, confirm: Callable[[Inventory], bool], progress: Progress) -> bool:
    """Delete what was deployed, if `confirm` says yes to it; whether it was done."""
    with _client(config) as client:
        found = azure_destroy.inventory(client)
        if not confirm(found):
            return False
        AzureLease(client).release()  # an auto-shutdown that was the user's is his again
        for line in azure_destroy.destroy(client, found, Pace(), progress):
            progress(line)
        return True


# ---------------------------------------------------------------- what needs no laptop


def grant(config: Config, progress: Progress) -> None:
    """Let the machine deallocate itself and push its lease: the role, and first the schedule it is for."""
    with _client(config) as client:
        held = AzureLease(client, take=config.failsafe.schedule == "ours")
        if config.failsafe.lease is not None:
            progress("setting the auto-shutdown")
            note = held.renew(FIRST_SHUTDOWN.total_seconds()).note
            if note:
                progress(note)
        azure_grant.grant(client, held.id, progress)


# ---------------------------------------------------------------- the way in


@dataclass(frozen=True)
class WayIn:
    """Where SSH is let in from, and where this computer is."""

    allowed: str
    present: str

    @property
    def open(self) -> bool:
        """Whether the one is the other."""
        return self.allowed in (self.present, f"{self.present}/32")


def way_in(config: Config, address: str | None = None) -> WayIn:
    """Compare the rule with the address that this computer is seen at, or with `address`."""
    present = checked_address(address) if address else azure_web.own_address(_web(_azure(config)))
    with _client(config) as client:
        return WayIn(azure_network.ssh_rule(client).source, present)


def let_in(config: Config, address: str) -> None:
    """Let SSH in from `address` and from nowhere else."""
    with _client(config) as client:
        azure_network.move(client, azure_network.ssh_rule(client), address, Pace())
