"""What is on disk of the embedded machine, and the lock that proves that it runs. Owns no thread.

The kernel is the witness: a server holds a record lock for as long as it lives, and `fcntl` tells
which process that is. A process number in a file proves nothing, since another process may have got
it meanwhile; so what the file says counts only if it names the very process that holds the lock.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

USER = "devsync"
"""The one user name that may log in."""

# struct flock as the C compiler lays it out; the trailing "0q" pads it to its full size.
_FLOCK = struct.Struct("qqihh0q" if sys.platform == "darwin" else "hhqqi0q")


@dataclass(frozen=True)
class Folder:
    """The names in the state folder. It is private (0700), as are the keys in it (0600)."""

    path: Path

    @property
    def home(self) -> Path:
        """The home folder of the machine's user: its disk, which outlives every power cycle."""
        return self.path / "home"

    @property
    def lock(self) -> Path:
        return self.path / "power"

    @property
    def host_key(self) -> Path:
        return self.path / "host_key"

    @property
    def client_key(self) -> Path:
        return self.path / "client_key"

    @property
    def client_public_key(self) -> Path:
        return self.path / "client_key.pub"

    @property
    def known_hosts(self) -> Path:
        return self.path / "known_hosts"

    @property
    def log(self) -> Path:
        return self.path / "server.log"

    def make(self) -> None:
        """Make the folder and the home, both for their owner alone."""
        for folder in (self.path, self.home):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)


@dataclass(frozen=True)
class Record:
    """What a server says of itself. `port` is 0 until it listens; `ending` is set when it goes down."""

    pid: int
    port: int = 0
    alias: str = ""
    ending: bool = False


def holder(lock: Path) -> Record | None:
    """The server that lives now; None if there is none. OSError if nobody can say."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        pid = _owner(descriptor)
        if pid is None:
            return None
        record = _read(descriptor)
        # A record of another process is what an earlier server left behind.
        return record if record is not None and record.pid == pid else Record(pid)
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> int | None:
    query = (
        _FLOCK.pack(0, 0, 0, fcntl.F_WRLCK, os.SEEK_SET)
        if sys.platform == "darwin"
        else _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    )
    answer = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, query))
    kind, pid = (answer[3], answer[2]) if sys.platform == "darwin" else (answer[0], answer[4])
    return None if kind == fcntl.F_UNLCK else int(pid)


def _read(descriptor: int) -> Record | None:
    try:
        value = json.loads(os.pread(descriptor, 4096, 0))
        return Record(int(value["pid"]), int(value["port"]), str(value["alias"]), bool(value["ending"]))
    except (ValueError, KeyError, TypeError):
        return None  # empty, or half of what is being written


class PowerLock:
    """The server's side: who has it, is the machine. Given up by the end of the process alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Closing any descriptor of a file gives up all record locks on it: this is the only one.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self) -> bool:
        """Whether the lock is ours now; False if another process has it."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def remembered_port(self) -> int:
        """The port of the life before, 0 if there was none."""
        record = _read(self._descriptor)
        return record.port if record is not None else 0

    def write(self, record: Record) -> None:
        """Tell whoever asks."""
        data = json.dumps(asdict(record)).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)

    def in_place(self) -> bool:
        """Whether the lock file is still where others look for it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False
