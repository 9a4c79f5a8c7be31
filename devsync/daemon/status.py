"""What `status` answers: the facts on the board in the words of the contract. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from devsync.daemon.board import Facts


@dataclass(frozen=True)
class Identity:
    """What does not change while the daemon runs. `since` as in JSON (UTC, seconds)."""

    project: str
    root: str
    pid: int
    since: str
    provider: str


def state(facts: Facts) -> str:
    """The one word for what is going on."""
    if facts.sync.activity == "halted":
        return "halted"
    if facts.link.state == "off" or "link" in facts.troubles:
        return "offline"
    if facts.link.state == "away":
        return "starting"
    if facts.link.state == "connecting" or facts.sync.activity in ("starting", "connecting"):
        return "connecting"
    return "watching" if facts.sync.activity == "watching" else "synchronising"


def as_json(
    facts: Facts,
    identity: Identity,
    tunnels: Sequence[Mapping[str, object]],
    watching: Mapping[str, object],
) -> dict[str, object]:
    """The document of `devsync status --json`."""
    sync, link, idle = facts.sync, facts.link, facts.idle
    return {
        "project": identity.project,
        "root": identity.root,
        "state": state(facts),
        "since": identity.since,
        "pid": identity.pid,
        "machine": {
            "provider": identity.provider,
            "state": link.power,
            "host": link.host,
            "billed": link.billed,
            "progress": link.progress or None,
        },
        "connection": {
            "state": link.state,
            "rtt_ms": None if link.rtt is None else round(link.rtt * 1000, 1),
        },
        "sync": {
            "mode": sync.mode,
            "files": sync.files,
            "pending": sync.pending,
            "in_flight": sync.in_flight,
            "conflicts": sync.conflicts,
            "held": sync.held,
            "skipped": sync.skipped,
            "last_sync": sync.last_sync,
            "uploaded_bytes": sync.uploaded_bytes,
            "downloaded_bytes": sync.downloaded_bytes,
            "planned_bytes": sync.planned_bytes,
            "moved_bytes": sync.moved_bytes,
            "rate_bytes": None if sync.rate is None else round(sync.rate),
            "remaining_seconds": None if sync.remaining is None else round(sync.remaining),
            "synchronised": sync.synchronised,
            "halted": sync.halted,
            "problems": dict(sync.problems),
        },
        "tunnels": list(tunnels),
        "watch": dict(watching),
        "idle": {
            "verdict": idle.verdict.get("verdict", "unknown"),
            "since": idle.verdict.get("since"),
            "deallocate_at": idle.verdict.get("deallocate_at"),
            "reason": idle.verdict.get("reason"),
            "warned": idle.warned,
            "keepalive_until": idle.keepalive_until,
            "failure": idle.failure,
        },
        "failsafe": {
            "lease_until": facts.failsafe.lease_until,
            "watchdog": facts.failsafe.watchdog,
            "lines": list(facts.failsafe.lines),
            "settled": facts.failsafe.settled,
        },
        "jobs": {"running": facts.runs + (facts.jobs or 0)},
        "troubles": {service: asdict(trouble) for service, trouble in facts.troubles.items()},
        "notices": dict(facts.notices),
    }
