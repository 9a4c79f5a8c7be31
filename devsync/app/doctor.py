"""Looks at everything that has to be well for devsync to work, from the configuration to the GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from devsync.app.machine import open_machine
from devsync.config import Config, load
from devsync.core.checkup import FAILED, OK, WARNING, Check, disk, judge, watches
from devsync.folders import find_project, state_dir
from devsync.ports import DevsyncError, Machine, Power


def diagnose(start: Path, environ: Mapping[str, str]) -> Iterator[Check]:
    """Every check, as it is made; what needs something that failed is left out."""
    try:
        config = load(find_project(start), environ=environ)
    except DevsyncError as error:
        yield _failed("configuration", error)
        return
    yield Check("configuration", OK, f"{config.name}, machine by {config.machine.provider}")
    yield from _here(config, environ)
    machine = open_machine(config, state_dir(config.root, environ))
    try:
        yield from _there(config, machine)
    finally:
        machine.close()


def _here(config: Config, environ: Mapping[str, str]) -> Iterator[Check]:
    from devsync.replica.rules import load_rules

    git = shutil.which("git", path=environ.get("PATH"))
    if git is None:
        yield Check("git", WARNING, "not installed", "install git: without it no .gitignore is read")
    else:
        said = subprocess.run([git, "version"], capture_output=True, text=True, check=False, timeout=10)
        yield Check("git", OK, said.stdout.strip() or "git does not say its version")
    try:
        load_rules(config.root, config.sync.ignore)
        yield Check("ignore rules", OK, "readable")
    except DevsyncError as error:
        yield _failed("ignore rules", error)
        return
    yield disk("disk here", str(config.root), shutil.disk_usage(config.root).free)
    if sys.platform == "linux":
        limit = Path("/proc/sys/fs/inotify/max_user_watches")
        if limit.exists():
            yield watches(int(limit.read_text()), _folders(config))


def _folders(config: Config) -> int:
    """How many folders are mirrored."""
    from devsync.core.ignore import Folder
    from devsync.replica.rules import load_rules

    def below(path: str, rules: Folder) -> int:
        count = 1
        with os.scandir(path) as entries:
            for entry in entries:
                inner = rules.enter(entry.name) if entry.is_dir(follow_symlinks=False) else None
                count += below(entry.path, inner) if inner is not None else 0
        return count

    try:
        return below(str(config.root), load_rules(config.root, config.sync.ignore).top())
    except OSError:
        return 0  # what cannot be read is not watched either


def _there(config: Config, machine: Machine) -> Iterator[Check]:
    try:
        power = machine.power()
    except DevsyncError as error:
        yield _failed("machine", error)
        return
    if power is Power.STOPPED:
        yield Check("machine", WARNING, "stopped, and billed as if it ran", "devsync vm deallocate ends that")
    elif power is Power.MISSING:
        yield Check(
            "machine", FAILED, "there is no such machine", "devsync vm list shows those that there are"
        )
    else:
        yield Check("machine", OK, power.value)
    if power in (Power.RUNNING, Power.UNKNOWN):
        yield from _inside(config, machine)
    else:
        yield Check("inside", WARNING, "not looked at: the machine does not run", "devsync vm start")


def _inside(config: Config, machine: Machine) -> Iterator[Check]:
    from devsync.app.sides import Connector
    from devsync.work.checkup import ask
    from devsync.work.command import Surroundings

    try:
        began = time.monotonic()
        connection = Connector(config, machine, None)(machine.address())
    except DevsyncError as error:
        yield _failed("connection", error)
        return
    try:
        yield Check(
            "connection",
            OK,
            f"logged in within {time.monotonic() - began:.1f} s; host key and login are good",
        )
        now = time.time()
        found = ask(connection, config.sync.path, Surroundings("~", config.run.shell, config.run.setup))
        yield from judge(found, now)
    except DevsyncError as error:
        yield _failed("login environment", error)
    finally:
        connection.close()


def _failed(name: str, error: DevsyncError) -> Check:
    return Check(name, FAILED, error.message, error.hint)
