"""Detached jobs in memory, and what is written and told of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from devsync.core.jobs import Job, Order
from devsync.ports import Connection, DevsyncError, Unavailable


class FakeDesk:
    """A daemon.jobs.Desk whose jobs do what the test says."""

    def __init__(self) -> None:
        self.known: dict[str, Job] = {}
        self.logs: dict[str, bytes] = {}
        self.killed: list[tuple[str, float]] = []
        self.looked = threading.Semaphore(0)
        self.refusal: DevsyncError | None = None
        """Why it cannot be opened."""
        self.lost = False
        self.opened = 0

    def open(self, connection: Connection) -> FakeDesk:
        """The desk, on a connection."""
        if self.refusal is not None:
            raise self.refusal
        self.opened += 1
        return self

    def start(self, order: Order, origin: Mapping[str, str | None]) -> Job:
        self._reach()
        job = Job(f"{len(self.known):08x}", tuple(order.words), 1000.0 + len(self.known), origin=origin)
        env = tuple(sorted(order.env))
        self.known[job.id] = replace(job, name=order.name, env=env, service=order.service)
        self.logs[job.id] = b""
        return self.known[job.id]

    def list(self) -> list[Job]:
        self._reach()
        self.looked.release()
        return list(self.known.values())

    def log(self, job: str, offset: int) -> tuple[bytes, int, Job]:
        self._reach()
        return self.logs[job][offset : offset + 4], len(self.logs[job]), self.known[job]

    def kill(self, job: str, grace: float) -> Job:
        self._reach()
        self.killed.append((job, grace))
        self.end(job, 143)
        return self.known[job]

    def end(self, job: str, status: int) -> None:
        """The job ends."""
        self.known[job] = replace(self.known[job], state="ended", status=status, seconds=65.0)

    def close(self) -> None:
        """Nothing is held."""

    def _reach(self) -> None:
        if self.lost:
            raise Unavailable("the connection was lost")


class FakeRecords:
    """What was written down, the last line of each."""

    def __init__(self) -> None:
        self.written: dict[str, Job] = {}

    def write(self, job: Job) -> None:
        self.written[job.id] = job

    def read(self) -> list[Job]:
        return list(self.written.values())


class FakeNotifier:
    """A ports.Notifier that remembers."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def notify(self, title: str, text: str) -> None:
        self.heard.append((title, text))
