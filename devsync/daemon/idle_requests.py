"""What is asked about idleness on the control socket: the verdict, its past, and to keep the machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from devsync.core.jobs import Job
from devsync.daemon.control import Handler, Session
from devsync.daemon.parts import Parts
from devsync.ports import DevsyncError, Misuse

DAY = 86400.0
LONGEST = 7 * DAY
"""Seconds that are recorded."""


class IdleRequests:
    """Answers by the board, the signs of work and the records of them."""

    def __init__(self, parts: Parts, find: Callable[[Mapping[str, Any]], Job]) -> None:
        """`find` is the job that a request names; it may raise DevsyncError."""
        self._parts, self._find = parts, find

    def handlers(self) -> Mapping[str, Handler]:
        """Every request by name."""
        return {"idle": self.idle, "past": self.past, "keepalive": self.keepalive}

    def idle(self, _session: Session, _args: dict[str, Any]) -> object:
        """The last verdict; of a machine that is off, what ended with it."""
        facts = self._parts.board.read()
        if facts.idle.verdict:
            return {**facts.idle.verdict, "last": None}
        off = not self._parts.link.wanted
        why = f"is {facts.link.power}" if off else "is out of reach, so nothing is known"
        nothing = {"since": None, "deallocate_at": None, "signals": list[object]()}
        last = dict(facts.idle.last) if off and facts.idle.last else None
        return {"verdict": "idle" if off else "busy", "reason": f"the machine {why}", **nothing, "last": last}

    def past(self, _session: Session, args: dict[str, Any]) -> object:
        """What was busy within the last `within` seconds; `replay` has other settings, by key."""
        within = min(LONGEST, float(args.get("within") or DAY))
        return self._parts.past(within, args.get("replay"))

    def keepalive(self, _session: Session, args: dict[str, Any]) -> object:
        """Keep the machine `until` a moment, or while `job` runs; neither takes it back."""
        if args.get("job"):
            job = self._find(args)
            if job.over:
                raise DevsyncError(f"job {job.id} has ended already", hint="devsync jobs")
            self._parts.activities.keep_until(job.id)
            return {"job": job.id}
        until = args.get("until")
        self._parts.activities.keep_until(None if until is None else _moment(until))
        return None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise Misuse(f"no moment: {text!r}", hint="as in 2026-01-31T12:00:00+00:00") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
