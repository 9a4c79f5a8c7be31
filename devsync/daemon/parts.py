"""What the answers to requests act on: the parts of a running daemon, each by what is used of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from devsync.core.jobs import Order
from devsync.core.jupyter import Kernel, Place, Server
from devsync.daemon.activities import Activities
from devsync.daemon.board import Board
from devsync.daemon.inbox import Inbox
from devsync.daemon.jobs import JobKeeper, Recorder
from devsync.daemon.link import Link
from devsync.daemon.status import Identity
from devsync.daemon.supervisor import Supervisor
from devsync.ports import Clock, Connection, Terminal


class RunningCommand(Protocol):
    """A command on the machine, as `work` starts it."""

    def pump(
        self, spawn: Callable[..., Any], out: Callable[[bytes], None], err: Callable[[bytes], None]
    ) -> None: ...
    def wait(self) -> int: ...
    def feed(self, data: bytes) -> None: ...
    def end_of_input(self) -> None: ...
    def resize(self, columns: int, rows: int) -> None: ...
    def signal(self, number: int) -> None: ...
    def close(self) -> None: ...


class JupyterDesk(Protocol):
    """Where the machine is asked about Jupyter, as `work` opens it. Any method may raise Unavailable."""

    def server(self) -> Server | None: ...
    def kernels(self) -> list[Kernel] | None: ...
    def place(self) -> Place: ...
    def order(self, place: Place, port: int) -> Order: ...
    def close(self) -> None: ...


StartCommand = Callable[[Connection, Order, Terminal | None], RunningCommand]


@dataclass(frozen=True)
class Parts:
    """What requests act on."""

    board: Board
    inbox: Inbox
    link: Link
    activities: Activities
    supervisor: Supervisor
    identity: Identity
    tunnels: Callable[[], list[Mapping[str, object]]]
    open_tunnel: Callable[[int], int]
    """The port here that leads to this one there, opened if there is none."""
    open_jupyter: Callable[[Connection], JupyterDesk]
    start_command: StartCommand
    accept_host_key: Callable[[str], None]
    jobs: JobKeeper
    records: Recorder
    clock: Clock
    origin: Callable[[], Mapping[str, str | None]]
    """From which state of the project something runs that is started now."""
    release: Callable[[], Future[str]]
    """Deallocate now, unless something works: empty once that is done, else why it stays."""
    past: Callable[[float, Mapping[str, Any] | None], Mapping[str, object]]
    """What was busy within so many seconds, and what other settings, by key, would have made of it."""
    watching: Callable[[], Mapping[str, object]] = dict
    """How each side is watched; for `local`, in words, what is not."""
