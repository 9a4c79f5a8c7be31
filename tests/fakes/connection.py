"""A connection to a machine that is this computer: commands are real, the rest can be lost by a word."""

from __future__ import annotations

import threading
from collections.abc import Callable

from devsync.ports import ByteStream, DevsyncError, Process, Terminal, Unavailable
from tests.fakes.process import LocalProcess


class FakeConnection:
    """A `ports.Connection`. `commands` lists what was to be run; `lose` breaks the link."""

    def __init__(self, env: dict[str, str] | None = None) -> None:
        self.commands: list[str] = []
        self.closed = False
        self._env = env
        self._ended = threading.Event()
        self._why = ""

    def lose(self, why: str = "no heartbeat") -> None:
        """The link breaks."""
        self._why = self._why or why
        self._ended.set()

    def exec(self, command: str, terminal: Terminal | None = None) -> Process:
        if self._ended.is_set():
            raise Unavailable(f"the connection was lost: {self._why}")
        self.commands.append(command)
        return LocalProcess(command, self._env)

    def subsystem(self, name: str) -> ByteStream:
        raise DevsyncError(f"no subsystem '{name}' here")

    def forward(self, host: str, port: int, take: Callable[[bytes], int] | None = None) -> ByteStream:
        raise ConnectionRefusedError(f"nobody listens on {host}:{port}")

    def rtt(self) -> float | None:
        return 0.041

    def wait_closed(self, timeout: float) -> str | None:
        return self._why if self._ended.wait(timeout) else None

    def close(self) -> None:
        self.closed = True
        self.lose("closed here")
