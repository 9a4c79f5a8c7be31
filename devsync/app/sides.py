"""The two sides of a project: the folder here, and the folder on the machine with the way to it."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from devsync.app.connector import Connector as Connector  # noqa: PLC0414 (the way to one of the sides)
from devsync.config import Config, SyncConfig
from devsync.core.ignore import Rules
from devsync.core.snapshot import RelPath, Snapshot
from devsync.daemon.arrivals import Arrivals, Limits
from devsync.daemon.forwarding import Forwarding
from devsync.daemon.guard import Guard
from devsync.ports import Connection, Halted, Replica, Sftp
from devsync.replica.digests import Digests
from devsync.replica.local import LocalReplica
from devsync.replica.patterns import patterns_to_rules
from devsync.replica.rules import ProjectRules
from devsync.store import Store

if TYPE_CHECKING:
    from devsync.replica.remote import RemoteReplica

log = logging.getLogger(__name__)


def open_remote(
    config: Config,
    connection: Connection,
    *,
    create: bool,
    ahead: Callable[[RemoteReplica], None] = lambda _: None,
) -> Replica:
    """The machine's side of the project, on a connection that it closes in the end.

    `ahead` asks what need not wait until the helper lives.
    """
    from devsync.replica.luggage import NoPython
    from devsync.replica.remote import RemoteReplica
    from devsync.ssh.bandwidth import Bucket, Limited
    from devsync.ssh.sftp import SftpClient

    def open_sftp() -> Sftp:
        stream = connection.subsystem("sftp")
        if config.sync.bandwidth is not None:
            stream = Limited(stream, Bucket(config.sync.bandwidth, time.monotonic))
        return SftpClient(stream)

    try:
        try:
            helped = RemoteReplica(connection.exec, open_sftp, config.sync.path, create=create, ahead=ahead)
            _judge_place(helped)
            remote: Replica = helped
        except NoPython as error:
            from devsync.replica.sftp_only import SftpOnlyReplica

            log.warning("%s: going on by SFTP alone, which is slower and promises less", error.message)
            remote = SftpOnlyReplica(open_sftp(), config.sync.path, create=create)
    except BaseException:
        connection.close()
        raise
    return _OnConnection(remote, connection)


def _judge_place(remote: RemoteReplica) -> None:
    """Halted if the folder is where no project's folder should be; it was not made then."""
    place = remote.greeting
    why = ""
    if place.temporary_disk:
        why = "is on the machine's temporary disk, which Azure empties whenever the machine is deallocated"
    elif place.inside:
        why = f"is a part of another project's folder on the machine: {place.inside}"
    if why:
        remote.close()
        raise Halted(f"{place.root} {why}", hint="set sync.path in devsync.toml to a folder of its own")


def claimant(root: Path) -> str:
    """What others are told of who has a folder: this computer, and the project's folder on it."""
    return f"{socket.gethostname()}:{root}"


def guard(allowed: Sequence[str], project: ProjectRules) -> Guard:
    """Holds credentials back, except in the paths that these patterns, as in .gitignore, name."""
    rules = Rules(own=tuple(patterns_to_rules(allowed)))
    if not allowed:
        return Guard(lambda _: False, project.tracked)
    return Guard(lambda path: not rules.visible(path, is_folder=False), project.tracked)


def arrivals(sync: SyncConfig, project: ProjectRules) -> Arrivals:
    """Holds back what is new and more than the configuration lets pass unasked."""
    return Arrivals(Limits(sync.max_file, sync.max_arrivals), project.tracked)


def unnoticed(patterns: Sequence[str]) -> Callable[[RelPath], bool]:
    """Whether a change of a path is no sign of work: its path matches a pattern, as in .gitignore."""
    rules = Rules(own=tuple(patterns_to_rules(patterns)))
    return lambda path: not rules.visible(path, is_folder=False)


class _OnConnection(Forwarding):
    """A replica that closes the connection that it alone uses."""

    def __init__(self, replica: Replica, connection: Connection) -> None:
        super().__init__(replica)
        self._connection = connection

    def interrupt(self) -> None:
        super().interrupt()
        self._connection.close()

    def close(self) -> None:
        super().close()
        self._connection.close()


class LocalSide(Forwarding):
    """The local replica, whose digests outlive the process."""

    def __init__(self, root: Path, store: Store) -> None:
        self._store = store
        self._digests = Digests(store.digests())
        super().__init__(LocalReplica(root, self._digests))

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        found = super().scan(scope)
        if scope is None:
            self._store.remember_digests(*self._digests.take_changes())
        return found
