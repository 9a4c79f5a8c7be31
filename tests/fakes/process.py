"""A command on this computer as a `ports.Process`: what `Connection.exec` gives, without a connection."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading

from devsync.ports import Unavailable


class LocalProcess:
    """Runs a command line in a shell, as sshd does; `close` ends it and all that it started."""

    def __init__(self, command: str, env: dict[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self.program = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            start_new_session=True,
            env=env,
        )
        self._reading = threading.Lock()
        self._closed = threading.Event()

    def send(self, data: bytes | memoryview) -> None:
        assert self.program.stdin is not None
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.program.stdin.fileno(), view) :]
        except (OSError, ValueError) as lost:
            raise Unavailable(f"the program is gone: {lost}") from lost

    def recv(self, size: int) -> bytes:
        assert self.program.stdout is not None
        with self._reading:
            if self._closed.is_set():
                raise Unavailable("closed")
            data = os.read(self.program.stdout.fileno(), size)
        if self._closed.is_set():
            raise Unavailable("closed")
        return data

    def recv_stderr(self, size: int) -> bytes:
        assert self.program.stderr is not None
        return os.read(self.program.stderr.fileno(), size)

    def pending(self) -> bool:
        assert self.program.stdout is not None
        return bool(select.select([self.program.stdout], [], [], 0)[0])

    def shutdown_write(self) -> None:
        assert self.program.stdin is not None
        self.program.stdin.close()

    def resize(self, columns: int, rows: int) -> None:
        """There is no terminal."""

    def wait(self) -> int:
        status = self.program.wait(timeout=20)
        return status if status >= 0 else 128 - status

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        try:
            os.killpg(self.program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.program.wait()
        with self._reading:  # the end has set a reader free
            for pipe in (self.program.stdin, self.program.stdout, self.program.stderr):
                assert pipe is not None
                pipe.close()
