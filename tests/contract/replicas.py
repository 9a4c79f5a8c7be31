"""The replicas that the contract is asked of. To add one: write a factory and put it into FACTORIES.

A factory is a context manager: it takes an empty folder and gives a `Side`. A replica whose files lie in
a folder of this disk needs no more than `Disk(root, replica)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from devsync.core.snapshot import Link
from devsync.ports import Replica
from devsync.replica.local import LocalReplica
from devsync.replica.remote import RemoteReplica
from devsync.replica.sftp_only import SftpOnlyReplica
from devsync.replica.tree import MAX_DEPTH
from devsync.ssh.sftp import SftpClient
from tests.fakes.memory import Content, MemoryReplica
from tests.fakes.pipes import PipeStream
from tests.fakes.process import LocalProcess

SFTP_SERVER = "/usr/lib/openssh/sftp-server"


class Side(Protocol):
    """A replica and a user who works in its folder."""

    @property
    def replica(self) -> Replica: ...

    root: Path | None
    """Where its files lie on this disk, if they do."""

    def write(self, path: str, content: bytes, executable: bool = False) -> None: ...

    def link(self, path: str, target: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def tree(self) -> dict[str, object]:
        """Everything but `.devsync`: bytes, (bytes, 'x') if executable, or '-> target'."""

    def obscure(self, folder: str) -> str:
        """Make something below `folder` that cannot be looked at, and name where the unknown begins."""

    def kept(self) -> list[bytes]:
        """The contents in the trash."""


class Disk:
    """A replica whose files lie in `root`."""

    def __init__(self, root: Path, replica: Replica) -> None:
        self.root: Path | None = root
        self.replica = replica
        self._root = root

    def write(self, path: str, content: bytes, executable: bool = False) -> None:
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755 if executable else 0o644)

    def link(self, path: str, target: str) -> None:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).symlink_to(target)

    def remove(self, path: str) -> None:
        (self._root / path).unlink()

    def tree(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for folder, folders, names in os.walk(self._root):
            if ".devsync" in folders:
                folders.remove(".devsync")
            for name in names + folders:
                file = Path(folder, name)
                path = str(file.relative_to(self._root))
                if file.is_symlink():
                    found[path] = f"-> {os.readlink(file)}"
                elif file.is_file():
                    executable = bool(file.stat().st_mode & 0o100)
                    found[path] = (file.read_bytes(), "x") if executable else file.read_bytes()
        return found

    def obscure(self, folder: str) -> str:
        # root reads everything, but nobody goes deeper than this
        deep = folder + "/d" * (MAX_DEPTH + 1)
        (self._root / deep).mkdir(parents=True)
        return "/".join(deep.split("/")[: MAX_DEPTH + 1])

    def kept(self) -> list[bytes]:
        slots = (self._root / ".devsync/trash").glob("*/[0-9]*")
        return [slot.read_bytes() for slot in slots if not slot.is_symlink()]


class Memory:
    """A replica in memory."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.replica = MemoryReplica()

    def write(self, path: str, content: bytes, executable: bool = False) -> None:
        self.replica.entries[path] = Content(content, executable)

    def link(self, path: str, target: str) -> None:
        self.replica.entries[path] = Link(target)

    def remove(self, path: str) -> None:
        del self.replica.entries[path]

    def tree(self) -> dict[str, object]:
        return {
            path: f"-> {entry.target}"
            if isinstance(entry, Link)
            else (entry.data, "x")
            if entry.executable
            else entry.data
            for path, entry in self.replica.entries.items()
        }

    def obscure(self, folder: str) -> str:
        self.replica.unreadable[folder] = "cannot be read"
        return folder

    def kept(self) -> list[bytes]:
        return [entry.data for _, entry in self.replica.trash if isinstance(entry, Content)]


@contextmanager
def memory(_root: Path) -> Iterator[Side]:
    yield Memory()


@contextmanager
def local(root: Path) -> Iterator[Side]:
    yield Disk(root, LocalReplica(root))


@contextmanager
def helper_over_pipe(root: Path) -> Iterator[Side]:
    replica = RemoteReplica(LocalProcess, lambda: SftpClient(PipeStream([SFTP_SERVER])), str(root))
    try:
        yield Disk(root, replica)
    finally:
        replica.close()


@contextmanager
def sftp_only(root: Path) -> Iterator[Side]:
    replica = SftpOnlyReplica(SftpClient(PipeStream([SFTP_SERVER])), str(root))
    try:
        yield Disk(root, replica)
    finally:
        replica.close()


@contextmanager
def sftp_without_extensions(root: Path) -> Iterator[Side]:
    client = SftpClient(PipeStream([SFTP_SERVER]))
    client.extensions = {}
    replica = SftpOnlyReplica(client, str(root))
    try:
        yield Disk(root, replica)
    finally:
        replica.close()


FACTORIES: dict[str, Callable[[Path], AbstractContextManager[Side]]] = {
    "memory": memory,
    "local": local,
    "helper": helper_over_pipe,
    "sftp only": sftp_only,
    "sftp without extensions": sftp_without_extensions,
}
