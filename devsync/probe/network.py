"""The network: what is carried for a minute, without what comes and goes by SSH. Travels (Python 3.8).

What devsync carries comes by SSH, and so does what others carry to and from their own computers, at which
they sit. It is told apart by the counters of each connection, which `ss` shows; where there is none, the
transfer of the machine cannot be told from devsync's own, and is no sign of anything.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping

from devsync.core.observation import Observation
from devsync.probe.view import Hangs, View

NAME = "network"
WINDOW = 60.0
"""Seconds over which a transfer must last."""

TIMEOUT = 5.0
_COUNTERS = re.compile(r"\b(?:bytes_sent|bytes_received):(\d+)")


def carried(text: str) -> dict[str, int]:
    """Of /proc/net/dev: the bytes that each interface has carried, both ways; not the loopback."""
    found = {}
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        fields = rest.split()
        if colon and len(fields) >= 9 and name.strip() != "lo":
            found[name.strip()] = int(fields[0]) + int(fields[8])
    return found


def by_ssh(text: str) -> dict[str, int]:
    """Of `ss -tinH`: the bytes of each connection, by its two ends."""
    found: dict[str, int] = {}
    name = ""
    for line in text.splitlines():
        if not line[:1].isspace():
            words = line.split()
            name = " ".join(words[3:5]) if len(words) >= 5 else ""
        if name:
            found[name] = found.get(name, 0) + sum(int(number) for number in _COUNTERS.findall(line))
    return found


def grown(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """How much each has grown; what is new counts in full."""
    return {name: max(0, count - before.get(name, 0)) for name, count in now.items()}


class Network:
    """Keeps the looks of the last minute."""

    name = NAME

    def __init__(self) -> None:
        self._before: tuple[float, dict[str, int], dict[str, int]] | None = None
        self._minute: deque[tuple[float, float]] = deque()

    def look(self, view: View) -> Observation | None:
        """None before there is something to compare."""
        command = view.command("ss", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
        if command is None or view.embedded:
            return Observation(NAME)
        ports = self._ports(view)
        try:
            status, text = view.run([command, "-tinH", *_filter(ports)], TIMEOUT)
        except Hangs as error:
            return Observation(NAME, error=str(error))
        if status:
            return Observation(NAME, value="none (ss cannot say)")
        now = (view.monotonic(), carried(view.read("proc/net/dev")), by_ssh(text))
        before, self._before = self._before, now
        if before is None or now[0] <= before[0]:
            return None
        # An accelerated interface shows the same bytes as the one that it serves: the larger one is all.
        total = max(grown(before[1], now[1]).values(), default=0)
        own = sum(grown(before[2], now[2]).values())
        self._minute.append((now[0] - before[0], float(max(0, total - own))))
        while len(self._minute) > 1 and sum(length for length, _ in self._minute) > WINDOW * 1.25:
            self._minute.popleft()
        length = max(sum(length for length, _ in self._minute), WINDOW)  # a burst is spread over a minute
        rate = sum(count for _, count in self._minute) / length
        shown = f"{rate / (1 << 20):.1f} MiB/s"
        return Observation(NAME, round(rate, 1), shown, doing=f"the network has carried {shown}")

    @staticmethod
    def _ports(view: View) -> set[int]:
        """Where the SSH server listens: where it was asked, and the usual one."""
        words = view.environ.get("SSH_CONNECTION", "").split()
        return {22, int(words[3])} if len(words) == 4 and words[3].isdigit() else {22}


def _filter(ports: set[int]) -> list[str]:
    return [" or ".join(f"sport = :{port}" for port in sorted(ports))]
