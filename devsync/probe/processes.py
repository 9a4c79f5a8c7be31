"""The machine's processes: whose they are, which count as somebody's work, what they are called. Travels.

A look reads one small file for each process; what takes more is asked only of those that did something, and
remembered while they live.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

PEOPLE = 1000
"""The first number of a person's account."""

SERVERS = ("sshd", "sshd-session", "sshd-auth", "sftp-server")
"""What carries connections: devsync's, and those of others whose work shows elsewhere."""

HELPER = b"sys.version_info<(3,8) and sys.exit(96)"
"""A part of the command line that every helper of devsync's has, and what it leaves running."""

CONTAINERS = ("docker-", "libpod-", "cri-containerd-", "/docker/", "/kubepods")
INTERPRETERS = ("python", "perl", "ruby", "node", "bash", "sh", "zsh", "Rscript", "julia", "java")


@dataclass(frozen=True)
class Process:
    """One process; times in clock ticks, `reaped` those of its children that have ended."""

    pid: int
    name: str
    parent: int
    session: int
    terminal: int
    own: int
    reaped: int
    started: int


def parse(text: str) -> Process:
    """A line of /proc/PID/stat. Raises ValueError."""
    before, _, rest = text.rpartition(")")
    pid, _, name = before.partition(" (")
    fields = rest.split()
    if len(fields) < 20:
        raise ValueError("no stat line")
    return Process(
        int(pid),
        name,
        int(fields[1]),
        int(fields[3]),
        int(fields[4]),
        int(fields[11]) + int(fields[12]),
        int(fields[13]) + int(fields[14]),
        int(fields[19]),
    )


class Processes:
    """The processes below /proc; one look serves every probe until `forget`."""

    def __init__(self, proc: str, only: bytes | None) -> None:
        """`only`: a line of the environment that those have which belong to the machine at all."""
        self._proc, self._only = proc, only
        self._table: dict[int, Process] | None = None
        self._counts: dict[tuple[int, int], bool] = {}

    def forget(self) -> None:
        """The next look is a new one."""
        self._table = None

    def look(self) -> Mapping[int, Process]:
        """Every process by its number; none where there is no /proc."""
        if self._table is None:
            self._table = {}
            for name in os.listdir(self._proc) if os.path.isdir(self._proc) else ():
                if name.isdigit():
                    try:
                        process = parse(self._text(f"{name}/stat"))
                    except (OSError, ValueError):
                        continue  # it ended meanwhile
                    self._table[process.pid] = process
            alive = {(process.pid, process.started) for process in self._table.values()}
            self._counts = {key: value for key, value in self._counts.items() if key in alive}
        return self._table

    def counts(self, process: Process) -> bool:
        """Whether it is somebody's: not the kernel's, not the system's, not devsync's own."""
        key = (process.pid, process.started)
        if key not in self._counts:
            self._counts[key] = self._judge(process)
        return self._counts[key]

    def _judge(self, process: Process) -> bool:
        if process.pid == 2 or process.parent == 2 or process.name in SERVERS:
            return False
        try:
            return self.belongs(process) and not self._ours(process.pid) and not self._system(process.pid)
        except OSError:
            return True  # nobody may look at it: then it is taken for work

    def belongs(self, process: Process) -> bool:
        """Whether it is one of this machine's."""
        if self._only is None:
            return True
        try:
            return self._only in self._bytes(f"{process.pid}/environ").split(b"\0")
        except OSError:
            return False  # another user's

    def _ours(self, pid: int) -> bool:
        words = self._bytes(f"{pid}/cmdline").split(b"\0")
        if any(HELPER in word for word in words):
            return True
        if b"-m" in words[:-1] and words[words.index(b"-m") + 1].split(b".")[0] == b"devsync":
            return True
        return any(os.path.basename(word) == b"devsync" for word in words[:2])

    def _system(self, pid: int) -> bool:
        """A service with an account of the system's. A person's, or what runs in a container, is none."""
        if os.stat(f"{self._proc}/{pid}").st_uid >= PEOPLE:
            return False
        group = self._text(f"{pid}/cgroup")
        if any(mark in group for mark in CONTAINERS):
            return False
        return "/system.slice/" in group or "/init.scope" in group

    def words(self, pid: int) -> list[str]:
        """The command line. Raises OSError."""
        return self._bytes(f"{pid}/cmdline").decode("utf-8", "replace").split("\0")[:-1]

    def variable(self, pid: int, name: str) -> str | None:
        """A variable of its environment, if it may be read."""
        try:
            lines = self._bytes(f"{pid}/environ").split(b"\0")
        except OSError:
            return None
        start = name.encode() + b"="
        found = [line[len(start) :] for line in lines if line.startswith(start)]
        return found[0].decode("utf-8", "surrogateescape") if found else None

    def called(self, process: Process) -> str:
        """What people call it: the program, and the script it runs. Never more: arguments hold secrets."""
        try:
            words = self.words(process.pid)
        except OSError:
            words = []
        if not words or not words[0]:
            return process.name
        program = os.path.basename(words[0].split(" ")[0])
        if program.startswith(INTERPRETERS):
            if words[1:2] == ["-m"] and len(words) > 2:
                return f"{program} -m {words[2]}"
            if len(words) > 1 and not words[1].startswith("-"):
                return f"{program} {os.path.basename(words[1])}"
        return program

    def below(self, process: Process, names: tuple[str, ...]) -> bool:
        """Whether an ancestor's name begins with one of these."""
        table, seen = self.look(), set()
        while process.parent in table and process.pid not in seen:
            seen.add(process.pid)
            process = table[process.parent]
            if process.name.lower().startswith(names):
                return True
        return False

    def _text(self, name: str) -> str:
        return self._bytes(name).decode("utf-8", "replace")

    def _bytes(self, name: str) -> bytes:
        # Without the layers of `open`, which cost more than the look itself.
        descriptor = os.open(f"{self._proc}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = b""
            while True:
                part = os.read(descriptor, 1 << 16)
                found += part
                if len(part) < 4096 or len(found) > 1 << 20:
                    return found
        finally:
            os.close(descriptor)
