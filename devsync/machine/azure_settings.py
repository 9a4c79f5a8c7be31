"""Which VM is the machine, and how to sign in to Azure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from devsync.ports import Misuse

Credential = Literal["cli", "managed-identity", "environment", "default"]


@dataclass(frozen=True)
class AzureSettings:
    """`[machine.azure]` of devsync.toml.

    `endpoint` is the address of another ARM than the public one, `ca_bundle` a PEM file.
    """

    subscription_id: str
    resource_group: str
    vm_name: str
    credential: Credential = "cli"
    endpoint: str | None = None
    ca_bundle: str | None = None

    @property
    def subject(self) -> str:
        """What requests are about, for people; without a VM's name it is the subscription."""
        return f"VM '{self.vm_name}'" if self.vm_name else f"subscription {self.subscription_id}"

    def check(self) -> None:
        """Raise Misuse for what no request could be made of."""
        if not re.fullmatch(r"[\w.-]+", self.subscription_id, re.ASCII):
            raise Misuse(
                f"machine.azure.subscription_id is no id: {self.subscription_id!r}",
                hint="find it with: az account list",
            )
        if self.endpoint is not None and not self.endpoint.lower().startswith("https://"):
            raise Misuse(
                f"machine.azure.endpoint is no https address: {self.endpoint}",
                hint="tokens are sent there, so it must be https://…",
            )
        if self.ca_bundle is not None and not os.path.isfile(self.ca_bundle):
            raise Misuse(
                f"machine.azure.ca_bundle is no file: {self.ca_bundle}",
                hint="name the PEM file with the certificates to trust, or leave the key out",
            )
