"""The unit for systemd, and what the daemon tells systemd over its notification socket."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import click

from devsync.cli.main import devsync
from devsync.ports import Halted, Misuse
from tests.system.project import Project

UNIT = Path(__file__).parents[2] / "systemd" / "devsync@.service"

CONFIG = """\
[machine]
provider = "local"

[sync]
path = "~/work/project"

[[tunnel]]
local = 0
remote = 9
"""


def unit() -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read(UNIT)
    return parser


def test_the_unit_runs_a_command_that_exists() -> None:
    executable, *words = shlex.split(unit()["Service"]["ExecStart"])
    assert executable == "%h/.local/bin/devsync", "the comment in the unit says how to name another one"
    assert words[:2] == ["-C", "%f"]
    ctx = click.Context(devsync)
    command = devsync.get_command(ctx, words[2])
    assert command is not None
    parsed = command.make_context(words[2], words[3:], parent=ctx)
    assert parsed.params["foreground"]


def test_the_unit_tries_again_unless_somebody_has_to_act() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "on-failure"
    waiting = {int(status) for status in service["RestartPreventExitStatus"].split()}
    assert waiting == {Misuse.exit_status, Halted.exit_status}


def test_systemd_is_told_that_it_is_up_and_that_it_goes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    project = Project(tmp_path, CONFIG)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(30)
            address = str(tmp_path / "run" / "notify")
            systemd.bind(address)
            daemon = subprocess.Popen(
                [sys.executable, "-P", "-m", "devsync", "-C", str(project.root), "start", "--foreground"],
                env={**project.environ, "NOTIFY_SOCKET": address},
                cwd="/",
            )
            try:
                assert systemd.recv(100) == b"READY=1"
                assert project.pid() == daemon.pid, "it answers from the moment it is ready"
                os.kill(daemon.pid, signal.SIGTERM)
                began = time.monotonic()
                assert systemd.recv(100) == b"STOPPING=1"
                assert daemon.wait(timeout=5) == 0
                assert time.monotonic() - began < 5
            finally:
                daemon.kill()
                daemon.wait()
    finally:
        project.close()


def test_bad_configuration_ends_with_the_status_that_systemd_does_not_try_again(tmp_path: Path) -> None:
    project = Project(tmp_path, CONFIG.replace("local", "loccal", 1))
    done = project.devsync("start", "--foreground", expect=2)
    assert "did you mean 'local'" in done.stderr
