"""Looks at the machine every ten seconds, day and night, in a small process of its own. Travels (Python 3.8).

It owns the ring, and the lock by which there is one sampler for each user. A helper starts it; it outlives
the connection, and ends when its folder is gone or a newer devsync asks for another. What acts by itself on
the machine, with no laptop to ask, belongs here too: `after` is called behind each sample.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from devsync.core.observation import Observation
from devsync.probe.containers import Containers
from devsync.probe.cpu import Cpu
from devsync.probe.gpu import Gpu
from devsync.probe.jupyter import Jupyter
from devsync.probe.network import Network
from devsync.probe.ring import Record, Ring
from devsync.probe.sessions import Sessions
from devsync.probe.view import View

EVERY = 10.0
"""Seconds between two looks."""

FIRST = 1.0
"""Seconds between the first two: what compares needs both."""

SHARE = 0.0005
"""Of one core, what a probe may use: one that is dear is asked less often."""

LONGEST = 120.0
"""Seconds between two looks of the dearest probe."""

THIN = 3600.0
"""Seconds between two thinnings of the ring."""


class Probe:
    """One kind of work; `look` returns None while there is nothing to compare with."""

    name: str

    def look(self, view: View) -> Observation | None:
        """What is there. Whatever it raises makes the signal unknown."""
        raise NotImplementedError


def probes() -> Sequence[Probe]:
    """Every probe. Another kind of work is one more line."""
    return (Cpu(), Sessions(), Jupyter(), Gpu(), Containers(), Network())  # type: ignore[return-value]


class Sampler:
    """Asks the probes that are due and writes down what they saw."""

    def __init__(self, view: View, ring: Ring, asked: Sequence[Probe] | None = None) -> None:
        self._view, self._ring = view, ring
        self._probes = probes() if asked is None else asked
        self._due: dict[str, float] = {}
        self._cost: dict[str, float] = {}
        self._thin = 0.0
        self._boot = boot(view)

    def sample(self) -> None:
        """One round. Raises OSError if the ring cannot be written."""
        self._view.processes.forget()
        seen = []
        for probe in self._probes:
            now = self._view.monotonic()
            if now < self._due.get(probe.name, 0.0):
                continue
            began = _used()
            observation = self._look(probe)
            # Of the last two, since a first look pays for much that the next ones find in place.
            cost, self._cost[probe.name] = self._cost.get(probe.name, 0.0), _used() - began
            pause = min(LONGEST, min(cost, self._cost[probe.name]) / SHARE)
            # The round comes a little early or late: what is due almost now is due.
            self._due[probe.name] = now + pause - EVERY / 2 if observation is not None else 0.0
            if observation is not None:
                seen.append(observation)
        if seen:
            at, wall = self._view.monotonic(), self._view.wall()
            self._ring.append(Record(self._boot, at, wall, tuple(seen)))
        if self._view.monotonic() >= self._thin:
            self._thin = self._view.monotonic() + THIN
            self._ring.thin(self._view.wall())

    def _look(self, probe: Probe) -> Observation | None:
        try:
            return probe.look(self._view)
        except Exception as error:  # noqa: BLE001 (what cannot be read counts as work, and the others go on)
            return Observation(probe.name, error=f"{type(error).__name__}: {error}"[:200])


def _used() -> float:
    """Seconds of processor time, those of commands that were run included."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def boot(view: View) -> str:
    """Which start of the machine this is."""
    try:
        return view.read("proc/sys/kernel/random/boot_id").strip()[:8]
    except OSError:
        return "this"


# ---------------------------------------------------------------- one for each user


def folder(view: View) -> str:
    """Where the sampler has its files."""
    state = view.environ.get("XDG_STATE_HOME") or os.path.join(view.home, ".local/state")
    return os.path.join(state, "devsync-sampler")


def ensure(
    view: View, version: str, *, hurry: bool = False, after: Callable[[], None] = lambda: None
) -> None:
    """See that a sampler of this version runs, and looks soon if there is a `hurry`. Raises OSError.

    A new one calls `after` behind each of its looks.
    """
    place = folder(view)
    os.makedirs(place, mode=0o700, exist_ok=True)
    running = _running(place)
    if running is not None and running.get("version") != version:
        _end(place, running)
        running = None
    if running is None:
        _detach(lambda: _live(view, place, version, after))
    elif hurry:
        _signal(running, signal.SIGUSR1)


def _locked(place: str) -> int | None:
    """Hold the lock; None if a sampler has it."""
    descriptor = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _running(place: str) -> Mapping[str, object] | None:
    """What the sampler that has the lock says of itself; None if there is none."""
    descriptor = _locked(place)
    if descriptor is not None:
        os.close(descriptor)
        return None
    with open(os.path.join(place, "lock"), encoding="ascii") as file:
        try:
            told = json.load(file)
        except ValueError:
            told = None  # RACE: it has just begun and says so in a moment
    return told if isinstance(told, dict) else {"version": None}


def _end(place: str, running: Mapping[str, object]) -> None:
    """End another version's. RACE: who has just begun has not said its number; the next look will end it."""
    _signal(running, signal.SIGTERM)
    deadline = time.monotonic() + 2.0
    while _running(place) is not None and time.monotonic() < deadline:
        time.sleep(0.02)  # nothing tells of the end of a process that is not one's child


def _signal(running: Mapping[str, object], number: int) -> None:
    """Tell the sampler that has the lock."""
    pid = running.get("pid")
    if isinstance(pid, int):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # RACE: it has just ended


def _detach(body: Callable[[], None]) -> None:
    """Do it in a process that nobody waits for and no connection holds."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.closerange(3, 256)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        body()
    finally:
        os._exit(0)  # never back into the helper that this was forked from


def _live(view: View, place: str, version: str, after: Callable[[], None]) -> None:
    """Be the sampler until the folder is gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # it is waited for, below
    descriptor = _locked(place)
    if descriptor is None:
        return  # RACE: another helper was quicker
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "version": version}).encode("ascii"), 0)
    try:
        os.nice(5)
    except OSError:
        pass  # it need not be polite
    sampler = Sampler(view, Ring(place))
    pause = FIRST
    while os.path.isdir(place):
        try:
            sampler.sample()
        except FileNotFoundError:
            return
        except OSError:
            pass  # a full disk: nothing new is said, which counts as work, until there is room again
        after()
        if _rest(pause) and pause > FIRST:
            time.sleep(FIRST)  # two looks without a time between them have nothing to compare
        pause = EVERY


def _rest(seconds: float) -> bool:
    """Wait; whether somebody would not."""
    if hasattr(signal, "sigtimedwait"):
        return signal.sigtimedwait({signal.SIGUSR1}, seconds) is not None
    time.sleep(seconds)
    return False
