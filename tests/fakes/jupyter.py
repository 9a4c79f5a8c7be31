"""The machine's Jupyter in memory: it answers when it has been looked for often enough."""

from __future__ import annotations

from devsync.core.jobs import Order
from devsync.core.jupyter import Kernel, Place, Server
from devsync.ports import Connection


class FakeJupyter:
    """A daemon.parts.JupyterDesk. `runs` is the server; `later` comes after `looks` looks."""

    def __init__(self) -> None:
        self.runs: Server | None = None
        self.later: Server | None = None
        self.looks = 0
        self.found = Place(("jupyter-lab",))
        self.rows: list[Kernel] = []
        self.opened = self.closed = 0
        self.ports: list[int] = []

    def open(self, connection: Connection) -> FakeJupyter:
        """The desk, on a connection."""
        self.opened += 1
        return self

    def server(self) -> Server | None:
        if self.runs is None and self.ports:
            self.looks -= 1
            if self.looks < 0:
                self.runs = self.later
        return self.runs

    def kernels(self) -> list[Kernel] | None:
        return None if self.runs is None else self.rows

    def place(self) -> Place:
        return self.found

    def order(self, place: Place, port: int) -> Order:
        self.ports.append(port)
        return Order((*place.words, f"--port={port}"), {}, "jupyter", service=True)

    def close(self) -> None:
        self.closed += 1
