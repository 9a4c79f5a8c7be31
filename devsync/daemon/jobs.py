"""Keeps an eye on the detached jobs: counts what runs, says when one has ended, asks the machine about them.

The service's thread owns the desk, by which the machine is asked; others put a question to it by `ask`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol, TypeVar

from devsync.core.jobs import Job, Order, lasted
from devsync.daemon.activities import Activities
from devsync.daemon.board import Board
from devsync.daemon.link import Link
from devsync.ports import Connection, DevsyncError, Notifier, Unavailable

log = logging.getLogger(__name__)

WHILE_RUNNING, OTHERWISE = 1.0, 10.0
"""Seconds between two looks. A job that is started or ended here is looked at when that happens."""

NOT_HERE = 60.0
"""Seconds until a machine that cannot do it is asked again."""

OPEN_WITHIN = 10.0
"""Seconds for which a question waits for a desk that is being opened."""

AWAY = Unavailable("the machine is out of reach", hint="devsync status says why")

T = TypeVar("T")


class Desk(Protocol):
    """Where the machine is asked about its jobs, as `work` opens it. Any method may raise Unavailable."""

    def start(self, order: Order, origin: Mapping[str, str | None]) -> Job: ...
    def list(self) -> list[Job]: ...
    def log(self, job: str, offset: int) -> tuple[bytes, int, Job]: ...
    def kill(self, job: str, grace: float) -> Job: ...
    def close(self) -> None: ...


class Recorder(Protocol):
    """What was run, kept on this computer."""

    def write(self, job: Job) -> None: ...
    def read(self) -> list[Job]: ...


class JobKeeper:
    """The service. What it counts stands on the board and is a sign of work."""

    name = "jobs"

    def __init__(
        self,
        *,
        link: Link,
        open_desk: Callable[[Connection], Desk],
        board: Board,
        activities: Activities,
        records: Recorder,
        notifier: Notifier,
    ) -> None:
        self._link, self._open_desk, self._board = link, open_desk, board
        self._activities, self._records, self._notifier = activities, records, notifier
        self._desk: Desk | None = None
        self._held: Connection | None = None  # what the desk is on
        self._why: DevsyncError = AWAY
        self._turn = threading.Lock()  # over the desk, while it is asked
        self._settled = threading.Event()  # whether the desk is open, or why not, is known
        self._ring = threading.Event()
        self._awaited: dict[str, Job] = {}
        """The jobs of this computer whose end was not seen yet."""

    # ------------------------------------------------------------ for other threads

    def ask(self, question: Callable[[Desk], T]) -> T:
        """What the machine answers. Raises Unavailable, or another DevsyncError that says what is missing."""
        if self._board.read().link.state == "connected":
            self._leave_lost_desk()
            self._settled.wait(OPEN_WITHIN)
        with self._turn:
            if self._desk is None:
                raise self._why
            try:
                return question(self._desk)
            except Unavailable as error:
                self._ring.set()  # the service shall notice now, not at its next look
                raise AWAY from error

    def _leave_lost_desk(self) -> None:
        """The link may have been lost and be back before the service had a reason to look."""
        with self._turn:
            if self._desk is not None and self._link.connection(0.0) is not self._held:
                self._settled.clear()
                self._ring.set()

    def start(self, order: Order, origin: Mapping[str, str | None]) -> Job:
        """Start a job, and tell of its end."""
        job = self.ask(lambda desk: desk.start(order, origin))
        self._records.write(job)
        self._awaited[job.id] = job
        self._ring.set()
        return job

    def look_again(self) -> None:
        """Something has changed."""
        self._ring.set()

    # ------------------------------------------------------------ the service

    def run(self, stop: threading.Event) -> None:
        """Look at the jobs whenever the machine is within reach."""
        self._see(None)
        self._awaited = {job.id: job for job in self._records.read() if job.detached and not job.over}
        while not stop.is_set():
            connection = self._link.connection(0.5)
            if connection is None:
                continue
            try:
                self._serve(connection, stop)
            except Unavailable as error:
                log.info("jobs: %s", error.message)
                self._rest(1.0)
            except DevsyncError as error:  # a machine without Python, above all: there are no jobs then
                self._why = DevsyncError(f"no detached jobs here: {error.message}", hint=error.hint)
                self._settled.set()
                self._see(())
                self._rest(NOT_HERE)

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        desk = self._desk
        self._ring.set()
        if desk is not None:
            desk.close()

    def _rest(self, seconds: float) -> None:
        self._ring.wait(seconds)
        self._ring.clear()

    def _serve(self, connection: Connection, stop: threading.Event) -> None:
        desk = self._open_desk(connection)
        try:
            with self._turn:
                self._desk, self._held, self._why = desk, connection, AWAY
                self._settled.set()
            while not stop.is_set() and self._link.connection(0.0) is connection:
                with self._turn:
                    jobs = desk.list()
                self._see(jobs)
                self._rest(WHILE_RUNNING if _working(jobs) else OTHERWISE)
        finally:
            self._desk = self._held = None
            self._settled.clear()
            desk.close()
            self._see(None)

    def _see(self, jobs: Collection[Job] | None) -> None:
        """What runs now; None: nobody knows."""
        running = None if jobs is None else _working(jobs)
        self._activities.detached(running)
        alive = [] if jobs is None else [job for job in jobs if job.state == "running"]
        self._activities.jobs(None if jobs is None else {job.id: job.name or job.id for job in alive})
        self._board.detached(running)
        for job in jobs or ():
            if job.over and job.id in self._awaited:
                del self._awaited[job.id]
                self._records.write(job)
                self._tell(job)

    def _tell(self, job: Job) -> None:
        how = f"ended with status {job.status}" if job.state == "ended" else "is gone without a word"
        after = "" if job.seconds is None else f" after {lasted(job.seconds)}"
        self._notifier.notify(
            f"devsync: {job.name or job.id} {how}{after}", f"{' '.join(job.command)} (devsync logs {job.id})"
        )


def _working(jobs: Collection[Job]) -> int:
    """How many are at work: what a Jupyter server does, its kernels tell."""
    return sum(job.state == "running" and not job.service for job in jobs)
