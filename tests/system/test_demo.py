"""The one step of the demo that needs more than a plain install; `make demo` itself verifies the others."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from devsync.cli import demo


def test_the_notebook_is_executed_on_the_machine_and_its_outputs_are_here(tmp_path: Path) -> None:
    stage = demo._Stage(tmp_path)
    try:
        for step in (stage.make_project, stage.start, stage.save):
            step()
        assert stage.notebook() == '2 cells were executed; "reported: score 11" is in the notebook here'
    finally:
        stage.clean_up()


@pytest.mark.parametrize(
    ("lacking", "named"),
    [({"ipykernel"}, "ipykernel"), ({"nbclient", "ipykernel"}, "nbclient and ipykernel")],
)
def test_a_plain_install_is_told_why_the_notebook_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: set[str], named: str
) -> None:
    def found(name: str) -> ModuleSpec | None:
        return None if name in lacking else find_spec(name)

    monkeypatch.setattr(demo, "find_spec", found)
    said = demo._Stage(tmp_path).notebook()
    assert said == f"left out: {named} not installed here (pip install 'devsync[demo]')"
    assert list(tmp_path.iterdir()) == [], "it goes on without having written anything"
