"""The way to the machine: which host, which user, which keys. Cheap to load: who uses it is in a hurry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from devsync.config import Config
from devsync.ports import Address, Connection, Machine

if TYPE_CHECKING:
    from devsync.ssh.target import Target


class Connector:
    """Opens SSH connections to the machine, wherever it is by now."""

    def __init__(
        self, config: Config, machine: Machine, accept: str | None, memory: Path | None = None
    ) -> None:
        self._ssh, self._machine = config.ssh, machine
        self._accept = accept
        self._memory = memory
        """A file with the alias of the machine that was connected to last."""

    def accept(self, fingerprint: str) -> None:
        """Trust this host key if it is unknown; a changed one is refused all the same."""
        self._accept = fingerprint

    def __call__(self, address: Address) -> Connection:
        from devsync.ssh.connect import connect
        from devsync.ssh.hostkeys import UnknownHostKey

        try:
            connection = connect(self.target(address), accept=self._accept)
        except UnknownHostKey as error:
            if self._last() not in (None, address.alias):
                error.message = f"the machine was made anew since the last connection, and {error.message}"
            raise
        if self._memory is not None and address.alias and self._last() != address.alias:
            self._memory.write_text(address.alias, encoding="utf-8")
        return connection

    def _last(self) -> str | None:
        try:
            return self._memory.read_text(encoding="utf-8") if self._memory else None
        except OSError:
            return None  # never connected, or not to be known: then nothing is said of it

    def target(self, address: Address) -> Target:
        """What an SSH client must know of the machine at this address."""
        from devsync.machine.embedded import EmbeddedMachine
        from devsync.ssh.target import Target

        if isinstance(self._machine, EmbeddedMachine):
            return Target(
                address.host,
                port=address.port,
                user=self._machine.user,
                identity_file=self._machine.identity_file,
                known_hosts=self._machine.known_hosts,
                alias=address.alias,
                config_file=None,
            )
        return Target(
            address.host,
            port=self._ssh.port,
            user=self._ssh.user,
            identity_file=self._ssh.identity_file,
            known_hosts=self._ssh.known_hosts,
            alias=address.alias,
        )
