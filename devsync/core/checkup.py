"""What a check has found, and what is to be said of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from devsync.core.quantity import show_size

OK, WARNING, FAILED = "ok", "warning", "failed"

LOW = 2 << 30
"""Bytes that are free and yet too few for comfort."""

APART = 60.0
"""Seconds between two clocks that are worth a word."""


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do if it is not well."""

    name: str
    state: str
    text: str
    hint: str = ""


Facts = Mapping[str, str]
"""What the machine said of itself, by name; what is missing could not be found out."""


def facts(output: str) -> Facts:
    """The lines `name=value` of the probe's output; the rest is some profile's chatter."""
    lines = (line.split("=", 1) for line in output.splitlines() if line.startswith("check-") and "=" in line)
    return {name[len("check-") :]: value.strip() for name, value in lines}


def disk(name: str, place: str, free: int) -> Check:
    """The room that is left where a side's files are."""
    if free < LOW:
        hint = f"make room; old versions are in {place}/.devsync/trash"
        return Check(name, WARNING, f"{show_size(free)} free in {place}", hint)
    return Check(name, OK, f"{show_size(free)} free in {place}")


def watches(limit: int, folders: int) -> Check:
    """Whether the system lets every mirrored folder be watched."""
    text = f"{folders} folders, {limit} watches allowed"
    if folders <= limit * 0.8:
        return Check("watches", OK, text)
    hint = "sudo sysctl fs.inotify.max_user_watches=524288; until then a regular look finds what is missed"
    return Check("watches", WARNING, text, hint)


def judge(found: Facts, now: float) -> Iterator[Check]:
    """What the machine's facts mean; `now` is this computer's time when they were asked for."""
    yield _python(found)
    if found.get("free", "").isdigit():
        yield disk("disk there", "the machine's project folder", int(found["free"]) << 10)
    yield _clock(found, now)
    if found.get("watches", "").isdigit() and int(found["watches"]) < 65536:
        hint = "there: sudo sysctl fs.inotify.max_user_watches=524288"
        yield Check("watches there", WARNING, f"only {found['watches']} watches are allowed there", hint)
    yield _gpu(found)
    for library in ("torch", "tensorflow"):
        if library in found:
            yield _library(library, found[library], with_gpu=bool(found.get("gpu")))
    yield _jupyter(found)


def _python(found: Facts) -> Check:
    version = found.get("python", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(numbers) == 2 and numbers >= (3, 8):
        return Check("python there", OK, f"Python {version}")
    said = f"Python {version} is too old" if version else "there is no python3"
    hint = "install Python 3.8 or newer there; until then files go by SFTP alone, which promises less"
    return Check("python there", WARNING, said, hint)


def _clock(found: Facts, now: float) -> Check:
    if not found.get("time", "").isdigit():
        return Check("clocks", WARNING, "the machine does not tell its time")
    apart = int(found["time"]) - now
    if abs(apart) < APART:
        return Check("clocks", OK, "the same here and there")
    text = f"the machine's clock is {abs(apart):.0f} s {'ahead' if apart > 0 else 'behind'}"
    hint = "devsync does not mind, but make, git and Azure do: there, timedatectl set-ntp true"
    return Check("clocks", WARNING, text, hint)


def _gpu(found: Facts) -> Check:
    if found.get("gpu"):
        return Check("gpu", OK, found["gpu"])
    if found.get("gpu-error"):
        hint = "there: nvidia-smi; a new kernel often wants the driver installed anew, or a restart"
        return Check("gpu", FAILED, f"nvidia-smi fails: {found['gpu-error']}", hint)
    return Check("gpu", OK, "the machine has none")


def _library(name: str, said: str, *, with_gpu: bool) -> Check:
    version, _, device = said.partition(" ")
    if with_gpu and device == "cpu":
        hint = f"install a build of {name} that is made for the machine's CUDA"
        return Check(name, WARNING, f"{name} {version} does not see the GPU", hint)
    return Check(name, OK, f"{name} {version} computes on the {device or 'cpu'}")


def _jupyter(found: Facts) -> Check:
    if found.get("jupyter"):
        return Check("jupyter", OK, found["jupyter"])
    hint = "if you want it: devsync jupyter says how to install it, and offers to"
    return Check("jupyter", WARNING, "the login environment there has no jupyter", hint)
