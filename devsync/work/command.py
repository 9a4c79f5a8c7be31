"""A command of the user's on the machine: what is typed is what runs, in the project's folder."""

from __future__ import annotations

import re
import shlex
import signal
import threading
from collections.abc import Callable, Sequence

from devsync.ports import Connection, Process, Spawn, Terminal, Unavailable

CHUNK = 64 * 1024

_MARK = re.compile(rb"devsync-pid:(\d+)\n")

# The login shell reads the user's profile (conda, modules); then the words replace it, untouched.
_LAUNCH = """\
printf 'devsync-pid:%s\\n' $$ >&2
cd {folder} || exit 125
case ${{SHELL##*/}} in bash|zsh|ksh|dash|sh) shell=$SHELL ;; *) shell=/bin/sh ;; esac
exec "$shell" -lc 'exec "$@"' devsync {words}"""


def command_line(folder: str, words: Sequence[str]) -> str:
    """The line for the machine's shell that runs `words` in `folder` ('~/' is the home folder)."""
    if folder == "~":
        place = '"$HOME"'
    elif folder.startswith("~/"):
        place = '"$HOME"/' + shlex.quote(folder[2:])
    else:
        place = shlex.quote(folder)
    return _LAUNCH.format(folder=place, words=" ".join(shlex.quote(word) for word in words))


class Run:
    """A command that runs. The owner feeds it; two threads of the supervisor's carry its output away."""

    def __init__(self, connection: Connection, line: str, terminal: Terminal | None) -> None:
        self._connection = connection
        self._process: Process = connection.exec(line, terminal)
        self._terminal = terminal is not None
        self._pid: int | None = None
        self._known = threading.Event()

    def pump(self, spawn: Spawn, out: Callable[[bytes], None], err: Callable[[bytes], None]) -> None:
        """Carry output to `out` and `err` until it ends; returns then."""
        # With a terminal there is one stream, and the mark comes first on it.
        streams = [
            (self._process.recv, out, self._terminal),
            (self._process.recv_stderr, err, not self._terminal),
        ]
        threads = [
            spawn("run-output", lambda stream=stream: self._carry(*stream))  # type: ignore[misc]  # bound now
            for stream in streams
        ]
        for thread in threads:
            thread.join()

    def wait(self) -> int:
        """The command's exit status. Raises Unavailable if the link broke before it ended."""
        return self._process.wait()

    def feed(self, data: bytes) -> None:
        """Give it input."""
        self._process.send(data)

    def end_of_input(self) -> None:
        """Nothing more will be given."""
        self._process.shutdown_write()

    def resize(self, columns: int, rows: int) -> None:
        """The user's terminal has another size."""
        self._process.resize(columns, rows)

    def signal(self, number: int) -> None:
        """Send a signal to everything that it started."""
        if self._known.wait(5.0) and self._pid is not None:
            name = signal.Signals(number).name.removeprefix("SIG")
            self._connection.exec(f"kill -s {name} -- -{self._pid}").wait()

    def close(self) -> None:
        """Hang up: it gets what a closed terminal gives."""
        try:
            self.signal(signal.SIGHUP)
        except Unavailable:
            pass  # with the link gone, sshd has hung up by itself
        self._process.close()

    def _carry(self, receive: Callable[[int], bytes], give: Callable[[bytes], None], marked: bool) -> None:
        head = b""
        while chunk := receive(CHUNK):
            if marked:
                head += chunk.replace(b"\r\n", b"\n") if self._terminal else chunk
                found = _MARK.search(head)
                if found is None and len(head) < CHUNK:
                    continue
                marked = False
                if found is not None:
                    self._pid = int(found[1])
                    self._known.set()
                    head = head[: found.start()] + head[found.end() :]
                chunk = head
            if chunk:
                give(chunk)
        if marked and head:
            give(head)
        self._known.set()
