"""What each project wants of the watchdog, and when its laptop was last heard of. Travels (Python 3.8).

One file for each project, in the sampler's folder: a machine may serve several, and is idle only if it is
for all of them. An order is renewed by the laptop again and again: that is the sign that it is there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from devsync.core.idle import Policy, Signal
from devsync.core.observation import Thresholds
from devsync.probe.view import View

LARGEST = 1 << 20
"""Bytes of a file that are read."""


@dataclass(frozen=True)
class Order:
    """A project's wishes.

    `heard` is when its laptop was last heard of, in seconds since that `boot` of the machine. `lease` and
    `policy` are in seconds, a lease of None is none to be pushed; `keep_until` is the time of day until which
    the machine is kept. `vm` is the id of the machine that the order is for, `root` the project's folder.
    """

    project: str
    boot: str
    heard: float
    policy: Policy
    thresholds: Thresholds
    modes: Mapping[str, str]
    lease: float | None
    keep_until: float
    root: str
    vm: str
    endpoint: str
    audience: str
    certificates: str = field(default="", repr=False)

    def signals(self, view: View) -> list[Signal]:
        """The signs of work that no probe sees: what devsync runs, and the wish to be kept."""
        running = sum(1 for job in _running(self.root) if _lives(view, job))
        kept = view.wall() < self.keep_until
        return [
            Signal("jobs", running > 0, f"{running} running", "0 running"),
            Signal("keepalive", kept, "as was asked for" if kept else "none", "none"),
        ]


def parse(value: Mapping[str, Any]) -> Order:
    """An order as JSON. Raises ValueError, TypeError or KeyError for what is none."""
    after, lease = value["after"], value["lease"]
    return Order(
        project=str(value["project"]),
        boot=str(value["boot"]),
        heard=float(value["heard"]),
        policy=Policy(None if after is None else float(after), 0.0),
        thresholds=Thresholds(**{str(name): float(limit) for name, limit in value["thresholds"].items()}),
        modes={str(name): str(mode) for name, mode in value["modes"].items()},
        lease=None if lease is None else float(lease),
        keep_until=float(value["keep_until"]),
        root=os.path.realpath(os.path.expanduser(str(value["root"]))),
        vm=str(value["vm"]),
        endpoint=str(value["endpoint"]),
        audience=str(value["audience"]),
        certificates=str(value["certificates"]),
    )


def store(place: str, value: Mapping[str, Any]) -> None:
    """Take a project's order, whole or not at all. Raises OSError, and what `parse` raises."""
    order = parse(value)
    if not re.fullmatch(r"[0-9a-f]{4,64}", order.project):
        raise ValueError("no name of a project")
    if not order.endpoint.startswith("https://"):
        raise ValueError("the identity's token goes over https only")
    os.makedirs(os.path.join(place, "orders"), mode=0o700, exist_ok=True)
    write(os.path.join(place, "orders", order.project), value)


def forget(place: str, project: str) -> None:
    """A project wants no watchdog any more."""
    try:
        os.unlink(os.path.join(place, "orders", os.path.basename(project)))
    except FileNotFoundError:
        pass  # it never did


def stored(place: str) -> Sequence[Order]:
    """Every order that can be read."""
    folder = os.path.join(place, "orders")
    found = []
    try:
        names = sorted(name for name in os.listdir(folder) if not name.endswith(".new"))
    except FileNotFoundError:
        names = []
    for name in names:
        value = read(os.path.join(folder, name))
        try:
            found.append(parse(value or {}))
        except (ValueError, TypeError, KeyError):
            continue  # torn, or another version's: its laptop will send another
    return found


def write(path: str, value: Any) -> None:
    """A small file: whole and durable, or not at all. Raises OSError."""
    draft = path + ".new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def read(path: str) -> dict[str, Any] | None:
    """What `write` has written; None if there is nothing that can be read."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read(LARGEST))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _running(root: str) -> list[dict[str, Any]]:
    """The processes of each detached job that has not told its end."""
    folder = os.path.join(root, ".devsync", "jobs")
    try:
        jobs = [os.path.join(folder, name) for name in os.listdir(folder)]
    except OSError:
        return []  # there never was one
    told = [read(os.path.join(job, "running.json")) for job in jobs if not os.path.exists(f"{job}/end.json")]
    return [one for one in told if one is not None]


def _lives(view: View, job: Mapping[str, Any]) -> bool:
    """Whether the job's warden, or its command, is still that process."""
    for role in ("warden", "command"):
        one = job.get(role)
        try:
            fields = view.read("proc", str(one["pid"]), "stat").rpartition(")")[2].split()  # type: ignore[index]
            start = view.read("proc/sys/kernel/random/boot_id").strip()
            if (
                one is not None
                and (fields[19], start) == (one["start"], one["boot"])
                and fields[0] not in "ZX"
            ):
                return True
        except (OSError, LookupError, TypeError):
            continue  # there is none of that number
    return False
