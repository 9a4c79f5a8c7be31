"""A `ports.Process`-like stream to a program on this computer, over two real pipes of real size."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence

from devsync.ports import Unavailable


class PipeStream:
    """A `ports.ByteStream` to a program's standard input and output; `close` ends the program."""

    def __init__(self, command: Sequence[str], cwd: str | None = None) -> None:
        self.program = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=cwd,
            bufsize=0,
        )
        assert self.program.stdin is not None and self.program.stdout is not None
        self._to, self._from = self.program.stdin, self.program.stdout
        self._closed = False

    def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._to.fileno(), view) :]
        except (OSError, ValueError) as lost:
            raise Unavailable(f"the program is gone: {lost}") from lost

    def recv(self, size: int) -> bytes:
        try:
            return os.read(self._from.fileno(), size)
        except (OSError, ValueError) as lost:
            raise Unavailable(f"the program is gone: {lost}") from lost

    def pending(self) -> bool:
        return self._closed or bool(select.select([self._from], [], [], 0)[0])

    def shutdown_write(self) -> None:
        self._to.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.program.kill()
            self.program.wait()
            self._to.close()
            self._from.close()
