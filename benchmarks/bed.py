"""Where a benchmark runs: a real sshd at the end of a line, and a trial on both of its ends."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.line import Line, line
from tests.fakes.sshd import Sshd
from tests.system.config import config_for
from tests.system.project import Project

LONG = 1200.0
"""Seconds after which a contender is given up."""

NOT_MIRRORED = ("--exclude=.devsync", "--exclude=.git")


@dataclass(frozen=True)
class Profile:
    """A line between the two computers: seconds there and back, bytes per second (None: no limit)."""

    name: str
    round_trip: float
    rate: float | None

    @property
    def rsync(self) -> str:
        """The usual flags of rsync on such a line."""
        return "-a" if self.rate is None else "-az"


LOOPBACK = Profile("loopback", 0.0, None)
WAN = Profile("wan", 0.050, 100e6 / 8)


@dataclass(frozen=True)
class Cost:
    """What one run of a contender took: seconds, and bytes on the line, both ways (none on loopback)."""

    seconds: float
    carried: int


@dataclass(frozen=True)
class Bed:
    """A machine at the end of a line. `repeat` is how often to measure, `scale` how much of it all."""

    profile: Profile
    folder: Path
    sshd: Sshd
    line: Line | None
    repeat: int
    scale: float

    @property
    def port(self) -> int:
        """Where the machine answers."""
        return self.line.port if self.line else self.sshd.port

    def scaled(self, number: int) -> int:
        """So many files, bytes or seconds instead of `number`."""
        return max(2, round(number * self.scale))

    def ssh(self) -> list[str]:
        """The words of OpenSSH's client that lead to the machine; user and host are missing."""
        return [
            "ssh",
            *("-p", str(self.port), "-i", str(self.sshd.client_key), "-F", "none"),
            *("-o", f"UserKnownHostsFile={self.sshd.known_hosts}", "-o", "BatchMode=yes"),
        ]

    def cost(self, action: Callable[[], object]) -> Cost:
        """Do it, and see what it takes."""
        before = self.line.carried() if self.line else 0
        began = time.perf_counter()
        action()
        took = time.perf_counter() - began
        return Cost(took, self.line.carried() - before if self.line else 0)

    @contextmanager
    def trial(
        self, fill: Callable[[Path], None], *, git: bool = False, remote: int | None = None
    ) -> Iterator[Trial]:
        """A project of its own for one measurement, filled, and gone in the end."""
        number = sum(1 for _ in self.folder.glob("trial-*"))
        trial = Trial(self, self.folder / f"trial-{number}", git=git, remote=remote)
        try:
            fill(trial.root)
            yield trial
        finally:
            trial.forget()


class Trial(Project):
    """A project here, and a folder on the machine for each contender. What they did is verified each time."""

    def __init__(self, bed: Bed, folder: Path, *, git: bool, remote: int | None) -> None:
        self.bed, self.folder = bed, folder
        self.there = bed.sshd.home / folder.name
        self.there.mkdir()
        # The standard library brings keys for its own tests; everything else is searched for secrets.
        further = 'allow_secrets = ["*.pem"]\n\n[idle]\nafter = "never"\n'
        path = str(self.there / "devsync")
        config = config_for(bed.sshd, port=bed.port, remote=remote, path=path, further=further)
        super().__init__(folder, config, git=git)
        # As it is once installed: compiled, wherever this runs.
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environ["PYTHONPYCACHEPREFIX"] = str(bed.folder / "compiled")

    @property
    def rsynced(self) -> Path:
        """What rsync has pulled."""
        return self.folder / "rsynced"

    def push(self) -> Cost:
        """`devsync push`, from a cold start."""
        cost = self.bed.cost(lambda: self.devsync("push", "--accept-deletions", timeout=LONG))
        self.verify(self.root, self.there / "devsync")
        return cost

    def pull(self) -> Cost:
        """`devsync pull`, from a cold start."""
        cost = self.bed.cost(lambda: self.devsync("pull", timeout=LONG))
        self.verify(self.there / "devsync", self.root)
        return cost

    def rsync(self) -> Cost:
        """The same as `push`, by rsync."""
        cost = self._rsync(f"{self.root}/", self._address("rsync"))
        self.verify(self.root, self.there / "rsync")
        return cost

    def rsync_back(self) -> Cost:
        """The same as `pull`, by rsync, into `rsynced`."""
        cost = self._rsync(self._address("rsync"), f"{self.rsynced}/")
        self.verify(self.there / "rsync", self.rsynced)
        return cost

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """A daemon that has done its first synchronisation."""
        self.devsync("start", timeout=LONG)
        try:
            yield
        finally:
            self.devsync("stop", timeout=LONG)

    def verify(self, left: Path, right: Path) -> None:
        """Raise unless both folders are equal, by content."""
        words = ["rsync", "-rlc", "--dry-run", "--itemize-changes", "--delete", *NOT_MIRRORED]
        told = subprocess.run(
            [*words, "--exclude=/devsync.toml", f"{left}/", f"{right}/"],
            capture_output=True,
            text=True,
            check=True,
        )
        if told.stdout.strip():
            raise AssertionError(f"{left} and {right} differ:\n{told.stdout[:500]}")

    def forget(self) -> None:
        """End what runs, and remove what both sides hold; an empty folder keeps the number."""
        self.end()
        shutil.rmtree(self.there, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def _address(self, contender: str) -> str:
        return f"{self.bed.sshd.user}@127.0.0.1:{self.there}/{contender}/"

    def _rsync(self, *places: str) -> Cost:
        words = ["rsync", self.bed.profile.rsync, "--delete", *NOT_MIRRORED, "-e", " ".join(self.bed.ssh())]
        return self.bed.cost(lambda: self._execute([*words, *places], timeout=LONG))


@contextmanager
def bed(profile: Profile, folder: Path, repeat: int, scale: float) -> Iterator[Bed]:
    """A machine at the end of a line, until the end of the block."""
    sshd = Sshd(folder / "machine")
    with ExitStack() as stack:
        stack.callback(sshd.stop)
        sshd.start()
        way = None
        if profile is not LOOPBACK:  # without delay or rate the proxy would only be in the way
            way = stack.enter_context(line(sshd.port, profile.round_trip, profile.rate))
        yield Bed(profile, folder, sshd, way, repeat, scale)


def median(costs: Sequence[Cost]) -> Cost:
    """The medians, of seconds and of bytes."""
    seconds = statistics.median(cost.seconds for cost in costs)
    return Cost(seconds, round(statistics.median(cost.carried for cost in costs)))


def race(
    at: Bed,
    trials: Callable[[], AbstractContextManager[Trial]],
    ours: Callable[[Trial], Cost] = Trial.push,
    theirs: Callable[[Trial], Cost] = Trial.rsync,
) -> tuple[Cost, Cost]:
    """The medians of both, in turn on what `trials` makes; now one goes first, now the other."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    for number in range(at.repeat):
        with trials() as trial:
            for which in ((0, 1), (1, 0))[number % 2]:
                costs[which].append((ours, theirs)[which](trial))
    return median(costs[0]), median(costs[1])
