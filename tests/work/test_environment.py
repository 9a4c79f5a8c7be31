"""Which files describe an environment, and what is done with them by the tools that are there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from devsync.ports import DevsyncError, Misuse
from devsync.work.environment import Description, describe, words

TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >>calls
[ "$1" != venv ] || { mkdir -p "$3/bin"; : >"$3/pyvenv.cfg"; ln -sf /bin/true "$3/bin/python"; }
"""


def project(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_what_describes_it(tmp_path: Path) -> None:
    with pytest.raises(DevsyncError, match="nothing says which packages"):
        describe(project(tmp_path, pyproject_toml="[tool.ruff]\nline-length = 99\n"))
    project(tmp_path, pyproject_toml='[project]\nname = "p"\ndependencies = ["numpy>=2", "tqdm"]\n')
    assert describe(tmp_path) == Description(None, ("numpy>=2", "tqdm"))
    project(tmp_path, pyproject_toml='[build-system]\nrequires = ["hatchling"]\n')
    assert describe(tmp_path) == Description(None, ("-e", "."))
    project(tmp_path, requirements_txt="numpy\n")
    assert describe(tmp_path) == Description(None, ("-r", "requirements.txt"))
    project(tmp_path, environment_yml="dependencies: [python]\n")
    assert describe(tmp_path) == Description("environment.yml", ("-r", "requirements.txt"))
    assert describe(tmp_path, "environment.yml") == Description("environment.yml", ())
    assert describe(tmp_path, "pyproject.toml") == Description(None, ("-e", "."))
    with pytest.raises(Misuse, match=r"there is no dev\.txt"):
        describe(tmp_path, "dev.txt")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("= 1", "is no TOML"),
        ('[project]\ndependencies = "numpy"\n', "no list of requirements"),
        ('[project]\ndependencies = ["--index-url=x"]\n', "no list of requirements"),
    ],
)
def test_a_pyproject_that_makes_no_sense_is_said(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(DevsyncError, match=why):
        describe(project(tmp_path, pyproject_toml=text))


class Machine:
    """A folder with nothing but these tools, which write down how they are called."""

    def __init__(self, folder: Path, *tools: str) -> None:
        self.folder = folder
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        for name in ("basename", "mkdir", "rm", "ln", "sh"):
            found = next(path for path in ("/bin", "/usr/bin") if os.path.exists(f"{path}/{name}"))
            (bin_folder / name).symlink_to(f"{found}/{name}")
        for name in tools:
            (bin_folder / name).write_text(TOOL)
            (bin_folder / name).chmod(0o755)

    def make(self, description: Description, *, mirrored: bool = False) -> tuple[int, str, str]:
        """The exit status, what activates it, what is told."""
        done = subprocess.run(
            ["/bin/sh", *words(description, mirrored=mirrored)[1:]],
            cwd=self.folder,
            env={"PATH": str(self.folder / "bin"), "HOME": str(self.folder)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def calls(self) -> list[str]:
        """What was asked of the tools since the last time."""
        path = self.folder / "calls"
        said = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return said


BOTH = Description("environment.yml", ("-r", "requirements.txt"))


def test_conda_goes_first_and_its_environment_is_no_part_of_the_project(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "conda", "uv")
    assert machine.make(BOTH)[:2] == (0, "conda activate ./.devsync/conda\n")
    assert machine.calls() == ["conda env create --prefix ./.devsync/conda --file environment.yml"]
    (tmp_path / ".devsync" / "conda" / "conda-meta").mkdir(parents=True)
    assert machine.make(BOTH)[0] == 0
    assert machine.calls() == ["conda env update --prune --prefix ./.devsync/conda --file environment.yml"]


def test_uv_makes_it_once_and_where_nothing_is_mirrored(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "uv")
    assert machine.make(BOTH)[:2] == (0, ". ./.venv/bin/activate\n")
    install = "uv pip install --python .venv/bin/python -r requirements.txt"
    assert machine.calls() == ["uv venv --quiet .venv", install]
    assert machine.make(BOTH)[0] == 0
    assert machine.calls() == [install], "what is there is used"
    (tmp_path / ".venv" / "bin" / "python").unlink()
    assert machine.make(BOTH)[0] == 0
    assert machine.calls() == ["uv venv --quiet .venv", install], "what has lost its Python is made anew"
    odd = Description(None, ("it's >=1; python_version < '4'",))
    assert machine.make(odd, mirrored=True)[:2] == (0, ". ./.devsync/venv/bin/activate\n")
    assert machine.calls()[1] == f"uv pip install --python .devsync/venv/bin/python {odd.installed[0]}"


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    status, activates, told = machine.make(Description("environment.yml", ()))
    assert (status, activates) == (1, "") and "environment.yml needs conda" in told
    status, activates, told = machine.make(Description(None, ("numpy",)))
    assert (status, activates) == (1, "") and "neither uv nor Python" in told
