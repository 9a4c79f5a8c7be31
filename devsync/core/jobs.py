"""Detached jobs and plain runs: what is known of one, and which one a word means. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

ID = re.compile(r"[0-9a-f]{8}")
"""What a job's id looks like."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a job may be called."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of an environment variable."""

STATES = ("running", "ended", "lost", "unknown")
"""lost: gone without a word, as with a restart of the machine; unknown: the machine is out of reach."""


@dataclass(frozen=True)
class Order:
    """What is to run: the words as they were typed, variables besides those of the login, a name for it.

    `shown` is what people are told of it, where the words are devsync's own. `bare`: without the setup.
    `service`: it waits for work and is none itself.
    """

    words: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    shown: Sequence[str] | None = None
    bare: bool = False
    service: bool = False

    @property
    def command(self) -> tuple[str, ...]:
        """What a record says was run."""
        return tuple(self.words if self.shown is None else self.shown)


@dataclass(frozen=True)
class Job:
    """A command that was run. Times are seconds since 1970; `seconds` is how long it ran, or has run.

    `env` names the variables that were given, never their values. `origin` is the state of the project:
    commit, branch, and the digest of what was not committed. A `service` that runs keeps no machine busy.
    """

    id: str
    command: tuple[str, ...]
    started: float
    state: str = "running"
    name: str | None = None
    detached: bool = True
    status: int | None = None
    ended: float | None = None
    seconds: float | None = None
    env: tuple[str, ...] = ()
    origin: Mapping[str, str | None] = field(default_factory=dict)
    service: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return self.state in ("ended", "lost")

    def to_json(self) -> dict[str, Any]:
        """The job as a JSON value."""
        return {
            **asdict(self),
            "command": list(self.command),
            "env": list(self.env),
            "origin": dict(self.origin),
        }


def job_from_json(value: object) -> Job:
    """A job from its JSON value. Raises ValueError unless it is one in every part."""
    if not isinstance(value, dict):
        raise ValueError("no job")
    job = Job(
        id=_of(str, value, "id"),
        command=_texts(value.get("command")),
        started=float(_of((int, float), value, "started")),
        state=_of(str, value, "state"),
        name=_or_none(str, value, "name"),
        detached=_of(bool, value, "detached"),
        status=_or_none(int, value, "status"),
        ended=_or_none((int, float), value, "ended"),
        seconds=_or_none((int, float), value, "seconds"),
        env=_texts(value.get("env")),
        origin=_origin(value.get("origin")),
        service=value.get("service") is True,
    )
    if not ID.fullmatch(job.id) or job.state not in STATES or (job.name and not NAME.fullmatch(job.name)):
        raise ValueError("no job")
    return job


def _of(kind: type | tuple[type, ...], value: Mapping[str, Any], key: str) -> Any:
    found = value.get(key)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise ValueError(f"{key} of a job is missing or makes no sense")
    return found


def _or_none(kind: type | tuple[type, ...], value: Mapping[str, Any], key: str) -> Any:
    return None if value.get(key) is None else _of(kind, value, key)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("a job with words that are none")
    return tuple(value)


def _origin(value: object) -> dict[str, str | None]:
    if not isinstance(value, dict) or not all(isinstance(one, (str, type(None))) for one in value.values()):
        raise ValueError("a job of no origin")
    return {str(key): one for key, one in value.items()}


def find(jobs: Iterable[Job], word: str) -> Job | list[Job] | None:
    """The job that `word` means: an id, else the newest of that name, else the only id that begins so.

    Several, if it could mean each of them; None, if none.
    """
    jobs = list(jobs)
    exact = [job for job in jobs if job.id == word]
    named = sorted((job for job in jobs if job.name == word), key=lambda job: job.started)
    if exact or named:
        return (exact or named)[-1]
    begun = [job for job in jobs if word and job.id.startswith(word)]
    return begun[0] if len(begun) == 1 else begun or None


def merge(there: Collection[Job] | None, recorded: Iterable[Job], carried: Collection[str] = ()) -> list[Job]:
    """Every job once, the newest last: as the machine tells it, else as it was recorded here.

    `there` is None while the machine is out of reach: a recorded job that has not ended may then run or not.
    `carried` are the ids of those that the daemon itself carries just now.
    """
    told = {job.id: job for job in there or ()}
    for job in recorded:
        if job.id not in told:
            doubtful = not job.over and job.id not in carried
            away = job.detached and there is None
            told[job.id] = replace(job, state="unknown" if away else "lost") if doubtful else job
    return sorted(told.values(), key=lambda job: (job.started, job.id))


def lasted(seconds: float) -> str:
    """A span of time for people: `4.2 s`, `3 min 5 s`, `2 h 40 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
