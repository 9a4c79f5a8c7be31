"""Notebooks that are executed on the machine, against a real sshd, the real nbclient and a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.notebooks import cells_of, printed, write_notebook
from tests.fakes.sshd import Sshd
from tests.system.conftest import config_for
from tests.system.project import Project, wait_for

SETUP = f"""
[run]
setup = 'PATH="{Path(sys.executable).parent}:$PATH"'
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("notebook")
    sshd = Sshd(folder / "machine")
    sshd.start()
    project = Project(folder, config_for(sshd, further=SETUP))
    project.devsync("start")
    yield project
    project.close()
    sshd.stop()


def test_it_is_executed_there_with_parameters_and_is_here_when_it_returns(started: Project) -> None:
    path = started.root / "train.ipynb"
    train = "open('result.txt', 'w').write(f'{epochs} of {name}')\nprint('trained', epochs)"
    write_notebook(path, "import os", ("parameters", "epochs, name = 1, 'none'"), train, minor=4)
    done = started.devsync("notebook", "run", "train.ipynb", "--param", "epochs=7", "--param", "name=a b")
    assert (started.root / "result.txt").read_text() == "7 of a b"
    cells = cells_of(path)
    assert cells[2]["source"] == "# Parameters\nepochs = 7\nname = 'a b'", "behind the tagged cell"
    assert printed(cells[3]) == "trained 7\n" and cells[3]["execution_count"] == 4
    lines = done.stderr.splitlines()
    assert [line.rsplit("  ", 1)[0] for line in lines[:4]] == [
        "[1/4] import os",
        "[2/4] epochs, name = 1, 'none'",
        "[3/4] # Parameters",
        "[4/4] open('result.txt', 'w').write(f'{epochs} of {name}')",
    ]
    assert lines[4].startswith("train.ipynb: 4 cells in ")
    (row,) = (row for row in json.loads(started.devsync("jobs", "--json").stdout) if row["name"] == "train")
    assert row["command"][:4] == ["devsync", "notebook", "run", "train.ipynb"] and row["status"] == 0


def test_one_that_fails_is_kept_and_other_output_leaves_it_alone(started: Project) -> None:
    path = started.root / "bad.ipynb"
    write_notebook(path, "print('fine')", "def f():\n    return 1 / 0\nf()", "print('never')")
    before = path.read_bytes()
    command = [
        sys.executable,
        "-P",
        "-m",
        "devsync",
        "notebook",
        "run",
        "bad.ipynb",
        "--output",
        "out/bad.ipynb",
    ]
    run = subprocess.run(
        command,
        cwd=started.root,
        env=started.environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    told = run.stderr
    assert run.returncode == 1, told
    assert "[2/3] def f():  stopped after" in told
    assert "ZeroDivisionError                         Traceback" in told
    assert "cell 2 of 3 failed: ZeroDivisionError: division by zero" in told
    assert "\x1b" not in told, "nobody looks at colours"
    assert path.read_bytes() == before
    cells = cells_of(started.root / "out" / "bad.ipynb")
    assert [printed(cell) for cell in cells] == ["fine\n", "", ""]
    assert cells[1]["outputs"][0]["ename"] == "ZeroDivisionError"


def test_a_cell_may_take_only_so_long(started: Project) -> None:
    path = started.root / "slow.ipynb"
    write_notebook(path, "print('up')", "import time\ntime.sleep(600)")
    done = started.devsync("notebook", "run", "slow.ipynb", "--timeout", "1s", expect=1)
    assert "cell 2 of 2 took longer than 1 s; the notebook up to there is in slow.ipynb" in done.stderr
    assert printed(cells_of(path)[0]) == "up\n", "what there is has come back"


def test_a_detached_one_goes_on_alone(started: Project) -> None:
    path = started.root / "long.ipynb"
    write_notebook(
        path, "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.02)", "print('went')"
    )
    identity = started.devsync("notebook", "run", "long.ipynb", "--detach").stdout.strip()
    (started.root / "go").touch()
    done = started.devsync("attach", "long")
    assert "[1/2] import os, time  " in done.stdout and "long.ipynb: 2 cells in" in done.stdout
    wait_for("it is here", lambda: printed(cells_of(path)[1]) == "went\n")
    assert json.loads(started.devsync("logs", identity, "--json").stdout)["status"] == 0


def test_bad_input_is_one_clear_message(started: Project) -> None:
    (started.root / "text.ipynb").write_text("no JSON at all")
    write_notebook(started.root / "fine.ipynb", "1 + 1 + 1")
    (started.root / ".gitignore").write_text("ignored.ipynb\n")
    write_notebook(started.root / "ignored.ipynb", "1 + 1")
    write_notebook(started.root.parent / "outside.ipynb", "1")
    for words, message in {
        ("none.ipynb",): "there is no notebook none.ipynb",
        ("text.ipynb",): "text.ipynb is no notebook: line 1 is no JSON",
        (
            "fine.ipynb",
            "--kernel",
            "nope",
        ): "there is no kernel 'nope' on the machine\n\nhint: --kernel takes another",
        ("fine.ipynb", "--param", "x"): "this sets no parameter: 'x'",
        ("ignored.ipynb",): "there is no ignored.ipynb on the machine",
        (os.path.join(os.pardir, "outside.ipynb"),): "is not in the project",
    }.items():
        done = started.devsync("notebook", "run", *words, expect=125)
        assert message in done.stderr and done.stderr.count("devsync:") == 1, done.stderr
    assert "outputs" in (started.root / "fine.ipynb").read_text()
