"""`devsync service` beside a systemctl that notes what it is asked and runs nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from devsync.app.service import Service, unit_text
from tests.system.project import Project

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]


class Systemctl:
    """A `systemctl` at the front of PATH. `refuse` makes one of its verbs fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._write("")

    def refuse(self, verb: str, words: str) -> None:
        self._write(f'if [ "$2" = {verb} ]; then echo "{words}" >&2; exit 1; fi')

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    def _write(self, more: str) -> None:
        program = self.folder / "systemctl"
        program.write_text(
            f'#!/bin/sh\necho "$*" >>"{self.folder}/calls"\n{more}\n'
            "case $2 in is-active) echo active ;; is-enabled) echo disabled ;; esac\n"
        )
        program.chmod(0o755)


@pytest.fixture
def systemctl(project: Project, tmp_path: Path) -> Systemctl:
    made = Systemctl(tmp_path / "bin")
    project.environ["PATH"] = f"{made.folder}:{project.environ['PATH']}"
    return made


def unit_file(project: Project) -> Path:
    return project.home / ".config" / "systemd" / "user" / "devsync@.service"


def test_install_writes_the_unit_and_starts_this_project(project: Project, systemctl: Systemctl) -> None:
    project.devsync("service", "install", "--at-login")
    unit = Service(project.root, project.environ).unit
    assert systemctl.calls()[:3] == [
        "--user daemon-reload",
        f"--user enable {unit}",
        f"--user restart {unit}",
    ]
    text = unit_file(project).read_text()
    start = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    program = start.removeprefix("ExecStart=").split('"')[1]
    assert os.access(program, os.X_OK), "the devsync that is installed here"
    assert start.endswith("-C %f start --foreground")

    told = json.loads(project.devsync("service", "status", "--json").stdout)
    assert told["unit"] == unit
    assert told["installed"] is True
    assert told["active"] == "active"

    project.devsync("service", "uninstall")
    assert f"--user disable --now {unit}" in systemctl.calls()
    assert not unit_file(project).exists()


def test_install_takes_the_place_of_a_daemon_that_runs(project: Project, systemctl: Systemctl) -> None:
    project.devsync("start")
    project.devsync("service", "install")
    project.devsync("status", expect=3)


def test_a_systemd_that_refuses_is_quoted(project: Project, systemctl: Systemctl) -> None:
    systemctl.refuse("restart", "Failed to connect to bus")
    done = project.devsync("service", "install", expect=1)
    assert "Failed to connect to bus" in done.stderr


def test_without_systemd_it_says_so(project: Project, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Exception, match="no systemd"):
        Service(project.root, {**project.environ, "PATH": str(tmp_path / "empty")})


@pytest.mark.parametrize("path", ["/home/ann/my-model", "/srv/a b/ü", "/x/.hidden-dir", "/", "/.start/x"])
def test_the_instance_is_named_as_systemd_escapes_a_path(path: str) -> None:
    """Compared with systemd's own program where there is one."""
    expected = {
        "/home/ann/my-model": r"home-ann-my\x2dmodel",
        "/srv/a b/ü": r"srv-a\x20b-\xc3\xbc",
        "/x/.hidden-dir": r"x-.hidden\x2ddir",
        "/": "-",
        "/.start/x": r"\x2estart-x",
    }[path]
    from devsync.app.service import _escaped

    assert _escaped(path) == expected
    program = Path("/usr/bin/systemd-escape")
    if program.exists():
        said = subprocess.run([program, "--path", path], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == expected


def test_the_shipped_unit_is_the_one_in_the_repository() -> None:
    assert "Type=notify" in unit_text()
    shipped = ROOT / "devsync" / "app" / "devsync@.service"
    assert shipped.read_text() == (ROOT / "systemd" / "devsync@.service").read_text()
