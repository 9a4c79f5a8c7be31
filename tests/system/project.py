"""A project and its devsync, driven as a user does: by its command line, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 30.0
"""Seconds that anything may take that is awaited."""


def wait_for(
    what: str, condition: Callable[[], bool], patience: float = PATIENCE, pause: float = 0.01
) -> float:
    """Look until it is so; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < patience, f"not within {patience} s: {what}"
        time.sleep(pause)  # files of another process: nothing tells of them
    return time.monotonic() - began


class Project:
    """A folder with a devsync.toml, and a state folder beside it. `close` ends what runs."""

    def __init__(self, folder: Path, config: str, *, git: bool = True) -> None:
        self.root = folder / "project"
        self.state = folder / "state"
        self.home = folder / "laptop"
        for each in (self.root, self.home):
            each.mkdir(parents=True)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DEVSYNC", "SSH_"))},
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "DEVSYNC_STATE_DIR": str(self.state),
        }
        (self.root / "devsync.toml").write_text(config)
        if git:
            self.git("init", "-q", "-b", "main")
            self.git("config", "user.email", "tests@devsync.invalid")
            self.git("config", "user.name", "tests")

    def git(self, *words: str) -> str:
        """Run git in the project; what it printed."""
        return self._execute(["git", *words]).stdout

    def listed(self) -> set[str]:
        """The files that git lists: what is to be mirrored."""
        names = self.git("ls-files", "-co", "--exclude-standard", "-z").split("\0")
        return {name for name in names if name and os.path.lexists(self.root / name)}

    def devsync(
        self, *words: str, expect: int | None = 0, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a devsync command to its end."""
        done = self._execute([sys.executable, "-P", "-m", "devsync", *words], expect, timeout)
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def status(self) -> dict[str, Any]:
        """The document of `status --json`."""
        status: dict[str, Any] = json.loads(self.devsync("status", "--json", expect=None).stdout)
        return status

    def pid(self) -> int:
        """The daemon's process."""
        pid: int = self.status()["pid"]
        return pid

    def kill(self) -> None:
        """End the daemon without a chance to clean up."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_for("the daemon is dead", lambda: not _alive(pid))

    def daemons(self) -> list[int]:
        """The processes of the project's daemon: one, or none."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # no process, or ended meanwhile
            if b"--foreground" in words and os.fsencode(self.root) in words:
                found.append(int(entry.name))
        return found

    def end(self) -> None:
        """End the daemon in no time, if one runs: what it leaves is not looked at any more."""
        for pid in self.daemons():
            os.kill(pid, signal.SIGKILL)

    def log(self) -> str:
        """What the daemon logged."""
        return "".join(path.read_text() for path in self.state.glob("*/daemon.log"))

    def close(self) -> None:
        """End the daemon, and an embedded machine, if they run."""
        status = self.status() if self.state.exists() else {}
        if status.get("pid"):
            self.devsync("stop", "--timeout", "5s", expect=None)
            if _alive(status["pid"]):
                os.kill(status["pid"], signal.SIGKILL)
        if "local" in (self.root / "devsync.toml").read_text():
            self.devsync("vm", "deallocate", expect=None)

    def _execute(
        self, words: list[str], expect: int | None = 0, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words,
            cwd=self.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout,
            check=False,
        )
        said = f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}\n{done.stdout}\n"
        assert expect is None or done.returncode == expect, said + self.log()[-3000:]
        return done


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def tree(root: Path) -> dict[str, tuple[bytes, bool]]:
    """Every file below `root` but devsync's and git's own: name -> (content, executable)."""
    found = {}
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in (".devsync", ".git")]
        for name in files:
            path = Path(folder) / name
            if not path.is_symlink():
                executable = bool(path.stat().st_mode & 0o100)
                found[str(path.relative_to(root))] = (path.read_bytes(), executable)
    return found
