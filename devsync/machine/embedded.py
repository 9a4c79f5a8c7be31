"""The embedded machine, `provider = "local"`: a real SSH server on loopback, for trying out.

This is its power switch. The machine itself is a process of its own (`embedded_server`) that lives on
when this one ends; its state is read from the lock that the process holds, so a process number that
was given to somebody else is never taken for it. Its home folder outlives every power cycle.
Owns no thread.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import devsync
from devsync.machine.embedded_process import end_marked
from devsync.machine.embedded_state import USER, Folder, Record, holder
from devsync.ports import Address, DevsyncError, Power, Progress, Unavailable

START_LIMIT = 10.0
STOP_LIMIT = 5.0
POLL = 0.05


class EmbeddedMachine:
    """The machine whose state is in `state_dir`; `home` there is its disk.

    `user`, `identity_file` and `known_hosts` are what SSH needs to log in; the files are there once the
    machine has run. The host key is pinned, under the alias of its address, by whoever made it.
    """

    provider = "local"

    def __init__(self, state_dir: Path) -> None:
        self._folder = Folder(state_dir.absolute())
        self.user = USER
        self.home = self._folder.home
        self.identity_file = self._folder.client_key
        self.known_hosts = self._folder.known_hosts

    def power(self) -> Power:
        """RUNNING, STARTING, DEALLOCATING or DEALLOCATED; Unavailable if the state cannot be read."""
        record = self._record()
        if record is None:
            return Power.DEALLOCATED
        if record.ending:
            return Power.DEALLOCATING
        return Power.RUNNING if record.port else Power.STARTING

    def start(self, stop: threading.Event, progress: Progress) -> None:
        """Return when it accepts connections; DevsyncError if it does not within 10 s."""
        deadline = time.monotonic() + START_LIMIT
        told = None
        while (power := self.power()) is not Power.RUNNING:
            self._check(stop, deadline)
            if power is not told:
                progress(f"the embedded machine is {power.value}")
                told = power
            if power is Power.DEALLOCATED:
                self._boot(stop, deadline)
            else:
                stop.wait(POLL)
        if told is not None:
            progress("the embedded machine runs")

    def deallocate(self, stop: threading.Event, progress: Progress) -> None:
        """Return when its process is gone. What was running on it is gone too, its files are kept."""
        record = self._record()
        if record is None:
            return
        if stop.is_set():
            raise Unavailable("interrupted before the embedded machine was told to stop")
        progress("stopping the embedded machine")
        if not record.ending:
            self._signal(record, signal.SIGTERM)
        if not self._ended(record, stop):
            self._signal(record, signal.SIGKILL)
            if not self._ended(record, stop):
                raise DevsyncError(
                    f"the embedded machine still runs, as process {record.pid}",
                    hint=f"look into {self._folder.log}",
                )
            end_marked(record.alias)  # which it had no time for
        progress("the embedded machine is deallocated")

    def address(self) -> Address:
        """Its loopback port, which it keeps from one start to the next if nobody else has taken it."""
        record = self._record()
        if record is None or not record.port or record.ending:
            raise Unavailable("the embedded machine does not run", hint="start it with: devsync vm start")
        return Address("127.0.0.1", record.port, record.alias)

    def close(self) -> None:
        """Nothing is held; the machine goes on."""

    def _record(self) -> Record | None:
        try:
            return holder(self._folder.lock)
        except OSError as error:
            raise Unavailable(f"the embedded machine's state cannot be read: {error}") from error

    def _boot(self, stop: threading.Event, deadline: float) -> None:
        try:
            self._folder.make()
            with self._folder.log.open("wb") as log:
                launcher = subprocess.Popen(
                    [
                        *(sys.executable, "-P", "-m", "devsync.machine.embedded_server", "--detach"),
                        *("--state", self._folder.path, "--home", self._folder.home),
                    ],
                    cwd=Path(devsync.__file__).parent.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
        except OSError as error:
            raise DevsyncError(f"the embedded machine cannot be started: {error}") from error
        with launcher:
            try:
                while launcher.poll() is None:
                    self._check(stop, deadline)
                    stop.wait(POLL)
            except DevsyncError:
                launcher.kill()
                raise
        # Not zero is no problem if somebody else has started the machine meanwhile.
        if launcher.returncode and self.power() is Power.DEALLOCATED:
            lines = self._folder.log.read_text(errors="replace").splitlines() or ["no reason was given"]
            raise DevsyncError(
                f"the embedded machine cannot be started: {lines[-1]}", hint=f"look into {self._folder.log}"
            )

    def _signal(self, record: Record, number: signal.Signals) -> None:
        # RACE: the kernel named this process just now. For its number to be another's, it would have to
        # end and the numbers to go once round within these microseconds.
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)

    def _ended(self, record: Record, stop: threading.Event) -> bool:
        """Whether this life of the machine comes to its end in time."""
        deadline = time.monotonic() + STOP_LIMIT
        while (now := self._record()) is not None and now.pid == record.pid:
            if time.monotonic() > deadline:
                return False
            if stop.wait(POLL):
                raise Unavailable("interrupted while the embedded machine was stopping")
        return True

    def _check(self, stop: threading.Event, deadline: float) -> None:
        if stop.is_set():
            raise Unavailable("interrupted while the embedded machine was starting")
        if time.monotonic() > deadline:
            raise DevsyncError(
                f"the embedded machine did not start within {START_LIMIT:.0f} s",
                hint=f"look into {self._folder.log}",
            )
