"""The way to the machine for one command, begun at once in a thread of its own, while this side is read.

Owns that thread, and what comes of it until somebody takes it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from devsync.app.connector import Connector
from devsync.app.machine import open_machine
from devsync.config import Config
from devsync.daemon.lock import ProjectLock
from devsync.folders import state_dir
from devsync.ports import Connection, Machine, Power, Replica, Unavailable

if TYPE_CHECKING:
    from devsync.replica.remote import RemoteReplica

PATIENCE = 2.0
"""Seconds that the thread is waited for when nobody wants any more what it does."""

Ahead = Callable[["RemoteReplica"], None]
"""Asks, without waiting, what will be asked anyhow, so that it costs no round trip of its own."""


@contextmanager
def reached(config: Config, environ: Mapping[str, str], accept: str | None) -> Iterator[Reach]:
    """The way to a project's machine, for as long as the project's lock is held.

    It is begun before what else a command needs is even loaded: do that within.
    """
    state = state_dir(config.root, environ)
    with ExitStack() as stack:
        stack.callback(ProjectLock(state / "lock").release)
        machine = open_machine(config, state)
        stack.callback(machine.close)
        reach = Reach(config, state, machine, accept)
        stack.callback(reach.close)
        yield reach


class Reach:
    """Opens the machine's side. The machine must run. `state` is the project's state folder."""

    def __init__(self, config: Config, state: Path, machine: Machine, accept: str | None) -> None:
        # Loaded before the thread begins: two that load at once take turns, and all wait for the connection.
        import devsync.ssh.connect  # noqa: F401

        self.state = state
        self._config, self._machine, self._accept = config, machine, accept
        self._prepared, self._done, self._given_up = threading.Event(), threading.Event(), False
        self._ahead: Ahead | None = None
        self._remote: Replica | None = None
        self._error: BaseException | None = None
        # As a daemon, so that Ctrl-C need not wait for a machine that does not answer.
        self._thread = threading.Thread(target=self._run, name="reach", daemon=True)
        self._thread.start()

    def prepare(self, ahead: Ahead) -> None:
        """What is to be asked as soon as it can be; called in the thread."""
        self._ahead = ahead
        self._prepared.set()

    def replica(self) -> Replica:
        """Wait for the machine's side, which is the caller's to close. Raises as `open_remote` does."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._remote is not None
        remote, self._remote = self._remote, None
        return remote

    def close(self) -> None:
        """End the thread, and close what nobody took."""
        self._given_up = True
        self._prepared.set()
        self._thread.join(PATIENCE)
        if self._remote is not None:
            self._remote.close()

    def _run(self) -> None:
        try:
            self._remote = self._open()
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            self._error = error
        finally:
            self._done.set()

    def _open(self) -> Replica:
        from devsync.app.sides import open_remote

        return open_remote(self._config, self._connect(), create=True, ahead=self._ask_ahead)

    def _connect(self) -> Connection:
        power = self._machine.power()
        if power not in (Power.RUNNING, Power.UNKNOWN):
            raise Unavailable(f"the machine is {power.value}", hint="devsync vm start starts it")
        return Connector(self._config, self._machine, self._accept)(self._machine.address())

    def _ask_ahead(self, remote: RemoteReplica) -> None:
        self._prepared.wait()
        if self._given_up:
            raise Unavailable("nobody waits for the machine any more")
        if self._ahead is not None:
            self._ahead(remote)
