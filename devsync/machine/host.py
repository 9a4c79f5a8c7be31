"""A host that is simply there: devsync can reach it, but neither start nor stop it."""

from __future__ import annotations

import socket
import threading

from devsync.ports import Address, NeedsUser, Power, Progress, Unavailable

_PATIENCE = 3.0
"""Seconds that a connection may take."""


class HostMachine:
    """The host at an address (ports.Machine): running if its SSH port takes a connection, else unknown."""

    provider = "ssh"

    def __init__(self, host: str, port: int = 22, alias: str | None = None) -> None:
        self._address = Address(host, port, alias)

    def power(self) -> Power:
        try:
            with socket.create_connection((self._address.host, self._address.port), timeout=_PATIENCE):
                return Power.RUNNING
        except OSError:
            return Power.UNKNOWN

    def start(self, stop: threading.Event, progress: Progress) -> None:  # noqa: ARG002 (the seam)
        if self.power() is not Power.RUNNING:
            raise Unavailable(
                f"{self._address.host} does not answer on port {self._address.port}",
                hint='is it switched on? with machine.provider = "ssh" devsync cannot start it',
            )

    def deallocate(self, stop: threading.Event, progress: Progress) -> None:  # noqa: ARG002 (the seam)
        raise NeedsUser(
            f"{self._address.host} cannot be deallocated by devsync",
            hint='with machine.provider = "ssh" stop it where it was started, and set idle.after = "never"',
        )

    def address(self) -> Address:
        return self._address

    def close(self) -> None:
        """Nothing is held."""
