"""Jupyter on the machine: which server is ours, what its kernels take, where one could be started."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from devsync.core.jupyter import Kernel, Place, Server, kernels_from_json, server_from_json
from devsync.work import jupyter, jupyter_there
from tests.probe.machine import Machine

ROOT = "/home/ada/work/model"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "machine")
    monkeypatch.setattr(jupyter_there, "View", lambda: made)
    return made


def runs(machine: Machine, pid: int, **more: object) -> None:
    """A server that answers on its port."""
    told = {"pid": pid, "port": 8888, "hostname": "localhost", "token": "t0k3n", "root_dir": ROOT, **more}
    machine.write(f"home/.local/share/jupyter/runtime/jpserver-{pid}.json", json.dumps(told))
    machine.process(pid, "/opt/conda/bin/python /opt/conda/bin/jupyter-lab", name="jupyter-lab")
    machine.pages.setdefault("/api/kernels", (200, b"[]"))
    machine.processes.forget()


def found() -> Any:
    return jupyter_there.server(None, {"root": ROOT})


def test_the_one_that_shows_the_project_is_ours_whoever_started_it(machine: Machine) -> None:
    assert found() is None
    runs(machine, 7, root_dir="/home/ada", port=1)
    runs(machine, 8)
    machine.pages["/lab"] = (200, b"<html>")
    assert found() == {"pid": 8, "port": 8888, "token": "t0k3n", "page": "/lab"}
    assert {headers["Authorization"] for _, headers in machine.asked} == {"token t0k3n"}


@pytest.mark.parametrize(
    "told",
    [
        {"root_dir": ""},
        {"token": ""},
        {"secure": True},
        {"hostname": "10.0.0.4"},
        {"port": 0, "sock": "/run/jupyter.sock"},
    ],
    ids=["anywhere", "by password", "https", "another address", "a socket"],
)
def test_one_that_the_tunnel_cannot_reach_is_none(machine: Machine, told: dict[str, Any]) -> None:
    runs(machine, 8, **told)
    assert found() is None


@pytest.mark.parametrize("answer", [ConnectionRefusedError(), TimeoutError("timed out"), (403, b"{}")])
def test_one_that_does_not_answer_is_none(machine: Machine, answer: OSError | tuple[int, bytes]) -> None:
    machine.pages["/api/kernels"] = answer
    runs(machine, 8)
    assert found() is None


def test_the_classic_notebook_begins_elsewhere(machine: Machine) -> None:
    runs(machine, 8, base_url="/ada/", notebook_dir=ROOT, root_dir=None)
    machine.pages["/ada/api/kernels"] = (200, b"[]")
    machine.pages["/ada/lab"] = (404, b"")
    assert found()["page"] == "/ada/tree"


def test_what_kernels_do_and_take(machine: Machine) -> None:
    assert jupyter_there.kernels(None, {"root": ROOT}) is None
    runs(machine, 8)
    kernels = [
        {"id": "1a2b", "name": "python3", "execution_state": "busy"},
        {"id": "3c4d", "name": "ir", "execution_state": "idle"},
    ]
    session = {"type": "notebook", "path": "train.ipynb", "kernel": kernels[0]}
    console = {"type": "console", "path": "console-1", "kernel": kernels[1]}
    machine.pages["/api/kernels"] = (200, json.dumps(kernels).encode())
    machine.pages["/api/sessions"] = (200, json.dumps([session, console]).encode())
    machine.process(20, "python -m ipykernel_launcher -f /run/kernel-1a2b.json", parent=8)
    machine.process(21, "python -c worker", parent=20)
    machine.process(22, "python -c another", parent=1)
    for pid, pages in ((20, 100), (21, 30), (22, 5)):
        machine.write(f"proc/{pid}/statm", f"999 {pages} 1 1 0 1 0")
    page = os.sysconf("SC_PAGE_SIZE")
    assert kernels_from_json(jupyter_there.kernels(None, {"root": ROOT})) == [
        Kernel("1a2b", "python3", "busy", "train.ipynb", 130 * page),
        Kernel("3c4d", "ir", "idle", None, None),
    ]


def test_a_token_is_fresh_and_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        told = [jupyter_there.prepare(None, {"root": str(tmp_path), "port": 40000}) for _ in range(2)]
    finally:
        os.umask(before)
    path = Path(told[0]["token_file"])
    assert path == Path(told[1]["token_file"])
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]
    first = path.read_text()
    jupyter_there.prepare(None, {"root": str(tmp_path), "port": 40000})
    assert len(path.read_text()) == len(first) == 48
    assert path.read_text() != first
    assert [one.name for one in path.parent.iterdir()] == ["token"]


def test_a_taken_port_gives_the_next(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = jupyter_there.prepare(None, {"root": str(tmp_path), "port": port})
        assert port < told["port"] < port + jupyter_there.FURTHER


def test_a_port_that_another_has_for_ipv6_is_taken(tmp_path: Path) -> None:
    try:
        taken = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with taken:
        port = taken.getsockname()[1]
        assert jupyter_there.prepare(None, {"root": str(tmp_path), "port": port})["port"] > port


@pytest.mark.parametrize(
    "change",
    [
        {"port": 0},
        {"port": "8888"},
        {"pid": True},
        {"token": ""},
        {"token": "a&b"},
        {"page": "//evil.example/lab"},
        {"page": "lab"},
        {"page": "/lab?x=1"},
        {"page": '/"><script>'},
    ],
)
def test_a_link_leads_nowhere_else(change: dict[str, object]) -> None:
    honest = {"pid": 1, "port": 8888, "token": "abc", "page": "/lab"}
    assert server_from_json(honest) == Server(1, 8888, "abc", "/lab")
    assert "abc" not in repr(server_from_json(honest))
    with pytest.raises(ValueError, match=r"."):
        server_from_json({**honest, **change})


# ---------------------------------------------------------------- where one can be started


class World:
    """A project's folder there, and the programs that the login finds."""

    def __init__(self, folder: Path) -> None:
        self.project, self.path, self.home = folder / "my project", folder / "bin", folder / "home"
        for each in (self.project, self.path, self.home):
            each.mkdir()
        for tool in ("dirname", "cat"):
            (self.path / tool).symlink_to(f"/usr/bin/{tool}")

    def program(self, path: Path, script: str = "exit 0") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def find(self, **environ: str) -> Place:
        done = subprocess.run(
            ["/bin/sh", "-c", jupyter._FIND],
            cwd=self.project,
            env={"PATH": str(self.path), "HOME": str(self.home), **environ},
            capture_output=True,
            text=True,
            check=True,
        )
        return jupyter.place("noise of the login\n" + done.stdout)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_projects_own_comes_first(world: World) -> None:
    conda = world.program(world.home / "miniconda3/bin/jupyter-notebook")
    assert world.find() == Place((str(conda),))
    login = world.program(world.path / "jupyter-notebook")
    assert world.find() == Place((str(login),))
    lab = world.program(world.path / "jupyter-lab")
    assert world.find() == Place((str(lab),))
    own = world.program(world.project / ".venv/bin/jupyter-lab")
    assert world.find() == Place((str(own),))
    world.program(own, "exit 127")
    assert world.find() == Place((str(lab),)), "one that does not work is none"


def test_what_installs_it_depends_on_what_is_there(world: World) -> None:
    assert world.find() == Place()
    world.program(world.path / "conda")
    assert world.find().installs == ("conda create --yes --prefix .devsync/conda jupyterlab",)
    world.program(world.path / "python3")
    assert world.find().installs[0] == "python3 -m venv .devsync/venv"
    world.program(world.path / "uv")
    assert world.find().installs[0] == "uv venv .devsync/venv"
    world.program(world.path / "python")
    assert world.find(VIRTUAL_ENV=str(world.path)).installs == ("python -m pip install jupyterlab",)
    world.program(world.project / ".venv/bin/python", "exit 1")
    assert world.find().installs == ("uv pip install --python .venv/bin/python jupyterlab",)
    world.program(world.project / ".venv/bin/python")
    assert world.find().installs == (".venv/bin/python -m pip install jupyterlab",)
