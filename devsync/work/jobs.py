"""The near end of detached jobs: what the daemon asks of `jobs_there`, judged before it is believed."""

from __future__ import annotations

import base64
import inspect
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from devsync.core.jobs import Job, Order, job_from_json
from devsync.ports import DevsyncError
from devsync.work import warden
from devsync.work.command import Surroundings, launch

TRAVELLING = ("devsync.work.warden", "devsync.work.jobs_there")
"""The modules that travel for it; the last has the verbs."""

VERBS = ((TRAVELLING[-1], TRAVELLING[:-1]),)
"""What the helper needs besides its own verbs: a module with more, and what that needs."""


class Jobs:
    """The jobs of one project, by a helper that knows VERBS. One owner; closing it ends the helper."""

    def __init__(self, ask: Callable[..., Any], close: Callable[[], None], around: Surroundings) -> None:
        """`ask(verb, **arguments)` waits for the helper's answer. Every method raises what it raises."""
        self._ask, self._close, self._around = ask, close, around

    def start(self, order: Order, origin: Mapping[str, str | None]) -> Job:
        """Start a job, which from then on needs nobody."""
        identity = secrets.token_hex(4)
        about = {
            "name": order.name,
            "command": list(order.command),
            "env": sorted(order.env),
            "service": order.service,
            "origin": dict(origin),
        }
        answer = self._ask(
            "start-job",
            root=self._around.folder,
            id=identity,
            words=launch(self._around, order),
            job=about,
            warden=inspect.getsource(warden),
        )
        return _job(answer)

    def list(self) -> list[Job]:
        """Every job that the machine knows of, the newest last."""
        answer = self._ask("jobs", root=self._around.folder)
        if not isinstance(answer, list):
            raise _nonsense()
        return [_job(one) for one in answer]

    def log(self, job: str, offset: int) -> tuple[bytes, int, Job]:
        """A piece of a job's log from `offset` on; the log's size; the job as it was just before."""
        answer = self._ask("job-log", root=self._around.folder, id=job, offset=offset)
        try:
            return base64.b64decode(answer["data"], validate=True), int(answer["size"]), _job(answer["job"])
        except (TypeError, KeyError, ValueError) as error:
            raise _nonsense() from error

    def kill(self, job: str, grace: float) -> Job:
        """Ask for the end of a job and of all that it started: TERM, and KILL after `grace` seconds."""
        return _job(self._ask("kill-job", root=self._around.folder, id=job, grace=grace))

    def close(self) -> None:
        """End the helper; from any thread, and what waits for it fails with Unavailable."""
        self._close()


def _job(value: object) -> Job:
    try:
        return job_from_json(value)
    except ValueError as error:
        raise _nonsense() from error


def _nonsense() -> DevsyncError:
    return DevsyncError("the machine's helper gave an answer about jobs that makes no sense")
