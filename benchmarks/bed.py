"""Where a benchmark runs: a real sshd behind a line of its own, a project, and the peers that share both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.sshd import Sshd
from tests.fakes.wan import Wan

CONFIG = """\
tunnel = []

[machine]
provider = "ssh"

[ssh]
host = "127.0.0.1"
port = {port}
user = "{user}"
identity_file = "{key}"
known_hosts = "{known_hosts}"

[sync]
path = "{path}"
allow_secrets = ["*"]

[idle]
after = "never"
"""


@dataclass(frozen=True)
class Profile:
    """A line between the two computers: seconds there and back, bytes per second (None: no limit)."""

    name: str
    round_trip: float
    rate: float | None


LOOPBACK = Profile("loopback", 0.0, None)
WAN = Profile("wan", 0.050, 100e6 / 8)


class Bed:
    """One line, with a machine at its end. Every measurement gets fresh folders on both sides."""

    def __init__(self, profile: Profile, folder: Path, sshd: Sshd, port: int) -> None:
        self.profile, self.folder, self.sshd, self.port = profile, folder, sshd, port
        self._number = 0

    def project(self, fill: Callable[[Path], None]) -> Project:
        """A project of its own, filled."""
        self._number += 1
        return Project(self, self.folder / f"{self.profile.name}-{self._number}", fill)

    def ssh(self) -> list[str]:
        """The words of OpenSSH's client that lead to the machine."""
        return [
            "ssh",
            *("-p", str(self.port), "-i", str(self.sshd.client_key), "-F", "none"),
            *("-o", f"UserKnownHostsFile={self.sshd.known_hosts}", "-o", "BatchMode=yes"),
        ]


class Project:
    """A folder here, and one on the machine for each contender."""

    def __init__(self, bed: Bed, folder: Path, fill: Callable[[Path], None]) -> None:
        self.bed = bed
        self.root = folder / "project"
        self.there = bed.sshd.home / folder.name
        self.root.mkdir(parents=True)
        fill(self.root)
        config = CONFIG.format(
            port=bed.port,
            user=bed.sshd.user,
            key=bed.sshd.client_key,
            known_hosts=bed.sshd.known_hosts,
            path=self.there / "devsync",
        )
        (self.root / "devsync.toml").write_text(config)
        self._environ = {**os.environ, "DEVSYNC_STATE_DIR": str(folder / "state"), "HOME": str(folder)}

    def devsync(self, *words: str) -> float:
        """Run a devsync command as users do; the seconds that it took."""
        return self._timed([sys.executable, "-P", "-m", "devsync", *words], self._environ)

    def rsync(self, *flags: str) -> float:
        """Bring everything to the machine with rsync; the seconds that it took."""
        self.there.mkdir(parents=True, exist_ok=True)
        target = f"{self.bed.sshd.user}@127.0.0.1:{self.there}/rsync/"
        words = ["rsync", *flags, "--delete", "--exclude=.devsync", "-e", " ".join(self.bed.ssh())]
        return self._timed([*words, f"{self.root}/", target], dict(os.environ))

    def verify(self, contender: str) -> None:
        """Raise unless the contender's folder there equals the one here."""
        words = ["rsync", "-rlc", "--dry-run", "--itemize-changes", "--delete", "--exclude=.devsync"]
        told = subprocess.run(
            [*words, f"{self.root}/", f"{self.there / contender}/"],
            capture_output=True,
            text=True,
            check=True,
        )
        if told.stdout.strip():
            raise AssertionError(f"{contender} left a difference:\n{told.stdout[:500]}")

    def forget(self) -> None:
        """Remove what both sides hold."""
        shutil.rmtree(self.root.parent, ignore_errors=True)
        shutil.rmtree(self.there, ignore_errors=True)

    def _timed(self, words: list[str], environ: dict[str, str]) -> float:
        began = time.perf_counter()
        done = subprocess.run(
            words,
            cwd=self.root,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
        if done.returncode:
            raise AssertionError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr}")
        return took


@contextmanager
def bed(profile: Profile, folder: Path) -> Iterator[Bed]:
    """A machine at the end of a line, until the end of the block."""
    sshd = Sshd(folder / "machine")
    sshd.start()
    try:
        with Wan(sshd.port, delay=profile.round_trip / 2, rate=profile.rate) as wan:
            key = sshd.host_public_key()
            # Without delay or rate the proxy would only be in the way.
            port = sshd.port if profile is LOOPBACK else wan.port
            sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {key}\n[127.0.0.1]:{wan.port} {key}\n")
            yield Bed(profile, folder, sshd, port)
    finally:
        sshd.stop()
