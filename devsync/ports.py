"""Every seam between the rooms and every error that reaches a user, on one page.

The errors, by what is to be done about them (a problem of one path is data, never an exception):

    DevsyncError              failed; exit status 1
    ├── Unavailable           the network, the machine or the daemon is away; comes back by itself (3)
    ├── NeedsUser             login refused, host key unknown: stays down until somebody acts (3)
    │   └── Halted            a safety stop; nothing was applied (4)
    │       └── Owned         the folder is another devsync's
    ├── Misuse                bad usage or bad configuration (2)
    └── Unfinished            done, but conflicts are open (5)

Third-party exceptions are translated in the one module that knows the library.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol, TypeVar

from devsync.core.ignore import Rules as Rules  # noqa: PLC0414 (part of the seams)
from devsync.core.older import ContentChanged as ContentChanged  # noqa: PLC0414 (as above)
from devsync.core.older import PutOff as PutOff  # noqa: PLC0414
from devsync.core.snapshot import Change, Digest, File, Outcome, RelPath, Snapshot

T_co = TypeVar("T_co", covariant=True)

# ---------------------------------------------------------------- errors


class DevsyncError(Exception):
    """Something a user reads: what happened and where; `hint` says what to do."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unavailable(DevsyncError):
    """Out of reach for now. Whoever supervises tries again with back-off."""

    exit_status = 3


class NeedsUser(DevsyncError):
    """Trying again changes nothing until the user acts. Other parts go on."""

    exit_status = 3


class Halted(NeedsUser):
    """A safety stop: what was seen looks like an accident, and nothing was applied."""

    exit_status = 4


class Owned(Halted):
    """A folder is, or has become, another devsync's, which the message names."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="stop that one, or take the folder: devsync start --take-over")


class Misuse(DevsyncError):
    """Bad usage or bad configuration: names the file, the line and the key."""

    exit_status = 2


class Unfinished(DevsyncError):
    """Everything else was done, but conflicts are open."""

    exit_status = 5


# ---------------------------------------------------------------- replicas


class Staging(Protocol):
    """The receiving side of a transfer: contents arrive here by digest, before anything is replaced."""

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        """Take the content of `file`.

        `chunks` may be consumed later, at the latest in `finish`. A ContentChanged or OSError that it
        raises is that file's problem alone. Raises Unavailable if the replica is out of reach.
        """

    def finish(self) -> Mapping[Digest, str]:
        """Wait until every byte is acknowledged. The contents that are not there, and why."""


class Replica(Protocol):
    """Files, wherever they are. One owner, one thread; every call may raise Unavailable.

    A replica never touches anything outside its root, never follows a symbolic link, and refuses
    paths that are not `proper`. From `claim` on, each call that looks or changes raises Owned, with
    nothing changed, once somebody else has claimed the folder, and Halted once it is another folder.
    """

    def claim(self, owner: str, name: str, *, take_over: bool) -> None:
        """Make this side ours, then finish what a commit that died has left. `close` gives it back.

        Owned if another `owner` lives there, unless `take_over`; `name` is what people are told of us. The
        same owner may claim again, which ends his earlier claim.
        """

    def beat(self) -> None:
        """Show that we live. May be called while a staging consumes chunks."""

    def set_rules(self, rules: Rules) -> None:
        """What is mirrored from now on; the rest is invisible to `scan`."""

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        """Look at the paths in `scope` and below them, or at everything. Halted if the root is gone."""

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: Staging) -> None:
        """Hand the contents of `wanted` to another replica's staging."""

    def staging(self) -> Staging:
        """Where contents for this replica are put before `apply`."""

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make the changes, each only if its `old` is what is there; one outcome each, in order.

        Contents must have been staged; they stay until a change needs them. What is replaced or deleted
        goes to this side's trash.
        """

    def marker(self) -> Mapping[str, object] | None:
        """The identity that was written to this replica, or None if it has none."""

    def write_marker(self, marker: Mapping[str, object]) -> None:
        """Give this replica an identity, durably."""

    def interrupt(self) -> None:
        """Make a call that is blocked in another thread fail with Unavailable."""

    def close(self) -> None:
        """Release what is held; a second call does nothing."""


class Hints(Protocol):
    """Where to look: a watcher's side of the conversation. Never the truth, may be incomplete."""

    def add(self, paths: Iterable[RelPath]) -> None:
        """These paths may have changed; `ROOT` stands for everything."""


