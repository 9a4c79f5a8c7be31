"""What travels: old enough in style, complete, and brought to life through noisy shells."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from devsync.core.ignore import Rules
from devsync.ports import DevsyncError, Unavailable
from devsync.replica.digests import signature
from devsync.replica.luggage import SYNC, TRAVELLING, NoPython, command_line, luggage, start_helper
from devsync.replica.tree import Tree
from tests.fakes.process import LocalProcess


@pytest.mark.parametrize("name", TRAVELLING)
def test_what_travels_is_python_3_8_and_alone(name: str) -> None:
    path = import_module(name).__file__
    assert path is not None
    tree = ast.parse(Path(path).read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Match)
        if isinstance(node, ast.Import):
            known = {*sys.stdlib_module_names, "zstandard"}  # which is used where it happens to be
            assert all(alias.name in known for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module.startswith("devsync"):
                named = {module, *(f"{module}.{alias.name}" for alias in node.names)}
                assert named & set(TRAVELLING), f"{module} does not travel"
            else:
                assert module.split(".")[0] in sys.stdlib_module_names


def runs(python: str | None) -> bool:
    if python is None:
        return False
    return not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode


def old_python() -> str | None:
    """A Python 3.8 of this computer."""
    installed = map(str, Path("~/.pyenv/versions").expanduser().glob("3.8.*/bin/python"))
    return next(filter(runs, [shutil.which("python3.8"), *installed]), None)


def path_with(tmp_path: Path, python3: str | None) -> dict[str, str]:
    """An environment whose only python3 is a script of ours."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "env", "sed"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    if python3 is not None:
        (folder / "python3").write_text(f"#!/bin/sh\n{python3}\n")
        (folder / "python3").chmod(0o755)
    return {**os.environ, "PATH": str(folder), "HOME": str(tmp_path)}


def only_there(line: str) -> str:
    """The line without the places where this computer may have a Python."""
    return line.replace(" /usr/", " /none/").replace(" /opt/", " /none/").replace(" /anaconda/", " /none/")


def test_the_helper_comes_to_life_behind_a_noisy_login(tmp_path: Path) -> None:
    process = LocalProcess("printf 'Welcome!\\n%s\\n' 'devsync helper'; " + command_line())
    channel = start_helper(process)
    greeting = channel.call("hello", root=str(tmp_path))
    assert greeting["root"] == str(tmp_path.resolve())
    assert greeting["exists"] and greeting["euid"] == os.geteuid()
    channel.close()
    channel.close()


@pytest.mark.skipif(old_python() is None, reason="no Python 3.8 on this computer")
def test_python_3_8_runs_it(tmp_path: Path) -> None:
    env = path_with(tmp_path, f'exec {old_python()} "$@"')
    process = LocalProcess(only_there(command_line()), env)
    channel = start_helper(process)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/f").write_bytes(b"content")
    greeting = channel.call("hello", root="~/project")
    assert greeting["python"][:2] == [3, 8]
    rules: dict[str, list[object]] = {"git": [], "own": [], "tracked": [], "repositories": [], "nested": []}
    channel.call("rules", rules=rules)
    found = channel.call("scan", scope=None, sums=[""])
    assert [path for path, _ in found["leaves"]] == ["f"]
    leaf = found["leaves"][0][1]
    assert channel.call("commit", changes=[["f", leaf, None, False]], before=0, more=False) == [True]
    assert len(channel.call("versions")) == 1
    channel.close()


@pytest.mark.parametrize(
    ("python3", "says"),
    [
        (None, "no Python 3"),
        ("exit 96", "older than 3.8"),
        ("echo broken >&2; exit 3", "status 3.*broken"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, python3: str | None, says: str) -> None:
    process = LocalProcess(only_there(command_line()), path_with(tmp_path, python3))
    with pytest.raises(DevsyncError, match=says) as told:
        start_helper(process)
    assert isinstance(told.value, NoPython) == ("broken" not in says)


def test_the_helper_ends_with_its_input(tmp_path: Path) -> None:
    process = LocalProcess(command_line())
    channel = start_helper(process)
    channel.call("hello", root=str(tmp_path))
    process.shutdown_write()
    assert process.wait() == 0
    with pytest.raises(Unavailable):
        channel.receive()
    channel.close()


def test_the_line_is_fit_for_any_shell() -> None:
    line = command_line()
    assert line.count("'") == 2 and "\\" not in line and "!" not in line and "\n" not in line
    assert len(luggage()) < 64 * 1024
    assert SYNC not in luggage()


def test_a_verb_can_be_added(tmp_path: Path) -> None:
    process = LocalProcess(command_line())
    channel = start_helper(process, (("tests.replica.probe", ()),))
    assert channel.call("double", number=21) == 42
    channel.close()


def test_the_next_helper_need_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"content")
    tree = Tree(str(tmp_path))
    (leaf,) = tree.scan(Rules()).leaves.values()
    assert tree.digests.known == {}, "too young to be trusted"
    monkeypatch.setattr("devsync.replica.digests.RACY", 0)
    assert tree.scan(Rules()).leaves == {"f": leaf}
    tree.keep_digests()
    other = Tree(str(tmp_path))
    other.recall_digests()
    assert other.digests.known == {"f": ("f", leaf, *signature((tmp_path / "f").stat())[1:])}
    (tmp_path / "f").write_bytes(b"CONTENT")
    assert other.scan(Rules()).leaves != {"f": leaf}
    (tmp_path / ".devsync/digests").write_bytes(b"torn")
    other.recall_digests()
    assert other.digests.known == {}
