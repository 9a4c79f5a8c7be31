"""Other ways to bring a folder to the machine, for reference: those of them that this computer has."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping

from benchmarks.bed import Trial

GIVEN_UP = 180.0
"""Seconds. Some need minutes for what takes others a moment."""


def others(trial: Trial) -> Mapping[str, float | None]:
    """Each one's seconds for a first mirror, once; None where one was given up."""
    took: dict[str, float | None] = {}
    for name, (program, words) in PEERS.items():
        if shutil.which(program) is None:
            continue
        folder = name.split()[0]
        began = time.perf_counter()
        try:
            _run(words(trial, folder), trial)
        except subprocess.TimeoutExpired:
            took[name] = None
            continue
        took[name] = time.perf_counter() - began
        trial.verify(trial.root, trial.there / folder)
    return took


def _run(line: str, trial: Trial) -> None:
    environ = {**os.environ, "HOME": str(trial.home), "UNISON": str(trial.folder / "unison")}
    # `exec` and a group of its own: what is given up leaves nothing behind.
    with subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=GIVEN_UP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    if process.returncode:
        raise AssertionError(f"{line} ended with {process.returncode}:\n{said[-2000:]}")


def _tar(trial: Trial, folder: str) -> str:
    there = shlex.quote(str(trial.there / folder))
    words = [*trial.bed.ssh(), f"{trial.bed.sshd.user}@127.0.0.1", f"mkdir {there} && tar -xzC {there}"]
    return f"tar -czC {shlex.quote(str(trial.root))} . | {shlex.join(words)}"


def _rclone(trial: Trial, folder: str) -> str:
    sshd = trial.bed.sshd
    remote = (
        f":sftp,host=127.0.0.1,port={trial.bed.port},user={sshd.user},key_file={sshd.client_key},"
        f"known_hosts_file={sshd.known_hosts}:{trial.there / folder}"
    )
    return shlex.join(["rclone", "copy", "--links", str(trial.root), remote])


def _unison(trial: Trial, folder: str) -> str:
    ssh = trial.bed.ssh()
    far = f"ssh://{trial.bed.sshd.user}@127.0.0.1/{trial.there / folder}"
    words = ["unison", str(trial.root), far, "-batch", "-auto", "-ui", "text", "-sshargs", " ".join(ssh[1:])]
    return shlex.join(words)


PEERS: Mapping[str, tuple[str, Callable[[Trial, str], str]]] = {
    "tar over ssh": ("tar", _tar),
    "rclone": ("rclone", _rclone),
    "unison": ("unison", _unison),
}
"""Column -> the program that it needs, and the shell's line."""