# ---------------------------------------------------------------- SFTP


@dataclass(frozen=True)
class Attributes:
    """What SFTP version 3 tells of a file: bytes, st_mode with the file type, whole seconds."""

    size: int = 0
    mode: int = 0
    mtime: int = 0


class Pending(Protocol[T_co]):
    """An answer that is on its way."""

    def result(self) -> T_co:
        """Wait for it. Raises OSError (with errno) as the server said, Unavailable if the link broke."""


class Writing(Protocol):
    """A file that is being written, in order. What goes wrong is said by `close`."""

    def write(self, data: bytes) -> int:
        """Send this next; waits only where too much is under way. How much that is by then, in bytes."""

    def close(self) -> Pending[None]:
        """Nothing more comes. The result is there once every status is good."""


class Sftp(Protocol):
    """A pipelined SFTP client: a call sends its request at once and returns; `result` waits.

    Paths are bytes, as the server has them. The server does a channel's requests in order, so a later
    request may rely on an earlier one without waiting for it. One owner, one thread.
    """

    extensions: Mapping[str, bytes]

    def write_file(
        self, path: bytes, chunks: Iterable[bytes], mode: int, durable: bool = False
    ) -> Pending[int]:
        """Create the file, or truncate it, and write `chunks`: the size, once every status is good.

        `chunks` is consumed later; what it raises (OSError, ContentChanged) becomes the result. A file
        that could not be written whole is removed again. `durable`: on the disk, if the server can tell.
        """

    def begin_file(self, path: bytes, mode: int) -> Writing:
        """Create the file, or truncate it, ahead of what will be written to it."""

    def hurry(self) -> None:
        """Everything that was asked for so far is on its way when this returns."""

    def read_file(self, path: bytes, size: int, start: int = 0) -> Iterable[bytes]:
        """The content from `start` on, requested ahead; a file of `size` is expected, its end decides."""

    def lstat(self, path: bytes) -> Pending[Attributes]: ...

    def list_folder(self, path: bytes) -> Pending[Mapping[bytes, Attributes]]:
        """Every entry without '.' and '..'; an error, never a part of it."""

    def readlink(self, path: bytes) -> Pending[bytes]: ...
    def realpath(self, path: bytes) -> Pending[bytes]: ...
    def mkdir(self, path: bytes, mode: int) -> Pending[None]: ...
    def rmdir(self, path: bytes) -> Pending[None]: ...
    def remove(self, path: bytes) -> Pending[None]: ...

    def rename(self, old: bytes, new: bytes) -> Pending[None]:
        """Give a file another name; FileExistsError or OSError if `new` is taken."""

    def replace(self, old: bytes, new: bytes) -> Pending[None]:
        """As `rename`, but what `new` named is gone (posix-rename@openssh.com)."""

    def symlink(self, target: bytes, path: bytes) -> Pending[None]: ...
    def set_mode(self, path: bytes, mode: int) -> Pending[None]: ...

    def interrupt(self) -> None:
        """From any thread: every wait ends with Unavailable."""

    def close(self) -> None: ...


# ---------------------------------------------------------------- the link


class ByteStream(Protocol):
    """Two directions of bytes. `send` and `recv` may be used by one thread each at the same time."""

    def send(self, data: bytes | memoryview) -> None:
        """Hand over all of `data`, waiting for room. Raises Unavailable when the other end is gone."""

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes, waiting for the first; b"" at the end. Raises Unavailable on a lost link."""

    def pending(self) -> bool: ...  # whether `recv` would return at once

    def shutdown_write(self) -> None: ...  # nothing more will be sent

    def close(self) -> None: ...  # ends both directions and unblocks the other thread


@dataclass(frozen=True)
class Terminal:
    """A pseudo-terminal to be allocated there."""

    term: str
    columns: int
    rows: int


class Process(ByteStream, Protocol):
    """A command that runs on the machine; the stream is its standard input and output."""

    def recv_stderr(self, size: int) -> bytes:
        """As `recv`, of the standard error."""

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size now."""

    def wait(self) -> int:
        """The exit status (128 + n if signal n ended it). Raises Unavailable if the link broke before."""


