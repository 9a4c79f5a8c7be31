"""A project and its folder on the machine, side by side, with a daemon between them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devsync.daemon.client import Client
from devsync.folders import socket_path
from tests.fakes.sshd import Sshd
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree

PATIENCE = 60.0
"""Seconds that a barrier may take."""


class Pair:
    """`here` and `far` are the two folders. `barrier` is what `devsync flush` asks of the daemon."""

    def __init__(self, project: Project, sshd: Sshd) -> None:
        self.project, self.sshd = project, sshd
        self.here, self.far = project.root, there(sshd)

    def barrier(self) -> dict[str, Any]:
        """Return when everything that was changed before is carried over: `conflicts` and `unsettled`."""
        with self.client() as client:
            answer: dict[str, Any] = client.call("flush", timeout=PATIENCE)
            return answer

    def client(self) -> Client:
        """A conversation with the daemon."""
        (state,) = (path.parent for path in self.project.state.glob("*/lock"))
        client = Client.connect(socket_path(state, self.project.environ), PATIENCE + 5.0)
        assert client is not None, "the daemon does not answer"
        return client

    def settle(self) -> None:
        """A barrier after which nothing is left to be done, and both folders are equal."""
        assert self.barrier() == {"conflicts": [], "unsettled": {}}
        self.assert_equal()

    def assert_equal(self) -> None:
        here, far = tree(self.here), tree(self.far)
        assert here.keys() == far.keys(), sorted(here.keys() ^ far.keys())[:10]
        assert here == far, [name for name in here if here[name] != far[name]][:10]

    def cycles(self) -> int:
        """How often something was carried over so far, as the log tells."""
        return self.project.log().count("synchronised: ")

    def versions(self) -> set[bytes]:
        """Every content that either side still has: in place or in its trash."""
        found: set[bytes] = set()
        for root in (self.here, self.far):
            found.update(content for content, _ in tree(root).values())
            found.update(content for content, _ in tree(root / ".devsync" / "trash").values())
        return found


@contextmanager
def started_pair(folder: Path, *, drop: str = "") -> Iterator[Pair]:
    """A pair whose daemon runs; `drop` names capabilities that root does without, on both sides."""
    sshd = Sshd(folder / "machine")
    without = ["setpriv", f"--bounding-set={drop}"] if drop else []
    if drop:
        shell = sshd.home / ".bashrc"  # bash reads it for whatever sshd starts, the SFTP server too
        shell.write_text(
            shell.read_text() + f'exec {" ".join(without)} bash --norc -c "$BASH_EXECUTION_STRING"\n'
        )
    sshd.start()
    try:
        project = Project(folder, config_for(sshd))
        try:
            start = [*without, sys.executable, "-m", "devsync", "start"]
            subprocess.run(start, cwd=project.root, env=project.environ, capture_output=True, check=True)
            yield Pair(project, sshd)
        finally:
            project.close()
    finally:
        sshd.stop()


class Observer:
    """Reads one file over and over, as a program would that runs there; `seen` are all its contents."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: set[bytes] = set()
        self.reads = self.missing = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._observe, name=f"observer of {path.name}")

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _observe(self) -> None:
        while not self._over.wait(0.0005):
            self.reads += 1
            try:
                descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError:
                self.missing += 1
                continue
            try:
                self.seen.add(_read_all(descriptor))
            finally:
                os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))
