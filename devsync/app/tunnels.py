"""The project's tunnels: those of the configuration, and those that are opened when something needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from devsync.config import TunnelConfig
from devsync.ports import DevsyncError, Service, Spawn, Unavailable
from devsync.ssh.tunnel import Link, Tunnel

LISTENS_WITHIN = 5.0
"""Seconds until a new tunnel listens."""

AGAIN = 0.02
"""Seconds between two looks whether it does."""


class Tunnels:
    """Makes tunnels; `add` hands each to the supervisor, which owns its thread."""

    def __init__(
        self, configured: Iterable[TunnelConfig], link: Link, spawn: Spawn, stopping: threading.Event
    ) -> None:
        self._link, self._spawn, self._stopping = link, spawn, stopping
        self._turn = threading.Lock()
        self._add: Callable[[Service], None] | None = None
        self._tunnels = [Tunnel(one.local, one.remote, link, spawn) for one in configured]

    def start(self, add: Callable[[Service], None]) -> None:
        """Open those of the configuration, and later ones when they are asked for."""
        with self._turn:
            self._add = add
            for tunnel in self._tunnels:
                add(tunnel)

    def to_json(self) -> list[Mapping[str, object]]:
        """Each as `status` shows it."""
        return [_as_json(tunnel) for tunnel in self._tunnels]

    def to(self, remote: int) -> int:
        """The port here that leads to `remote` there. A new tunnel has the same number, or the next one free.

        Raises DevsyncError if there is none to be had.
        """
        with self._turn:
            if self._add is None or self._stopping.is_set():
                raise Unavailable("the daemon is stopping", hint="devsync start")
            tunnel = next((one for one in self._tunnels if one.remote == remote), None)
            if tunnel is None:
                tunnel = Tunnel(remote, remote, self._link, self._spawn)
                self._tunnels.append(tunnel)
                self._add(tunnel)  # RACE: if everything stops right here, its thread ends with the process
        waits = int(LISTENS_WITHIN / AGAIN)
        while not tunnel.port:
            waits -= 1
            if waits < 0 or self._stopping.wait(AGAIN):
                raise DevsyncError(
                    f"no tunnel leads to port {remote} of the machine", hint="devsync status says why"
                )
        return tunnel.port


def _as_json(tunnel: Tunnel) -> Mapping[str, object]:
    return {
        "local": tunnel.port or tunnel.wanted,
        "wanted": tunnel.wanted,
        "remote": tunnel.remote,
        "state": tunnel.state,
        "bytes": tunnel.sent + tunnel.received,
        "error": tunnel.problem or None,
    }