class Connection(Protocol):
    """One authenticated SSH connection to the machine. Any thread may open channels on it."""

    def exec(self, command: str, terminal: Terminal | None = None) -> Process:
        """Run a shell command line. If the machine refuses, the process says so (DevsyncError)."""

    def subsystem(self, name: str) -> ByteStream:
        """Open a subsystem, 'sftp' above all. If the machine has none, the stream says so (DevsyncError)."""

    def forward(self, host: str, port: int, take: Callable[[bytes], int] | None = None) -> ByteStream:
        """Connect to host:port there, or ConnectionRefusedError; `take` goes first while `recv` waits."""

    def rtt(self) -> float | None:
        """Seconds that the last answered heartbeat took; None before the first."""

    def wait_closed(self, timeout: float) -> str | None:
        """Wait until the connection is lost and return why; None when `timeout` seconds have passed."""

    def close(self) -> None: ...


Connect = Callable[[], Connection]
"""Opens a connection. Raises Unavailable or NeedsUser."""


# ---------------------------------------------------------------- the machine


class Power(Enum):
    """The machine's state. `stopped` is billed, only `deallocated` is not."""

    RUNNING = "running"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DEALLOCATING = "deallocating"
    DEALLOCATED = "deallocated"
    MISSING = "missing"
    UNKNOWN = "unknown"

    @property
    def billed(self) -> bool | None:
        """Whether the machine costs money in this state; None if nobody can say."""
        if self is Power.UNKNOWN:
            return None
        return self not in (Power.DEALLOCATING, Power.DEALLOCATED, Power.MISSING)


@dataclass(frozen=True)
class Address:
    """Where the machine's SSH server is. `alias` names the machine in known_hosts when its address moves."""

    host: str
    port: int = 22
    alias: str | None = None


Progress = Callable[[str], None]
"""Told one line for people, each time something changes."""


class Machine(Protocol):
    """Where code runs. One call at a time; the waiting calls poll, and end when `stop` is set."""

    provider: str

    def power(self) -> Power:
        """The state now, read from the source. Raises Unavailable or NeedsUser."""

    def start(self, stop: threading.Event, progress: Progress) -> None:
        """Return when the machine runs; does nothing if it runs already."""

    def deallocate(self, stop: threading.Event, progress: Progress) -> None:
        """Return when the state has been read back as `deallocated`.

        Raises DevsyncError if it was not to be had; the machine is then billed.
        """

    def address(self) -> Address:
        """Where SSH answers; read anew at each call."""

    def close(self) -> None: ...


# ---------------------------------------------------------------- time, threads, people


class Clock(Protocol):
    """Two clocks: one for people, one for decisions."""

    def now(self) -> datetime:
        """The time of day, in UTC."""

    def monotonic(self) -> float:
        """Seconds that only grow; not counting the time that the computer slept is allowed."""


class Service(Protocol):
    """Something that lives in a thread of the supervisor's.

    `run` returns when it has finished or `stop` is set. Unavailable means: start me again with
    back-off. NeedsUser means: leave me down and say so. Anything else ends the daemon.
    """

    name: str

    def run(self, stop: threading.Event) -> None: ...

    def interrupt(self) -> None:
        """Called from another thread after `stop` was set: make `run` return soon."""


Spawn = Callable[[str, Callable[[], None]], threading.Thread]
"""Starts a named thread that the supervisor owns and joins: spawn(name, body)."""


class Notifier(Protocol):
    """How the user hears of something that cannot wait for `status`."""

    def notify(self, title: str, text: str) -> None: ...
