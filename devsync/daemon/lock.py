"""One devsync per project: a lock on a file, held for as long as the process lives."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from devsync.ports import DevsyncError


class Held(DevsyncError):
    """Another process has the project; `pid` is which."""

    def __init__(self, pid: int | None) -> None:
        who = "another devsync" if pid is None else f"the devsync with process id {pid}"
        super().__init__(
            f"{who} has this project", hint="devsync status says what it does; devsync stop ends it"
        )
        self.pid = pid


class ProjectLock:
    """The lock, from construction to `release`. Raises Held."""

    def __init__(self, path: Path) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _no_lock(path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 32, 0).strip()
            os.close(self._descriptor)
            raise Held(int(holder) if holder.isdigit() else None) from None
        except OSError as error:
            os.close(self._descriptor)
            raise _no_lock(path, error) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let the project go. The file stays: removing it would let two processes lock two files."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _no_lock(path: Path, error: OSError) -> DevsyncError:
    return DevsyncError(
        f"the project cannot be locked: {path}: {error.strerror}",
        hint="DEVSYNC_STATE_DIR names another folder, on a local disk and writable",
    )
