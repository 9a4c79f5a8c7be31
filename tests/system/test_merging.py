"""What both sides changed while they were apart: merged where it goes together, else a conflict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.merge.test_notebook import base, outputs, rerun, sources
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree

pytestmark = pytest.mark.timeout(180)

TEXT = "".join(f"line {number}\n" for number in range(9))


def apart(project: Project, contents: dict[str, str]) -> None:
    """Both sides have these contents, and nobody watches any more."""
    for name, content in contents.items():
        (project.root / name).write_text(content)
    project.devsync("start")
    project.devsync("flush")
    project.devsync("stop")


def replace(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_what_goes_together_is_on_both_sides_and_the_rest_is_a_conflict(project: Project, sshd: Sshd) -> None:
    apart(project, {"model.py": TEXT, "same.py": TEXT, "run.ipynb": json.dumps(base(), indent=1)})
    replace(project.root / "model.py", "line 1\n", "changed here\n")
    replace(there(sshd) / "model.py", "line 7\n", "and there, too\n")
    replace(project.root / "same.py", "line 4\n", "four\n")
    replace(there(sshd) / "same.py", "line 4\n", "line number 4\n")
    notebook = json.loads((there(sshd) / "run.ipynb").read_text())
    notebook["cells"][0]["source"] = "import pandas"
    for at in range(3):
        rerun(notebook, at, f"the machine's output {at}", 2)
    (there(sshd) / "run.ipynb").write_text(json.dumps(notebook, indent=2))
    replace(project.root / "run.ipynb", "plot()", "plot(rows)")

    project.devsync("start")
    project.devsync("flush", expect=5)

    assert [row["path"] for row in json.loads(project.devsync("conflicts", "--json").stdout)] == ["same.py"]
    both = TEXT.replace("line 1\n", "changed here\n").replace("line 7\n", "and there, too\n")
    assert (project.root / "model.py").read_text() == both
    merged = json.loads((project.root / "run.ipynb").read_text())
    assert sources(merged) == ["import pandas", "train(seed)", "plot(rows)"]
    assert outputs(merged) == [f"the machine's output {at}" for at in range(3)]
    here = {name: content for name, content in tree(project.root).items() if name != "same.py"}
    assert here == {name: content for name, content in tree(there(sshd)).items() if name != "same.py"}
    kept = json.loads(project.devsync("history", "--json").stdout)
    assert {(row["path"], row["side"]) for row in kept} == {
        (name, side) for name in ("model.py", "run.ipynb") for side in ("local", "remote")
    }


def test_without_merging_it_is_a_conflict(tmp_path: Path, sshd: Sshd) -> None:
    project = Project(tmp_path, config_for(sshd, further="merge = false\n"))
    try:
        apart(project, {"model.py": TEXT})
        replace(project.root / "model.py", "line 1\n", "changed here\n")
        replace(there(sshd) / "model.py", "line 7\n", "and there, too\n")
        project.devsync("start")
        project.devsync("flush", expect=5)
        assert not list(project.state.glob("*/bases.db"))
    finally:
        project.close()
