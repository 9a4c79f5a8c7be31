"""Rows about the tunnel, beside `ssh -L`: how much passes, and how long an echo takes."""

from __future__ import annotations

import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks import corpora, echo
from benchmarks.bed import LONG, Bed, Trial
from benchmarks.figures import Compare, Figure
from tests.fakes.sshd import free_port

ECHOES = 500
VOLUME = 200_000_000


def throughput(at: Bed, limit: float) -> Iterator[Figure]:
    """Bytes per second, to the machine and back."""
    size = at.scaled(VOLUME)
    with _both(at) as (ours, theirs):
        for direction, measure in (("up", echo.up), ("down", echo.down)):
            rates: tuple[list[float], list[float]] = ([], [])
            for turn in range(at.repeat):
                for which in ((0, 1), (1, 0))[turn % 2]:
                    rates[which].append(measure((ours, theirs)[which], size) / 1e6)
            devsync, ssh = (statistics.median(each) for each in rates)
            work, compare = f"tunnel throughput, {direction}", Compare.RATIO_AT_LEAST
            yield Figure(work, at.profile.name, devsync, "MB/s", limit, compare, "ssh -L", ssh)


def quiet_echo(at: Bed, limit: float) -> Iterator[Figure]:
    """The median of a small echo, a hundred of them in turn; the limit: so many milliseconds more."""
    took: tuple[list[float], list[float]] = ([], [])
    with (
        _both(at) as (ours, theirs),
        echo.echoing(ours) as first,
        echo.echoing(theirs) as second,
    ):
        for turn in range(2 * at.repeat):
            for which in ((0, 1), (1, 0))[turn % 2]:
                took[which].extend((first, second)[which].once() for _ in range(ECHOES // 5))
    devsync, ssh = (statistics.median(each) for each in took)
    work = "echo through the tunnel: median"
    yield Figure(work, at.profile.name, devsync, "ms", limit, Compare.DIFFERENCE, "ssh -L", ssh)


def echo_during_a_mirror(at: Bed, limits: tuple[float, float]) -> Iterator[Figure]:
    """99 of 100 echoes while 200 MB are mirrored; the limits: times the quiet ones, and milliseconds."""
    size = at.scaled(VOLUME)
    quiet, busy = [], []
    with (
        echo.served() as port,
        at.trial(lambda _root: None, remote=port) as trial,
        trial.daemon(),
        echo.echoing(_local_port(trial)) as way,
    ):
        for turn in range(at.repeat):
            quiet.append(_worst([way.once() for _ in range(ECHOES // 5)]))
            busy.append(_worst(_while_mirrored(trial, way, f"data-{turn}.bin", size)))
    before, during = statistics.median(quiet), statistics.median(busy)
    work = f"echo while {size // 1_000_000:,} MB are mirrored: 99 of 100"
    yield Figure(work, at.profile.name, during, "ms", limits[0], Compare.RATIO, "quiet", before)
    yield Figure(work, at.profile.name, during, "ms", limits[1])


def _while_mirrored(trial: Trial, way: echo.Echo, name: str, size: int) -> Sequence[float]:
    """The echoes from the moment at which the file is there until it has arrived."""
    made = trial.folder / name
    corpora.big_file(made, size)
    made.rename(trial.root / name)
    far = trial.there / "devsync" / name
    took = []
    deadline = time.monotonic() + LONG
    while not far.exists():
        took.append(way.once())
        assert time.monotonic() < deadline, "it was not mirrored"
    trial.verify(trial.root, trial.there / "devsync")
    return took


def _worst(took: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(took)[max(0, len(took) * 99 // 100 - 1)]


@contextmanager
def _both(at: Bed) -> Iterator[tuple[int, int]]:
    """Two local ports that lead to the same server: devsync's and `ssh -L`'s."""
    with (
        echo.served() as port,
        at.trial(lambda _root: None, remote=port) as trial,
        trial.daemon(),
        _forwarded(at, port) as theirs,
    ):
        yield _local_port(trial), theirs


def _local_port(trial: Trial) -> int:
    port: int = trial.status()["tunnels"][0]["local"]
    return port


@contextmanager
def _forwarded(at: Bed, remote: int) -> Iterator[int]:
    local = free_port()
    words = [*at.ssh(), "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{remote}", f"{at.sshd.user}@127.0.0.1"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection(("127.0.0.1", local), timeout=1).close()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline, "ssh -L did not begin to listen"
                    time.sleep(0.02)  # another program's socket: nothing tells of it
            yield local
        finally:
            process.terminate()
