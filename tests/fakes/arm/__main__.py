"""Runs the endpoint as a process of its own until it is told to end (SIGTERM, SIGINT).

    python -m tests.fakes.arm --port 0 --state vms.json --on-start 'sshd …' --on-deallocate 'kill …'

The first line on standard output is JSON: {"url": …, "ca": …, "subscription": …, "pid": …}. The state file
holds {"vms": [{"name", "power", "public_ip", …}]}; it is read at the start if it is there, and written at
each change. The commands run with DEVSYNC_VM set to the VM's name.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.fakes.arm.server import Arm
from tests.fakes.arm.world import SUBSCRIPTION, Hook, Vm, World


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.arm", description="an ARM endpoint on loopback"
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path, help="JSON file with the VMs")
    parser.add_argument("--pace", type=int, default=2, help="looks that a change of power takes")
    parser.add_argument("--on-start", help="command to run before a VM is seen to run")
    parser.add_argument("--on-deallocate", help="command to run when a VM is being stopped")
    asked = parser.parse_args()

    world = World(*_load(asked.state))
    pace = max(asked.pace, 0)
    world.steps["start"] = ["starting"] * pace + ["running"]
    world.steps["deallocate"] = ["deallocating"] * pace + ["deallocated"]
    world.on_start, world.on_deallocate = _hook(asked.on_start), _hook(asked.on_deallocate)
    if asked.state is not None:
        world.on_change = lambda: _save(asked.state, world)
        world.on_change()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as folder, Arm(Path(folder), world, asked.port) as arm:
        hello = {"url": arm.url, "ca": arm.ca, "subscription": SUBSCRIPTION, "pid": os.getpid()}
        sys.stdout.write(json.dumps(hello) + "\n")
        sys.stdout.flush()
        ended.wait()


def _load(state: Path | None) -> list[Vm]:
    if state is None or not state.exists():
        return [Vm()]
    return [Vm(**entry) for entry in json.loads(state.read_text())["vms"]]


def _save(state: Path, world: World) -> None:
    new = state.with_name(f"{state.name}.new")
    new.write_text(json.dumps(world.to_json(), indent=1))
    os.replace(new, state)


def _hook(command: str | None) -> Hook:
    if command is None:
        return lambda vm: None

    def run(vm: Vm) -> None:
        environment = os.environ | {"DEVSYNC_VM": vm.name}
        done = subprocess.run(command, shell=True, env=environment, stdout=sys.stderr, check=False)
        if done.returncode:
            sys.stderr.write(f"the hook ended with status {done.returncode}: {command}\n")

    return run


if __name__ == "__main__":
    main()
