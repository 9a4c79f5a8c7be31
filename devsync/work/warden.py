"""Watches one detached job on the machine: starts it, waits, writes down how it ended. Travels (Python 3.8).

A process of its own, alone in its session: `python3 warden.py`, in the job's folder. It needs nothing of
devsync's. On Linux whatever the job starts and leaves behind becomes the warden's child, so that SIGTERM
to the warden ends all of it: TERM for everything, and KILL after the grace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

GRACE = 10.0
"""Seconds between TERM and KILL, unless the file `kill.json` says otherwise."""

AGAIN = 0.2
"""Seconds between two rounds of KILL: a tree may grow while it is felled."""

COULD_NOT_START = 126

_ADOPT = 36  # PR_SET_CHILD_SUBREAPER


def identity(pid: int) -> dict[str, Any] | None:
    """What tells this process from a later one with its number; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return None if fields[0] in "ZX" else {"pid": pid, "start": fields[19], "boot": boot}
    except FileNotFoundError:
        if os.path.exists("/proc/self/stat"):
            return None
    except ProcessLookupError:
        return None
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], stdout=subprocess.PIPE, check=False).stdout
    start = told.decode("ascii", "replace").strip()
    return {"pid": pid, "start": start, "boot": ""} if start else None


def write(name: str, value: Any) -> None:
    """A file of the job's: whole and durable, or not at all."""
    with open(name + ".new", "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(name + ".new", name)


def descendants(root: int) -> list[int]:
    """Every process below `root`, where the system tells."""
    parents = {}
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended meanwhile
    found = []  # type: list[int]
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        found.extend(level)
    return found


class Warden:
    """One job. Everything happens in its only thread: signals interrupt the wait."""

    def __init__(self) -> None:
        self._command = 0
        self._felling = False

    def run(self) -> None:
        """Start the job and return when it has ended; after SIGTERM, when nothing of it is left."""
        with open("start.json") as file:
            words = json.load(file)
        os.unlink("start.json")  # it may hold what the user keeps in variables
        _adopt()
        status = self._wait() if self._start(words) else COULD_NOT_START
        signal.setitimer(signal.ITIMER_REAL, 0)
        write("end.json", {"status": status, "ended": time.time()})

    def _start(self, words: list[str]) -> bool:
        """Start the command, its output being the log; False if the system does not."""
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for target in (1, 2):
            os.dup2(log, target)
        command = None
        try:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
            self._command = child.pid
            command = identity(child.pid)
        except OSError as error:
            os.write(2, f"devsync: the command could not be started: {error.strerror}\n".encode())
        signal.signal(signal.SIGTERM, lambda *_: self._fell())
        signal.signal(signal.SIGALRM, lambda *_: self._signal_all(signal.SIGKILL))
        write(
            "running.json", {"warden": identity(os.getpid()), "command": command}
        )  # from now on, TERM may come
        return self._command > 0

    def _wait(self) -> int:
        status = -1
        while True:
            try:
                pid, told = os.wait()
            except ChildProcessError:
                return status
            if pid == self._command:
                status = os.WEXITSTATUS(told) if os.WIFEXITED(told) else 128 + os.WTERMSIG(told)
            # RACE: TERM may come right here; the tree then lives a little longer, and its end is not seen.
            if status >= 0 and not self._felling:
                return status

    def _fell(self) -> None:
        try:
            with open("kill.json") as file:
                grace = float(json.load(file)["grace"])
        except (OSError, ValueError, KeyError, TypeError):
            grace = GRACE
        self._felling = True
        self._signal_all(signal.SIGTERM)
        self._signal_all(signal.SIGCONT)
        signal.setitimer(signal.ITIMER_REAL, max(grace, 0.001), AGAIN)

    def _signal_all(self, number: int) -> None:
        for pid in descendants(os.getpid()):
            try:
                os.kill(pid, number)
            except OSError:
                pass  # it has ended meanwhile
        if not os.path.exists("/proc/self/stat"):
            try:
                os.killpg(self._command, number)
            except OSError:
                pass


def _adopt() -> None:
    """Become the parent of every descendant whose own parent ends, where the system can do that."""
    import ctypes

    try:
        ctypes.CDLL(None).prctl(_ADOPT, 1, 0, 0, 0)
    except (OSError, AttributeError):
        pass  # not Linux: the job's process group is all that SIGTERM reaches


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(sys.argv[0])))
    Warden().run()
