"""A command of the user's on the machine: what is typed is what runs, in the project's folder."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devsync.core.jobs import Order
from devsync.ports import Connection, DevsyncError, Misuse, Process, Spawn, Terminal

CHUNK = 64 * 1024

_MARK = re.compile(rb"devsync-pid:(\d+)\r?\n")

LONGEST = 120 * 1024
"""Bytes of a line: Linux hands a program no argument beyond 128 KiB, and to the shell the line is one."""

# $1 is the folder, $2 the shell that was asked for, $3 what it is to do with the rest.
_PLACE = r"""
case $1 in '~') folder=$HOME ;; '~/'*) folder=$HOME/${1#??} ;; /*) folder=$1 ;; *) folder=$PWD/$1 ;; esac;
shift; cd -- "$folder" || exit 125;
case $1 in '') shell=${SHELL:-/bin/sh} ;; *) shell=$(command -v -- "$1") ||
{ printf 'devsync: there is no shell %s here\n' "$1" >&2; exit 125; } ;; esac;
shift;
""".replace("\n", " ").strip()

# The login shell reads the user's profile (conda, modules); then the words replace it, untouched. It
# goes to the folder once more, since a profile may have left it.
_LAUNCH = (
    _PLACE
    + r"""
inner=$1; shift;
case ${shell##*/} in bash|zsh|ksh|dash|sh) ;; *) shell=/bin/sh ;; esac;
exec "$shell" -lc "$inner" "$folder" "$@"
""".replace("\n", " ").rstrip()
)

_LOGIN = _PLACE + r' exec "$shell" -l'

_MARKED = r"printf 'devsync-pid:%s\n' $$ >&2; "

# `conda activate` needs a function that conda defines for interactive shells only.
_CONDA = r"""
case $(command -v conda) in conda) ;; *)
for devsync_conda in "${CONDA_EXE%/bin/conda}" /anaconda /opt/conda /opt/miniconda
"$HOME/miniconda3" "$HOME/anaconda3" "$HOME/miniforge3" "$HOME/mambaforge";
do if [ -r "$devsync_conda/etc/profile.d/conda.sh" ];
then . "$devsync_conda/etc/profile.d/conda.sh"; break; fi; done; unset devsync_conda ;; esac
""".replace("\n", " ").strip()


@dataclass(frozen=True)
class Surroundings:
    """Where commands run: the folder ('~/' is the home), the login shell (None: the user's own) and what
    is to be done in it before each of them."""

    folder: str
    shell: str | None = None
    setup: str | None = None


def launch(around: Surroundings, order: Order, *, marked: bool = False, buffered: bool = False) -> list[str]:
    """The program and arguments that run an order: what is typed is what runs.

    `marked`: a line on standard error names the process first. Unless `buffered`, Python there is told to
    print as it goes. Exit status 125: the folder, the shell or the setup is not as it should be.
    """
    script = (_MARKED if marked else "") + _LAUNCH
    given = [f"{name}={value}" for name, value in order.env.items()]
    setup = None if order.bare else around.setup
    inner = _inner(setup, len(given), buffered)
    first = [setup] if setup else []
    return [
        *("/bin/sh", "-c", script, "devsync"),
        *(around.folder, around.shell or "", inner, *first, *given, *order.words),
    ]


def _inner(setup: str | None, given: int, buffered: bool) -> str:
    """What the login shell does, with the setup, the variables and the words as its arguments."""
    parts = ['cd -- "$0" || exit 125']
    if setup:
        parts += [_CONDA] if "conda" in setup else []
        failed = "printf 'devsync: the setup failed: %s\\n' \"$1\" >&2; exit 125;"
        # In a function it has arguments of its own, whatever it does to them.
        parts += ['devsync_setup() { eval "$1"; }', f'devsync_setup "$1" </dev/null >&2 || {{ {failed} }}']
        parts += ["unset -f devsync_setup; shift"]
    if not buffered:
        parts += ['export PYTHONUNBUFFERED="${PYTHONUNBUFFERED-1}"']
    parts += ['export "$1"; shift'] * given
    return "; ".join([*parts, 'exec "$@"'])


def command_line(around: Surroundings, order: Order, *, marked: bool = True, buffered: bool = False) -> str:
    """The line for the machine's shell, whichever it is, that runs an order as `launch` does.

    Raises Misuse if that is more than a shell can be given.
    """
    line = _line(launch(around, order, marked=marked, buffered=buffered))
    if len(line.encode("utf-8", "surrogateescape")) > LONGEST:
        raise Misuse(
            f"the command is too long: {sum(map(len, order.words))} characters",
            hint="put the arguments into a file of the project: the machine sees it before the command runs",
        )
    return line


def shell_line(around: Surroundings) -> str:
    """The line that gives a person the login shell in the folder."""
    return _line(["/bin/sh", "-c", _LOGIN, "devsync", around.folder, around.shell or ""])


def _line(words: Sequence[str]) -> str:
    return " ".join(["exec", *map(_quoted, words)])


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
