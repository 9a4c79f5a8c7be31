"""The far end of detached jobs: starts, lists, reads and ends them. Travels (Python 3.8).

.devsync/jobs/ID/job.json      what was asked for, when, and from which state of the project
.devsync/jobs/ID/running.json  the warden and the command, by process and its start
.devsync/jobs/ID/log           what it prints, as it comes
.devsync/jobs/ID/end.json      exit status and time; absent until it has ended
.devsync/jobs/ID/warden.py     what watches it (see `warden`)
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from devsync.work import warden

STARTS_WITHIN = 10.0
"""Seconds that a warden may take until its job runs."""

KEPT = 30 * 86400.0
"""Seconds for which the folder of a job that has ended is kept."""

MOST = 1000
"""So many jobs are told of at most: the newest."""

PIECE = 1 << 20
"""Bytes of a log in one answer at most."""

_ID = re.compile(r"[0-9a-f]{8}\Z")
_ENVIRONMENT = ("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "TZ")


def start(_helper: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Start the job `id`; one that is there already is only told of, so that asking twice is safe."""
    folder = _folder(request)
    above = os.path.dirname(folder)
    os.makedirs(above, mode=0o700, exist_ok=True)
    _prune(above)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return _row(folder)
    with _private(os.path.join(folder, "warden.py")) as file:
        file.write(request["warden"])
    with _private(os.path.join(folder, "start.json")) as file:
        json.dump(request["words"], file)
    _private(os.path.join(folder, "log")).close()
    with _private(os.path.join(folder, "job.json")) as file:
        json.dump({**request["job"], "started": time.time()}, file)
    words = [sys.executable, "-I", "-S", "-B", os.path.join(folder, "warden.py")]
    if not _by_systemd(words, folder):
        _by_itself(words)
    deadline = time.monotonic() + STARTS_WITHIN
    while _read(folder, "running.json") is None:
        if time.monotonic() > deadline:
            raise OSError(f"the job did not start: {_last_words(folder)}")
        time.sleep(0.005)  # a file of another process: nothing tells of it
    return _row(folder)


def jobs(_helper: Any, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every job that there is, the newest last."""
    above = _above(request)
    try:
        names = [name for name in os.listdir(above) if _ID.match(name)]
    except FileNotFoundError:
        return []
    rows = [row for row in (_row(os.path.join(above, name)) for name in names) if row]
    return sorted(rows, key=lambda row: row["started"])[-MOST:]


def log(_helper: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """The log from `offset` on, a piece of it, and the job as it was just before."""
    folder = _folder(request)
    row = _row(folder)
    if not row:
        raise OSError("there is no such job")
    with open(os.path.join(folder, "log"), "rb") as file:
        file.seek(request["offset"])
        data = file.read(PIECE)
        size = os.fstat(file.fileno()).st_size
    return {"data": base64.b64encode(data).decode("ascii"), "size": size, "job": row}


def kill(_helper: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for the end of the whole tree: TERM now, KILL after `grace` seconds. Does not wait for it."""
    folder = _folder(request)
    running = _read(folder, "running.json") or {}
    if _lives(running.get("warden")):
        with _private(os.path.join(folder, "kill.json")) as file:
            json.dump({"grace": request["grace"]}, file)
        os.kill(running["warden"]["pid"], signal.SIGTERM)
    elif _lives(running.get("command")):  # its warden was killed: its group is all that is known of it
        os.killpg(running["command"]["pid"], signal.SIGKILL if request["grace"] <= 0 else signal.SIGTERM)
    return _row(folder)


VERBS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "start-job": start,
    "jobs": jobs,
    "job-log": log,
    "kill-job": kill,
}


# ---------------------------------------------------------------- what is known of one


def _row(folder: str) -> dict[str, Any]:
    """The job as JSON, as `core.jobs` reads it; empty if there is none."""
    job = _read(folder, "job.json")
    if job is None:
        return {}
    now = time.time()
    # In this order: what has ended after the second look is seen by the third.
    running = _read(folder, "running.json")
    lives = running is not None and (_lives(running.get("warden")) or _lives(running.get("command")))
    end = _read(folder, "end.json")
    if end is not None:
        told = {"state": "ended", "status": end["status"], "ended": end["ended"]}
    elif lives or (running is None and now - job["started"] < STARTS_WITHIN):
        told = {"state": "running", "status": None, "ended": None}
    else:
        told = {"state": "lost", "status": None, "ended": None}
    last = {"running": now, "ended": told["ended"]}.get(told["state"])
    return {
        **job,
        **told,
        "id": os.path.basename(folder),
        "detached": True,
        "seconds": None if last is None else max(0.0, last - job["started"]),
    }


def _lives(one: Any) -> bool:
    return bool(one) and warden.identity(one["pid"]) == one


def _read(folder: str, name: str) -> Any:
    """A file of the job's; None if it is not there, or no JSON."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def _above(request: Mapping[str, Any]) -> str:
    return os.path.join(os.path.realpath(os.path.expanduser(request["root"])), ".devsync", "jobs")


def _folder(request: Mapping[str, Any]) -> str:
    if not _ID.match(request["id"]):
        raise ValueError("not the id of a job")
    return os.path.join(_above(request), request["id"])


def _private(path: str) -> Any:
    """A new file that nobody else can read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8")


def _prune(above: str) -> None:
    """Throw away what has ended long ago."""
    for name in os.listdir(above):
        end = _read(os.path.join(above, name), "end.json") if _ID.match(name) else None
        if end is not None and time.time() - end["ended"] > KEPT:
            shutil.rmtree(os.path.join(above, name), ignore_errors=True)


# ---------------------------------------------------------------- starting one


def _by_systemd(words: list[str], folder: str) -> bool:
    """Start it under the user's own systemd, if that outlives every login; whether that was to be had."""
    about = {**os.environ}
    about.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    unit = [
        *("systemd-run", "--user", "--quiet", "--collect", "--unit=devsync-job-" + os.path.basename(folder)),
        "--property=KillMode=process",  # as without systemd: only `kill` ends what a job leaves behind
        *(f"--setenv={name}={about[name]}" for name in _ENVIRONMENT if name in about),
        *("--", *words),
    ]
    try:
        lingers = _ask(["loginctl", "show-user", str(os.getuid()), "--property=Linger"], about)
        if lingers != (0, b"Linger=yes"):
            return False
        return _ask(unit, about)[0] == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _ask(words: list[str], about: Mapping[str, str]) -> tuple[int, bytes]:
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=about,
        timeout=5.0,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def _by_itself(words: list[str]) -> None:
    """Start it in a session of its own, as nobody's child: no end of a connection or terminal reaches it."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                nothing = os.open(os.devnull, os.O_RDWR)
                for target in (0, 1, 2):
                    os.dup2(nothing, target)
                os.execv(words[0], words)  # noqa: S606 - no shell has a say in it
        finally:
            os._exit(127)
    os.waitpid(child, 0)


def _last_words(folder: str) -> str:
    try:
        with open(os.path.join(folder, "log"), errors="replace") as file:
            return (file.read(4096).strip().splitlines() or ["it said nothing"])[-1]
    except OSError as error:
        return str(error)
