"""A command of the user's on the machine: what is typed is what runs, in the project's folder."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Sequence

from devsync.ports import Connection, DevsyncError, Process, Spawn, Terminal

CHUNK = 64 * 1024

_MARK = re.compile(rb"devsync-pid:(\d+)\r?\n")

# The login shell reads the user's profile (conda, modules); then the words replace it, untouched. It
# goes to the folder once more, since a profile may have left it.
_LAUNCH = r"""
printf 'devsync-pid:%s\n' $$ >&2;
case $1 in '~') folder=$HOME ;; '~/'*) folder=$HOME/${1#??} ;; /*) folder=$1 ;; *) folder=$PWD/$1 ;; esac;
shift; cd -- "$folder" || exit 125;
case ${SHELL##*/} in bash|zsh|ksh|dash|sh) shell=$SHELL ;; *) shell=/bin/sh ;; esac;
exec "$shell" -lc 'cd -- "$0" && exec "$@"' "$folder" "$@"
""".replace("\n", " ").strip()


def command_line(folder: str, words: Sequence[str]) -> str:
    """The line for the machine's shell, whichever it is, that runs `words` in `folder` ('~/' is the home)."""
    return " ".join(["exec /bin/sh -c", *map(_quoted, (_LAUNCH, "devsync", folder, *words))])


def _quoted(word: str) -> str:
    # Not as shlex does it: between single quotes a backslash counts for fish, and '!' for csh.
    return "'" + re.sub(r"([\\'!])", r"'\\\1'", word) + "'"


class Run:
    """A command that runs. The owner feeds it; two threads of the supervisor's carry its output away."""

    def __init__(self, connection: Connection, line: str, terminal: Terminal | None) -> None:
        self._connection = connection
        self._process: Process = connection.exec(line, terminal)
        self._terminal = terminal is not None
        self._pid: int | None = None
        self._known = threading.Event()
        self._ended = False

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
        status = self._process.wait()
        self._ended = True
        return status

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
            killer = self._connection.exec(f"kill -s {name} -- -{self._pid}")
            try:
                killer.wait()
            finally:
                killer.close()

    def close(self) -> None:
        """Hang up: if it still runs, it gets what a closed terminal gives."""
        try:
            if not self._ended:
                self.signal(signal.SIGHUP)
        except DevsyncError:
            pass  # with the link gone, sshd has hung up by itself
        finally:
            self._process.close()

    def _carry(self, receive: Callable[[int], bytes], give: Callable[[bytes], None], marked: bool) -> None:
        if marked:
            head = self._past_mark(receive)
            self._known.set()
            if head:
                give(head)
        while chunk := receive(CHUNK):
            give(chunk)

    def _past_mark(self, receive: Callable[[int], bytes]) -> bytes:
        """Read up to the line that names the process; what came with it, without that line."""
        head = b""
        while len(head) < CHUNK and (chunk := receive(CHUNK)):
            head += chunk
            if found := _MARK.search(head):
                self._pid = int(found[1])
                return head[: found.start()] + head[found.end() :]
        return head
