"""Containers at work, by the account that the kernel keeps of each. Travels (Python 3.8).

No engine is asked: its socket is closed to most users, and an engine can hang. Docker, podman and containerd
each run a container in a control group of its own, whose use of the processors anybody may read.
"""

from __future__ import annotations

import os
import re
from glob import glob

from devsync.core.observation import Observation
from devsync.probe.view import View

NAME = "containers"
GROUPS = (  # below /sys/fs/cgroup: the unified hierarchy, then the older one, with systemd and without
    "system.slice/docker-*.scope",
    "docker/*",
    "machine.slice/libpod-*.scope",
    "libpod_parent/libpod-*",
    "user.slice/user-*.slice/user@*.service/*.slice/libpod-*.scope",
    "user.slice/user-*.slice/user@*.service/*.slice/docker-*.scope",
    "system.slice/*/cri-containerd-*.scope",
    "kubepods*/**/cri-containerd-*",
)
_ID = re.compile(r"[0-9a-f]{64}")


def seconds(text: str) -> float:
    """Of a group's cpu.stat: the processor time that it used. Raises ValueError."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "usage_usec":
            return int(number) / 1e6
    raise ValueError("no usage")


class Containers:
    """Compares each look with the one before."""

    name = NAME

    def __init__(self) -> None:
        self._before: tuple[float, dict[str, float]] | None = None

    def look(self, view: View) -> Observation | None:
        """None at the first look that finds any."""
        used = {} if view.embedded else self._used(view)
        now = view.monotonic()
        before, self._before = self._before, (now, used)
        if not used:
            return Observation(NAME)
        if before is None or now <= before[0]:
            return None
        window = now - before[0]
        shares = {}
        for name, total in used.items():
            was = before[1].get(name, 0.0)
            shares[name] = 100.0 * max(0.0, total - (was if was <= total else 0.0)) / window
        most = max(shares, key=lambda name: shares[name])
        level = shares[most]
        return Observation(
            NAME,
            round(level, 1),
            f"{len(used)} running, {most} at {level:.0f} % of a core",
            doing=f"container {most} has used {level:.0f} % of a core",
        )

    @staticmethod
    def _used(view: View) -> dict[str, float]:
        """Seconds of processor time by container."""
        found = {}
        for top, file in (("sys/fs/cgroup", "cpu.stat"), ("sys/fs/cgroup/cpuacct", "cpuacct.usage")):
            for pattern in GROUPS:
                for folder in glob(view.path(top, pattern)):
                    name = _ID.search(os.path.basename(folder))
                    if name is None:
                        continue
                    try:
                        text = view.read(folder, file)
                        found[name[0][:12]] = int(text) / 1e9 if "cpuacct" in file else seconds(text)
                    except (OSError, ValueError):
                        continue  # it ended meanwhile
        return found
