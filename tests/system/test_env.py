"""The project's environment, made on a machine behind a real sshd by its real Python and pip."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.fakes.sshd import Sshd
from tests.system.conftest import there
from tests.system.project import Project

WHEEL = "tiny-1.0-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
TAGS = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(path: Path) -> None:
    """A package that needs no index."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "SIZE = 'tiny'\n")
        wheel.writestr("tiny-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("tiny-1.0.dist-info/WHEEL", TAGS)
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")


def test_it_is_made_there_and_commands_run_in_it(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    assert "nothing says which packages" in project.devsync("env", "push", expect=1).stderr
    write_wheel(project.root / WHEEL)
    (project.root / "requirements.txt").write_text(f"--no-index\n./{WHEEL}\n")
    done = project.devsync("env", "push")
    assert "Successfully installed tiny-1.0" in done.stderr
    assert (there(sshd) / ".devsync" / "venv" / "bin" / "python").exists(), ".venv would be mirrored here"
    assert 'setup = ". ./.devsync/venv/bin/activate"' in (project.root / "devsync.toml").read_text()
    project.devsync("stop")
    project.devsync("start")
    assert project.devsync("run", "--", "python", "-c", "import tiny; print(tiny.SIZE)").stdout == "tiny\n"
    again = project.devsync("env", "push")
    assert "the environment is ready; commands run in it" in again.stderr
    (project.root / "requirements.txt").write_text("--no-index\nno-such-package\n")
    failed = project.devsync("env", "push", expect=1)
    assert "could not be made" in failed.stderr and "No matching distribution" in failed.stderr
    assert "there is no dev.txt" in project.devsync("env", "push", "--from", "dev.txt", expect=2).stderr
