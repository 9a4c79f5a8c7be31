"""The machine as the probes see it: its folders, commands, servers and clocks. Travels (Python 3.8).

Everything that a probe learns comes through a `View`, so that a test can show it another machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from devsync.probe.processes import Processes

MOST = 1 << 20
"""Bytes of a file or an answer that are looked at."""

EMBEDDED = "DEVSYNC_EMBEDDED"
"""The environment variable by which the embedded machine's processes are known: it has no others."""


class Hangs(OSError):
    """A command did not end in its time."""


class View:
    """Owns the commands that it had to leave behind, until they end."""

    def __init__(self, environ: Mapping[str, str] | None = None, root: str = "/") -> None:
        """`root` is where the machine's folders begin."""
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.root = root
        mark = self.environ.get(EMBEDDED)
        self.embedded = mark is not None
        only = None if mark is None else f"{EMBEDDED}={mark}".encode("utf-8", "surrogateescape")
        self.processes = Processes(self.path("proc"), only)
        self._hanging: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def home(self) -> str:
        """The user's home folder."""
        return self.environ.get("HOME") or os.path.expanduser("~")

    def path(self, *parts: str) -> str:
        """A path of the machine's."""
        return os.path.join(self.root, *parts)

    def read(self, *parts: str) -> str:
        """A file of the machine's. Raises OSError."""
        with open(self.path(*parts), "rb") as file:
            return file.read(MOST).decode("utf-8", "replace")

    def wall(self) -> float:
        """The time of day, as files and servers here stamp it."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since this machine started, its sleep included."""
        return (
            time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
        )

    def command(self, name: str, *places: str) -> str | None:
        """Where a command is, by the path or in one of `places`."""
        folders = [*self.environ.get("PATH", os.defpath).split(os.pathsep), *places]
        return shutil.which(name, path=os.pathsep.join(folders))

    def run(self, words: Sequence[str], timeout: float) -> tuple[int, str]:
        """Run a command: its status, and its output or what it said instead.

        Raises Hangs after `timeout` seconds. One that cannot be killed is left, and not started again.
        """
        left = self._hanging.get(words[0])
        if left is not None and left.poll() is None:
            raise Hangs(f"{os.path.basename(words[0])} has hung since the last try")
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._kill(words[0], process)
            raise Hangs(f"{os.path.basename(words[0])} did not answer within {timeout:g} s") from None
        return process.returncode, (out or err)[:MOST].decode("utf-8", "replace")

    def _kill(self, name: str, process: subprocess.Popen[bytes]) -> None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass  # it ended meanwhile
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._hanging[name] = process  # in the driver, where no signal reaches it

    def http(
        self, address: tuple[str, int] | str, path: str, headers: Mapping[str, str], timeout: float, tls: bool
    ) -> tuple[int, bytes]:
        """GET from a server of this machine, by a port or a Unix socket. Raises OSError."""
        from http.client import HTTPConnection, HTTPException  # only a machine that has a server pays for it

        sock: Any
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            host = "localhost"
        else:
            sock = socket.create_connection(address, timeout)
            host = f"{address[0]}:{address[1]}"
        connection = HTTPConnection(host, timeout=timeout)
        try:
            if isinstance(address, str):
                sock.connect(address)
            connection.sock = _encrypted(sock) if tls else sock
            connection.request("GET", path, headers=dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read(MOST)
        except HTTPException as error:
            raise OSError(f"no answer that makes sense: {type(error).__name__}") from None
        finally:
            connection.close()
            sock.close()


def _encrypted(sock: socket.socket) -> Any:
    import ssl

    # The server is this machine's own, its certificate mostly one of its own making.
    context = ssl._create_unverified_context()  # noqa: S323
    return context.wrap_socket(sock)
