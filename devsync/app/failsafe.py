"""The two layers that need no laptop, for a machine at Azure: the lease there, the watchdog on it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from devsync.app.machine import azure_settings
from devsync.config import AzureConfig, Config
from devsync.daemon.board import Board
from devsync.daemon.lease import Lease, LeaseKeeper
from devsync.daemon.watchdog import Attendance
from devsync.ports import Clock, Notifier

PUBLIC = "https://management.azure.com"
SOVEREIGN = ("management.chinacloudapi.cn", "management.usgovcloudapi.net")
"""Clouds with tokens of their own; an endpoint that is neither takes those of the public one."""


class Failsafe:
    """Both layers of one daemon: the service that keeps the lease, and what the probe's thread calls."""

    def __init__(
        self,
        config: Config,
        board: Board,
        clock: Clock,
        notifier: Notifier,
        keepalive: Callable[[], datetime | None],
    ) -> None:
        azure = config.machine.azure if config.machine.provider == "azure" else None
        self.attendance = Attendance(
            project=_project(config),
            order=_order(config, azure) if azure is not None and config.failsafe.watchdog else None,
            keepalive=keepalive,
            clock=clock,
            notifier=notifier,
            changed=lambda: self.keeper.ring(),  # noqa: PLW0108 (it is made below)
        )
        self.keeper = LeaseKeeper(
            open_lease=None if azure is None else lambda: open_lease(config, azure),
            lengths=(config.failsafe.lease, config.failsafe.lease_alone),
            after=config.idle.after,
            unreachable=config.idle.unreachable,
            standing=lambda: self.attendance.standing,
            board=board,
            clock=clock,
            notifier=notifier,
        )
        self.attend: Callable[[Callable[..., Any]], None] = self.attendance.attend
        if azure is None:
            self.attend = lambda _ask: None  # such a machine has no identity


def open_lease(config: Config, azure: AzureConfig) -> Lease:
    """The VM's auto-shutdown. The SDK behind it is loaded with the first request."""
    from devsync.machine.azure_client import AzureClient
    from devsync.machine.lease import AzureLease

    return AzureLease(AzureClient(azure_settings(azure)), take=config.failsafe.schedule == "ours")


def _order(config: Config, azure: AzureConfig) -> Mapping[str, Any]:
    """What the watchdog is told, as `probe.watchdog_orders` reads it."""
    idle = config.idle
    endpoint = azure.endpoint.rstrip("/")
    return {
        "after": idle.after,
        "thresholds": {
            "cpu": idle.cpu,
            "gpu": idle.gpu,
            "network": idle.network,
            "gpu_stale": idle.gpu_stale,
        },
        "modes": {name.replace("_", "-"): mode for name, mode in asdict(idle.signals).items()},
        "lease": config.failsafe.lease,
        "root": config.sync.path,
        "vm": f"/subscriptions/{azure.subscription_id}/resourceGroups/{azure.resource_group}"
        f"/providers/Microsoft.Compute/virtualMachines/{azure.vm_name}",
        "endpoint": endpoint,
        "audience": endpoint if urlsplit(endpoint).hostname in SOVEREIGN else PUBLIC,
        "certificates": azure.ca_bundle.read_text(encoding="ascii") if azure.ca_bundle else "",
    }


def _project(config: Config) -> str:
    """What the machine calls this project of this computer's."""
    return hashlib.sha256(f"{platform.node()}:{config.root}".encode("utf-8", "surrogateescape")).hexdigest()[
        :16
    ]
