"""Runs the programs that merge: git for texts, our own `notebook` for notebooks. Bounded in time and size.

Each sees three files in a private folder and nothing else, and leaves the result in one of them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from devsync.core.merge import LARGEST, Method, is_text

PATIENCE = {Method.TEXT: 5.0, Method.NOTEBOOK: 30.0}
"""Seconds for one merge."""

_COMMANDS = {
    Method.TEXT: ["git", "merge-file", "--quiet", "local", "base", "remote"],
    # By its path: it needs nothing of this package. -P: nor what lies beside it or in the folder.
    Method.NOTEBOOK: [sys.executable, "-P", os.fspath(Path(__file__).with_name("notebook.py"))],
}


class Programs:
    """Merges one content after the other. Of one thread, apart from `interrupt`."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        """`folder` is ours alone: whatever is in it goes. `environ` is what the programs are given."""
        self._folder = folder
        kept = {name: value for name, value in environ.items() if not name.startswith("GIT_")}
        # The user's git, but no settings: a style for conflicts is none of ours.
        git = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_DIR": os.devnull}
        self._environ = {**kept, **git, "LC_ALL": "C"}
        self._running: subprocess.Popen[bytes] | None = None

    def merge(self, method: Method, base: bytes, local: bytes, remote: bytes) -> bytes | None:
        """The content with both sides' changes; None if they do not go together, or nobody can tell."""
        if not all(map(is_text, (base, local, remote))):
            return None
        shutil.rmtree(self._folder, ignore_errors=True)  # another's, which died
        try:
            self._folder.mkdir(mode=0o700)
            for name, content in (("base", base), ("local", local), ("remote", remote)):
                (self._folder / name).write_bytes(content)
            if self._run(method) != 0:
                return None
            result = self._folder / "local"
            return result.read_bytes() if result.stat().st_size <= LARGEST else None
        except OSError:
            return None  # no such program, or no room
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def interrupt(self) -> None:
        """From any thread: a merge that is under way ends without a result."""
        running = self._running
        if running is not None:
            running.kill()  # does nothing to one that has ended

    def _run(self, method: Method) -> int:
        """The exit status; that of a program which had to be killed is negative."""
        quiet = subprocess.DEVNULL
        with subprocess.Popen(
            _COMMANDS[method], cwd=self._folder, env=self._environ, stdin=quiet, stdout=quiet, stderr=quiet
        ) as process:
            self._running = process
            try:
                return process.wait(PATIENCE[method])
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()
            finally:
                self._running = None
