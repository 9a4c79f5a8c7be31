"""What is asked about Jupyter on the control socket: a server that is found or started, and the way to it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from devsync.core.jobs import Job
from devsync.core.jupyter import PORT, Place, Server
from devsync.daemon.control import Handler, Session
from devsync.daemon.job_requests import JobRequests
from devsync.daemon.parts import JupyterDesk, Parts
from devsync.ports import DevsyncError, Unavailable

STARTS_WITHIN = 120.0
"""Seconds that Jupyter may take until it answers: after a boot it is read from a cold disk."""

PAUSE = 0.2
"""Seconds between two looks at a server that is starting."""

REACH = 10.0
"""Seconds for which the machine is waited for."""

NO_WAY = "install Python's venv there (Debian: sudo apt-get install python3-venv), or see [jupyter] command"

_TOKEN = re.compile(r"(token=)[^\s&]+")


class NoJupyter(DevsyncError):
    """There is none on the machine; `details` has the commands that install it, one a line."""

    def __init__(self, commands: Sequence[str]) -> None:
        line = " && ".join(commands)
        hint = f"devsync run -- sh -c '{line}'" if commands else NO_WAY
        super().__init__("there is no Jupyter for the project's commands on the machine", hint=hint)
        self.details = {"commands": "\n".join(commands)}


class JupyterRequests:
    """One request at a time, so that two windows do not start two servers."""

    def __init__(self, parts: Parts, jobs: JobRequests) -> None:
        self._parts, self._jobs = parts, jobs
        self._turn = threading.Lock()

    def handlers(self) -> Mapping[str, Handler]:
        """Every request by name."""
        return {"jupyter": self.jupyter, "jupyter-stop": self.stop, "jupyter-kernels": self.kernels}

    def jupyter(self, session: Session, args: dict[str, Any]) -> object:
        """The server's URL; one is started if none runs and `start` is wished for."""
        with self._desk() as desk:
            server = desk.server()
            started = server is None
            if server is None:
                if not args.get("start"):
                    raise _nothing()
                server = self._start(session, desk)
        local = self._parts.open_tunnel(server.port)
        url = server.url(local)
        return {"url": url, "local": local, "remote": server.port, "pid": server.pid, "started": started}

    def stop(self, session: Session, args: dict[str, Any]) -> object:
        """End the server that we started, and its kernels; whether there was one."""
        with self._desk() as desk:
            job = self._job()
            if job is not None:
                self._jobs.kill(session, {"job": job.id, "grace": args.get("grace", 10.0)})
            elif (server := desk.server()) is not None:
                raise DevsyncError(
                    f"the Jupyter server on port {server.port} there was not started by devsync",
                    hint=f"end it where it was started, or: devsync run --no-sync -- kill {server.pid}",
                )
        return {"stopped": job is not None}

    def kernels(self, _session: Session, _args: dict[str, Any]) -> object:
        """The kernels of the server that runs."""
        with self._desk() as desk:
            kernels = desk.kernels()
        if kernels is None:
            raise _nothing()
        return [kernel.to_json() for kernel in kernels]

    @contextmanager
    def _desk(self) -> Iterator[JupyterDesk]:
        with self._turn:
            connection = self._parts.link.connection(REACH)
            if connection is None:
                raise Unavailable("the machine is out of reach", hint="devsync status says why")
            desk = self._parts.open_jupyter(connection)
            try:
                yield desk
            finally:
                desk.close()

    def _start(self, session: Session, desk: JupyterDesk) -> Server:
        """Start one, unless one is on its way already, and wait until it answers."""
        job = self._job()
        if job is None:
            session.event({"progress": "looking for Jupyter on the machine"})
            place: Place = desk.place()
            if not place.words:
                raise NoJupyter(place.installs)
            job = self._parts.jobs.start(desk.order(place, self._wanted()), {})
        session.event({"progress": f"Jupyter is starting; devsync logs {job.id} shows what it says"})
        deadline = time.monotonic() + STARTS_WITHIN
        while (server := desk.server()) is None:
            if self._job() is None:
                raise DevsyncError(
                    f"Jupyter has ended again: {self._last_words(job)}", hint=f"devsync logs {job.id}"
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Jupyter was started, but does not answer after {STARTS_WITHIN:.0f} s",
                    hint=f"devsync logs {job.id}; devsync jupyter stop ends it",
                )
            if self._parts.supervisor.stopping.wait(PAUSE):
                raise Unavailable("the daemon is stopping", hint="devsync start")
        return server

    def _job(self) -> Job | None:
        """Our server that runs, or is on its way."""
        jobs = self._parts.jobs.ask(lambda desk: desk.list())
        return next((job for job in reversed(jobs) if job.service and job.state == "running"), None)

    def _wanted(self) -> int:
        """The far end of the tunnel that is meant for Jupyter."""
        remotes = [tunnel["remote"] for tunnel in self._parts.tunnels()]
        wanted = PORT if PORT in remotes or not remotes else remotes[0]
        return int(str(wanted))

    def _last_words(self, job: Job) -> str:
        data, size = b"", -1
        while len(data) != size:
            piece, size, _ = self._parts.jobs.ask(lambda desk: desk.log(job.id, len(data)))  # noqa: B023
            if not piece:
                break
            data += piece
        lines = data.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return _TOKEN.sub(r"\1…", lines[-1].replace("devsync: ", "", 1))


def _nothing() -> DevsyncError:
    return DevsyncError("no Jupyter server runs for this project", hint="devsync jupyter starts one")
