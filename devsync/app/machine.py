"""The machine of a project, by itself: which it is, its state, its power switch."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from devsync.config import AzureConfig, Config
from devsync.daemon.ledger import Ledger
from devsync.folders import state_dir
from devsync.machine.azure_settings import AzureSettings, Credential
from devsync.ports import DevsyncError, Machine, Power, Progress

log = logging.getLogger("devsync")

LEDGER = "ledger.db"
"""The file in the project's state folder that tells when the machine was billed."""


def azure_settings(azure: AzureConfig) -> AzureSettings:
    """The VM that the configuration names, and how to sign in."""
    return AzureSettings(
        azure.subscription_id,
        azure.resource_group,
        azure.vm_name,
        cast("Credential", azure.credential),  # the schema admits no other word
        azure.endpoint,
        None if azure.ca_bundle is None else str(azure.ca_bundle),
    )


def open_machine(config: Config, state: Path) -> Machine:
    """The machine of a project."""
    if config.machine.azure is not None and config.machine.provider == "azure":
        from devsync.machine.azure import AzureMachine

        return AzureMachine(azure_settings(config.machine.azure), ssh_port=config.ssh.port or 22)
    if config.machine.provider == "local":
        from devsync.machine.embedded import EmbeddedMachine

        return EmbeddedMachine(state / "machine")
    from devsync.machine.host import HostMachine

    return HostMachine(config.ssh.host or "", config.ssh.port or 22)


@contextmanager
def _machine(config: Config, environ: Mapping[str, str]) -> Iterator[Machine]:
    machine = open_machine(config, state_dir(config.root, environ))
    try:
        yield machine
    finally:
        machine.close()


@dataclass(frozen=True)
class MachineStatus:
    """The document of `vm status --json`."""

    provider: str
    state: str
    billed: bool | None
    host: str | None


def machine_status(config: Config, environ: Mapping[str, str]) -> MachineStatus:
    """The machine's state, asked now."""
    with _machine(config, environ) as machine:
        power = machine.power()
        host = machine.address().host if power is Power.RUNNING else None
    billed = _noted(config, environ, machine, power)
    return MachineStatus(machine.provider, power.value, billed, host)


def start_machine(config: Config, environ: Mapping[str, str], progress: Progress) -> None:
    """Start the machine; returns when it runs."""
    with _machine(config, environ) as machine:
        machine.start(threading.Event(), progress)
        _noted(config, environ, machine, Power.RUNNING)


def deallocate_machine(config: Config, environ: Mapping[str, str], progress: Progress) -> None:
    """Deallocate the machine; returns when that has been read back."""
    with _machine(config, environ) as machine:
        _noted(config, environ, machine, machine.power())
        machine.deallocate(threading.Event(), progress)
        _noted(config, environ, machine, Power.DEALLOCATED)


def _noted(config: Config, environ: Mapping[str, str], machine: Machine, power: Power) -> bool | None:
    """Whether the machine is billed, which is written down."""
    # A host that is simply there may be somebody else's: nobody can say who pays for it.
    billed = None if machine.provider == "ssh" else power.billed
    if billed is not None:
        try:
            Ledger(state_dir(config.root, environ) / LEDGER).note(time.time(), billed)
        except DevsyncError as error:
            log.warning("%s", error.message)  # whoever switches the machine is not kept from it
    return billed
