"""Notebooks are merged cell by cell: laws over edits of both sides, and the program as it is run."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devsync.core.merge import Method
from devsync.merge.notebook import merge
from devsync.merge.programs import Programs

Notebook = dict[str, Any]


def cell(name: str | None, source: str, output: str = "", count: int | None = None, **metadata: Any) -> Any:
    """A cell of code; with an output, if there is one."""
    outputs = [{"output_type": "stream", "name": "stdout", "text": [output]}] if output else []
    made: dict[str, Any] = {"cell_type": "code", "source": source, "metadata": metadata, "outputs": outputs}
    made["execution_count"] = count
    return made if name is None else {**made, "id": name}


def notebook(*cells: Any, minor: int = 5) -> Notebook:
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": {}, "cells": list(cells)}


def base(*, ids: bool = True) -> Notebook:
    """Three cells, run once."""
    sources = ["import numpy\nseed = 1\nrows = 10", "train(seed)", "plot()"]
    names = "abc" if ids else (None,) * 3
    cells = [cell(name, source, f"{source} ran", 1) for name, source in zip(names, sources, strict=True)]
    return notebook(*cells, minor=5 if ids else 4)


def merged(old: Notebook, here: Notebook, there: Notebook) -> Notebook | None:
    return merge([copy.deepcopy(one) for one in (old, here, there)])


def sources(one: Notebook | None) -> list[str]:
    assert one is not None
    return ["".join(each["source"]) for each in one["cells"]]


def outputs(one: Notebook | None) -> list[str]:
    assert one is not None
    return ["".join(text for out in each["outputs"] for text in out["text"]) for each in one["cells"]]


def rerun(one: Notebook, at: int, output: str, count: int, ended: str = "") -> None:
    """Run a cell again; `ended` is the time if Jupyter records it."""
    times = {"execution": {"shell.execute_reply": ended}} if ended else {}
    one["cells"][at] |= cell(None, one["cells"][at]["source"], output, count, **times)


with_and_without_ids = pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])


@with_and_without_ids
def test_edits_of_different_cells_are_both_there(ids: bool) -> None:
    old = base(ids=ids)
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    here["cells"][0]["source"] = "import pandas\nseed = 1\nrows = 10"
    there["cells"][2]["source"] = "plot(rows)"
    rerun(there, 2, "a picture", 7)
    found = merged(old, here, there)
    assert sources(found) == ["import pandas\nseed = 1\nrows = 10", "train(seed)", "plot(rows)"]
    assert outputs(found) == [outputs(old)[0], outputs(old)[1], "a picture"]
    assert found is not None and found["cells"][2]["execution_count"] == 7
    assert [each.get("id") for each in found["cells"]] == [each.get("id") for each in old["cells"]]


@with_and_without_ids
def test_edits_of_different_lines_of_a_cell_are_both_there(ids: bool) -> None:
    old = base(ids=ids)
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    here["cells"][0]["source"] = "import pandas\nseed = 1\nrows = 10"
    there["cells"][0]["source"] = "import numpy\nseed = 1\nrows = 10_000"
    assert sources(merged(old, here, there))[0] == "import pandas\nseed = 1\nrows = 10_000"


@with_and_without_ids
def test_a_line_that_both_changed_has_no_result(ids: bool) -> None:
    old = base(ids=ids)
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    here["cells"][1]["source"] = "train(1)"
    there["cells"][1]["source"] = "train(seed, rows)"
    assert merged(old, here, there) is None


@with_and_without_ids
def test_what_runs_left_never_conflicts_and_the_machines_stays(ids: bool) -> None:
    old = base(ids=ids)
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    for at in range(3):
        rerun(here, at, f"here {at}", 4 + at)
    rerun(there, 1, "there", 2)
    here["metadata"]["language_info"] = {"version": "3.11"}
    there["metadata"]["language_info"] = {"version": "3.10.4"}
    found = merged(old, here, there)
    assert outputs(found) == ["here 0", "there", "here 2"]
    assert found is not None and found["metadata"]["language_info"] == {"version": "3.10.4"}


@pytest.mark.parametrize(
    ("here_ended", "stays"),
    [("2026-01-01T12:00:01.5Z", "here"), ("2026-01-01T13:00:00.1+02:00", "there"), ("", "there")],
)
def test_the_later_run_stays_where_times_are_told(here_ended: str, stays: str) -> None:
    old = base()
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    rerun(here, 0, "here", 4, here_ended)
    rerun(there, 0, "there", 4, "2026-01-01T12:00:00Z")
    assert outputs(merged(old, here, there))[0] == stays


def test_cells_come_and_go() -> None:
    old = base()
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    here["cells"].insert(1, cell("new-here", "between()"))
    del here["cells"][2]
    there["cells"].append(cell("new-there", "after()", "done", 3))
    rerun(there, 1, "run once more before it goes", 2)
    found = merged(old, here, there)
    assert found is not None
    assert [each["id"] for each in found["cells"]] == ["a", "new-here", "c", "new-there"]
    assert outputs(found)[3] == "done"


@pytest.mark.parametrize("edit", ["removed and changed", "two at one place", "moved and changed"])
def test_cells_that_do_not_go_together_have_no_result(edit: str) -> None:
    old = base()
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    there["cells"][0]["source"] = "import scipy\nseed = 2"
    if edit == "removed and changed":
        del here["cells"][0]
    elif edit == "moved and changed":
        here["cells"].append(here["cells"].pop(0))
    else:
        here["cells"].append(cell("x", "one()"))
        there["cells"].append(cell("y", "another()"))
    assert merged(old, here, there) is None


def test_a_notebook_that_one_side_has_given_ids_keeps_them() -> None:
    old = base(ids=False)
    here, there = copy.deepcopy(old), base()
    here["cells"][0]["source"] = "import pandas"
    found = merged(old, here, there)
    assert found is not None and found["nbformat_minor"] == 5
    names = [each["id"] for each in found["cells"]]
    assert len({*names}) == 3 and names[1:] == ["b", "c"]


# ---------------------------------------------------------------- laws

Edit = tuple[str, int]
edits = st.lists(
    st.tuples(st.sampled_from(["change", "run", "remove", "add"]), st.integers(0, 5)), max_size=3
)


def edited(old: Notebook, some: list[Edit], side: str) -> Notebook:
    one = copy.deepcopy(old)
    for number, (kind, at) in enumerate(some):
        cells = one["cells"]
        if kind == "add":
            cells.insert(min(at, len(cells)), cell(f"{side}-{number}", f"{side} {number}", "new", 1))
        elif at < len(cells) and kind == "remove":
            del cells[at]
        elif at < len(cells) and kind == "change":
            cells[at]["source"] += f"\n{side} {number}"
        elif at < len(cells):
            rerun(one, at, f"{side} {number}", number)
    return one


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(edits, edits)
def test_a_merge_has_every_cell_that_it_should_have(mine: list[Edit], theirs: list[Edit]) -> None:
    old = notebook(*(cell(f"cell-{n}", f"line {n}\nend of {n}", f"output {n}", n) for n in range(6)))
    here, there = edited(old, mine, "here"), edited(old, theirs, "there")
    found = merged(old, here, there)
    if {kind for kind, _ in (*mine, *theirs)} <= {"run"}:
        assert found is not None, "runs alone never conflict"
    if found is None:
        return
    before, left, right, after = (
        {each["id"]: each for each in one["cells"]} for one in (old, here, there, found)
    )
    assert len(after) == len(found["cells"])
    assert after.keys() == (left.keys() & right.keys()) | (left.keys() ^ right.keys()) - before.keys()
    for name, each in after.items():
        given = [side[name] for side in (left, right) if name in side]
        assert each["outputs"] in [one["outputs"] for one in given], "outputs stay as they are"
        lines = {line for one in given for line in one["source"].splitlines()}
        assert {line.rstrip("\n") for line in each["source"]} == lines


# ---------------------------------------------------------------- the program


def test_the_program_writes_what_jupyter_would(tmp_path: Path) -> None:
    old = base()
    here, there = copy.deepcopy(old), copy.deepcopy(old)
    here["cells"][0]["source"] = "import pandas  # ü"
    there["cells"][2]["source"] = "plot(rows)"
    three = [json.dumps(one).encode() for one in (old, here, there)]
    programs = Programs(tmp_path / "merging", os.environ)
    found = programs.merge(Method.NOTEBOOK, *three)
    assert found is not None and found.startswith(b'{\n "cells": [\n  {\n') and found.endswith(b"\n}\n")
    assert "ü" in found.decode()
    assert sources(json.loads(found)) == ["import pandas  # ü", "train(seed)", "plot(rows)"]


@pytest.mark.parametrize("spoiled", [b"{", b"[]", b'{"nbformat": 3}', b'{"nbformat": 4, "cells": [1]}'])
def test_what_is_no_notebook_has_no_result(tmp_path: Path, spoiled: bytes) -> None:
    whole = json.dumps(base()).encode()
    programs = Programs(tmp_path / "merging", os.environ)
    assert programs.merge(Method.NOTEBOOK, whole, spoiled, whole + b"\n") is None
