"""What is asked about jobs on the control socket: which there are, what one prints, its end."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from devsync.core.jobs import Job, find, merge
from devsync.daemon.control import Handler, Session
from devsync.daemon.parts import Parts
from devsync.ports import DevsyncError, Misuse, Unavailable

PAUSE = 0.1
"""Seconds between two looks at a job whose log or end is awaited."""

MARGIN = 10.0
"""Seconds beyond its grace that a job may take to be gone."""


class JobRequests:
    """Answers by what the job keeper and the records know."""

    def __init__(self, parts: Parts, carried: Collection[str]) -> None:
        """`carried`: the ids of the runs that the daemon itself carries."""
        self._parts, self._carried = parts, carried

    def handlers(self) -> Mapping[str, Handler]:
        """Every request by name."""
        return {"jobs": self.jobs, "log": self.log, "kill": self.kill}

    def jobs(self, _session: Session, _args: dict[str, Any]) -> object:
        """Every job and run that is known; `away` says why the machine did not tell its part."""
        away = None
        there: list[Job] | None = None
        try:
            there = self._parts.jobs.ask(lambda desk: desk.list())
        except DevsyncError as error:
            away = error.message
        jobs = merge(there, self._parts.records.read(), self._carried)
        return {"jobs": [job.to_json() for job in jobs], "away": away}

    def log(self, _session: Session, args: dict[str, Any]) -> object:
        """The log of `job` from `offset` on, as soon as there is more, it has ended, or `wait` is over."""
        offset = int(args.get("offset", 0))
        job = self.find(args)
        size, data = 0, b""

        def look() -> bool:
            nonlocal size, data, job
            data, size, job = self._parts.jobs.ask(lambda desk: desk.log(job.id, offset))
            return bool(data) or job.over

        self._until(look, float(args.get("wait", 0.0)))
        return {"data": base64.b64encode(data).decode("ascii"), "size": size, "job": job.to_json()}

    def kill(self, session: Session, args: dict[str, Any]) -> object:
        """End `job` and all that it started: TERM, after `grace` seconds KILL; returns when it is gone."""
        grace = float(args.get("grace", 10.0))
        job = self.find(args)
        if job.over:
            raise DevsyncError(f"job {job.id} has ended already", hint="devsync jobs")
        job = self._parts.jobs.ask(lambda desk: desk.kill(job.id, grace))
        session.event({"progress": f"job {job.id} was asked to end"})

        def gone() -> bool:
            nonlocal job
            job = next(
                (one for one in self._parts.jobs.ask(lambda desk: desk.list()) if one.id == job.id), job
            )
            return job.over

        if not self._until(gone, grace):
            job = self._parts.jobs.ask(lambda desk: desk.kill(job.id, 0.0))  # its warden may be gone
            if not self._until(gone, MARGIN):
                raise DevsyncError(f"job {job.id} does not end", hint="devsync ssh, and look at it there")
        self._parts.jobs.look_again()
        return {"job": job.to_json()}

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            if self._parts.supervisor.stopping.wait(PAUSE):
                raise Unavailable("the daemon is stopping", hint="devsync start")
        return True

    def find(self, args: Mapping[str, Any]) -> Job:
        """The job that `job` means. Raises Misuse if that could be several, DevsyncError if none."""
        word = str(args.get("job", ""))
        found = find(self._parts.jobs.ask(lambda desk: desk.list()), word)
        if isinstance(found, Job):
            return found
        if found is None:
            raise DevsyncError(f"there is no job '{word}'", hint="devsync jobs lists them")
        ids = ", ".join(sorted(job.id for job in found))
        raise Misuse(f"'{word}' could be each of {len(found)} jobs: {ids}", hint="write more of the id")
