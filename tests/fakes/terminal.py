"""A terminal with a command in it, as a person has one: keys in, what is shown out, a window with a size."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

PATIENCE = 20.0
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`words` run in the foreground of a new terminal for as long as the `with` block lasts.

    Keys reach it through the terminal: Ctrl-C is whatever the terminal makes of it.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, environ: Mapping[str, str], *, columns: int = 100
    ) -> None:
        self._far, near = pty.openpty()
        self.resize(columns)
        self._seen = b""
        # `setsid --ctty` makes the terminal the one that its signals come from.
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *words],
            stdin=near,
            stdout=near,
            stderr=near,
            cwd=folder,
            env={**environ, "TERM": "xterm-256color"},
        )
        os.close(near)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._far)  # whoever lives on it gets a hang-up
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    @property
    def shown(self) -> str:
        """Everything that was written so far, without what moves and colours."""
        return _CONTROL.sub(b"", self._seen).decode(errors="replace")

    def until(self, text: str) -> None:
        """Wait until `text` has been shown."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert self._read(deadline - time.monotonic()), f"no {text!r} in:\n{self.shown}"

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._far, keys.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C until the command ends, as people do: its exit status.

        Python forgets one that comes just before it waits for a key, until the next key.
        """
        for _ in range(round(PATIENCE)):
            self.type("\x03")
            try:
                self._process.wait(1.0)
                break
            except subprocess.TimeoutExpired:
                continue
        return self.end()

    def resize(self, columns: int) -> None:
        """Give the window another width."""
        fcntl.ioctl(self._far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def end(self) -> int:
        """Wait for the command's end: its exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, patience: float) -> bool:
        if not select.select([self._far], [], [], max(0.0, patience))[0]:
            return False
        try:
            data = os.read(self._far, 1 << 16)
        except OSError:  # nobody is left on the terminal
            return False
        self._seen += data
        return bool(data)
