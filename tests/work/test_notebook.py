"""The program that executes notebooks, by the real nbclient and a real kernel, without a connection."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from devsync.ports import DevsyncError, Misuse
from devsync.work import notebook_there
from devsync.work.notebook import Wishes, check, parameters, seconds, words
from tests.fakes.notebooks import cells_of, printed, write_notebook


def environ(folder: Path) -> dict[str, str]:
    """A home of its own, and the Jupyter that the tests run under."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON"))}
    return {
        **kept,
        "HOME": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def begin(folder: Path, command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environ(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def execute(folder: Path, wishes: Wishes, program: list[str] | None = None) -> tuple[int, str]:
    """The exit status, and what people are told."""
    with begin(folder, program or words(wishes)) as process:
        out, told = process.communicate(timeout=50)
    assert out == ""
    return process.returncode, told


def test_the_projects_modules_mislead_nobody_and_a_changed_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "nbformat.py").write_text("raise SystemExit('the wrong one, too')\n")
    (tmp_path / "deep").mkdir()
    here = tmp_path / "deep" / "own.ipynb"
    edit = "text = open('own.ipynb').read()\nopen('own.ipynb', 'w').write(text + ' ')"
    write_notebook(here, edit, "import os\nprint(os.getcwd())", minor=4)
    before = here.read_text()
    status, told = execute(tmp_path, Wishes("deep/own.ipynb", parameters(["name=it's"])))
    assert status == 0, told
    assert here.read_text() == before + " ", "somebody's edit"
    assert "was changed meanwhile" in told and "deep/own.executed.ipynb: 3 cells in" in told
    cells = cells_of(tmp_path / "deep" / "own.executed.ipynb")
    assert cells[0]["source"] == '# Parameters\nname = "it\'s"', "on top, where no cell is tagged"
    assert not any("id" in cell for cell in cells), "such as the format had none then"
    assert printed(cells[2]) == f"{here.parent}\n"


def test_one_that_is_stopped_keeps_what_there_is(tmp_path: Path) -> None:
    write_notebook(tmp_path / "n.ipynb", "print('kept')", "import time\ntime.sleep(600)", "print('never')")
    with begin(tmp_path, words(Wishes("n.ipynb", {}))) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("[1/3] print('kept')  ")
        process.stderr.read(len("[2/3] import time"))
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert process.returncode == 128 + signal.SIGINT
    assert "cell 2 of 3 was interrupted; the notebook up to there is in n.ipynb" in told
    assert [printed(cell) for cell in cells_of(tmp_path / "n.ipynb")] == ["kept\n", "", ""]


def test_a_kernel_that_dies_is_told(tmp_path: Path) -> None:
    write_notebook(tmp_path / "n.ipynb", "print('first', flush=True)", "import os\nos._exit(1)")
    status, told = execute(tmp_path, Wishes("n.ipynb", {}))
    assert (status, "lost its kernel" in told) == (1, True), told
    assert printed(cells_of(tmp_path / "n.ipynb")[0]) == "first\n"


def test_nbconvert_does_it_where_there_is_no_nbclient(tmp_path: Path) -> None:
    write_notebook(tmp_path / "n.ipynb", "print('by the other')", "1 / 0", "print('never')")
    blind = (
        "import devsync.work.notebook_there as there\n"
        "there.importlib.util.find_spec = lambda name: None\n"
        "wishes = {'file': 'n.ipynb', 'output': None, 'parameters': {}, 'timeout': None, 'kernel': None,"
        " 'colours': False}\n"
        "raise SystemExit(there.main(wishes))\n"
    )
    status, told = execute(tmp_path, Wishes("n.ipynb", {}), [sys.executable, "-c", blind])
    assert status == 1 and "cell 2 of 3 failed: ZeroDivisionError: division by zero" in told
    assert [printed(cell) for cell in cells_of(tmp_path / "n.ipynb")] == ["by the other\n", "", ""]


def test_a_kernel_that_does_not_start_says_why_and_nothing_is_touched(tmp_path: Path) -> None:
    kernel = tmp_path / ".local" / "share" / "jupyter" / "kernels" / "broken"
    kernel.mkdir(parents=True)
    argv = f'["{sys.executable}", "-c", "import no_such_module"]'
    (kernel / "kernel.json").write_text(f'{{"argv": {argv}, "display_name": "b", "language": "python"}}')
    write_notebook(tmp_path / "n.ipynb", "1")
    before = (tmp_path / "n.ipynb").read_bytes()
    status, told = execute(tmp_path, Wishes("n.ipynb", {}, kernel="broken"))
    assert status == 125 and "does not start: ModuleNotFoundError: No module named 'no_such_module'" in told
    assert (tmp_path / "n.ipynb").read_bytes() == before


def test_where_no_jupyter_is_one_message_says_so(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    bare = tools / "python3"  # the standard library alone
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    (tools / "sed").symlink_to(shutil.which("sed") or "sed")
    done = subprocess.run(
        ["/bin/sh", *words(Wishes("n.ipynb", {}))[1:]],
        cwd=tmp_path,
        env={"PATH": str(tools), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr.startswith("devsync: no Jupyter is found on the machine")
    assert "\n\nhint: devsync run -- python3 -m pip install nbclient ipykernel" in done.stderr


def test_a_long_run_is_saved_meanwhile_and_parameters_replace_those_of_last_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "n.ipynb"
    write_notebook(path, ("parameters", "a = 1"), "print(a)")
    path.chmod(0o640)
    for value in ("22", "333"):
        document = notebook_there.Document("n.ipynb", "n.ipynb")
        document.inject({"a": value})
        before = path.read_bytes()
        document.save_now_and_then()
        assert path.read_bytes() == before, "not yet"
        monkeypatch.setattr(notebook_there, "SAVE_EVERY", 0.0)
        document.save_now_and_then()
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        sources = [cell["source"] for cell in cells_of(path)]
        assert sources == ["a = 1", f"# Parameters\na = {value}", "print(a)"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert not any((tmp_path / ".devsync").iterdir())


def test_parameters_are_what_they_are_in_python() -> None:
    given = [
        "a=3",
        "b=1e-3",
        "c=True",
        "d=[1, 'x']",
        "e=text",
        "f=",
        "g='3'",
        "h=2024-10-10",
        "i=0xfor",
        "j=a=b",
    ]
    found = {name: eval(source) for name, source in parameters(given).items()}
    assert found == {
        **{"a": 3, "b": 0.001, "c": True, "d": [1, "x"], "e": "text", "f": "", "g": "3"},
        **{"h": "2024-10-10", "i": "0xfor", "j": "a=b"},
    }
    assert eval(parameters(["k=\udcff\n"])["k"]) == "\udcff\n"
    for wrong in ("epochs", "=3", "a b=1", "class=2", "1a=2", "x;y=1"):
        with pytest.raises(Misuse, match="sets no parameter"):
            parameters([wrong])


def test_a_time_out_is_whole_seconds() -> None:
    assert [seconds(one) for one in (None, 0.2, 1.0, 90.5)] == [None, 1, 1, 91]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"cells": [\n}', "is no notebook: line 2 is no JSON"),
        (b"[1, 2]", "some other JSON"),
        (b'{"a": 1}', "some other JSON"),
        (b"", "line 1 is no JSON"),
        (b'"\xff"', "not UTF-8"),
    ],
)
def test_what_is_no_notebook_is_said_before_anything_runs(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "n.ipynb").write_bytes(content)
    with pytest.raises(DevsyncError, match=why):
        check(tmp_path / "n.ipynb")


def test_a_cells_first_line_is_short_and_harmless() -> None:
    assert notebook_there.first_line("\n\n  x = 1  \ny = 2") == "x = 1"
    assert notebook_there.first_line("print('\x1b[2J')") == "print('?[2J')"
    assert len(notebook_there.first_line("y" * 500)) == notebook_there.WIDTH
