"""Where devsync's own files are: a folder for each project, closed to others, and a socket that fits."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from devsync.folders import SOCKET_LIMIT, expand, socket_path, state_dir, state_home
from devsync.ports import DevsyncError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_one_folder_for_each_project(tmp_path: Path) -> None:
    environ = {"DEVSYNC_STATE_DIR": str(tmp_path / "state")}
    one, other = tmp_path / "a/same name!", tmp_path / "b/same name!"
    one.mkdir(parents=True)
    other.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to(one)
    state = state_dir(one, environ)
    assert state.parent == tmp_path / "state"
    assert state.name.startswith("same-name-")
    assert state_dir(link, environ) == state
    assert state_dir(other, environ) != state
    assert mode(state) == 0o700


def test_any_name_is_made_readable(tmp_path: Path) -> None:
    for name in (b"\xff\xfe", b"..x..", b"--", "ä".encode(), b"n" * 200):
        root = tmp_path / os.fsdecode(name)
        state = state_dir(root, {"DEVSYNC_STATE_DIR": str(tmp_path / "state")})
        assert state.parent == tmp_path / "state"
        assert state.name.isascii()
        assert len(state.name) < 60


def test_a_loose_folder_is_closed(tmp_path: Path) -> None:
    environ = {"DEVSYNC_STATE_DIR": str(tmp_path)}
    state_dir(tmp_path, environ).chmod(0o777)
    assert mode(state_dir(tmp_path, environ)) == 0o700


def test_the_folder_that_was_named_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    state_dir(tmp_path, {"DEVSYNC_STATE_DIR": str(tmp_path)})
    assert mode(tmp_path) == 0o755


def test_a_planted_link_is_refused(tmp_path: Path) -> None:
    environ = {"DEVSYNC_STATE_DIR": str(tmp_path / "state")}
    state = state_dir(tmp_path, environ)
    state.rmdir()
    (tmp_path / "victim").mkdir()
    state.symlink_to(tmp_path / "victim")
    with pytest.raises(DevsyncError, match="not a folder of yours"):
        state_dir(tmp_path, environ)


def test_a_state_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DevsyncError, match="cannot use the state folder") as caught:
        state_dir(tmp_path, {"DEVSYNC_STATE_DIR": str(tmp_path / "file")})
    assert "DEVSYNC_STATE_DIR" in caught.value.hint


def test_the_usual_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert state_home({}).name == "devsync"


def test_a_short_path_is_used_as_it_is(tmp_path: Path) -> None:
    assert socket_path(Path("/s/p"), {}) == Path("/s/p/control.sock")


def test_a_long_path_leads_to_a_short_private_one(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 120)
    state.mkdir()
    runtime = tmp_path / "r"
    runtime.mkdir()
    environ = {"TMPDIR": str(runtime)}
    path = socket_path(state, environ)
    assert len(os.fsencode(path)) <= SOCKET_LIMIT
    assert mode(path.parent) == 0o700
    assert socket_path(state, environ) == path
    assert socket_path(state, {}) == path, "what another process's environment says does not matter"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fsencode(path))
    path.unlink()
    path.parent.rmdir()
    again = socket_path(state, environ)
    assert again.parent.is_dir()
    assert mode(again.parent) == 0o700
    again.parent.chmod(0o755)
    closed = socket_path(state, environ)
    assert closed != again, "a folder that others can enter is not used"
    for folder in (again.parent, closed.parent):
        folder.rmdir()


def test_paths_of_the_user(tmp_path: Path) -> None:
    environ = {"HOME": "/home/ada"}
    assert expand(Path("~/.ssh/key"), tmp_path, environ) == Path("/home/ada/.ssh/key")
    assert expand(Path("~"), tmp_path, environ) == Path("/home/ada")
    assert expand(Path("key"), tmp_path, environ) == tmp_path / "key"
    assert expand(Path("/key"), tmp_path, environ) == Path("/key")
