"""Real work on a machine, seen through a real SSH server: a core that burns, a shell, a kernel, a device.

What else runs on the computer of the tests is somebody's work too: no case says that the processors rest.
"""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.sshd import Sshd
from tests.system.project import Project, wait_for

SETTINGS = """
[idle]
after = "30s"
check = "200ms"
"""
BURN = "import sys\nwhile True:\n    pass\n"
NVIDIA = """\
#!/bin/sh
case "$*" in
*query-gpu*) cat "$HOME/devices" ;;
*) echo "4711, /usr/bin/python3, 9000" ;;
esac
"""


@pytest.fixture
def prepared(project: Project, sshd: Sshd) -> Iterator[Project]:
    """A project that looks often; a machine with a device that rests."""
    config = project.root / "devsync.toml"
    config.write_text(config.read_text() + SETTINGS)
    bin_folder = sshd.home / "bin"
    bin_folder.mkdir()
    (bin_folder / "nvidia-smi").write_text(NVIDIA)
    (bin_folder / "nvidia-smi").chmod(0o755)
    (sshd.home / "devices").write_text("0, 64, 9000\n1, [N/A], 0\n")
    (sshd.home / ".bashrc").write_text('cd "$HOME"; export PATH="$HOME/bin:$PATH"\n')
    yield project


def signals(project: Project) -> dict[str, dict[str, Any]]:
    shown = json.loads(project.devsync("idle", "--json").stdout)
    return {signal["name"]: signal for signal in shown["signals"]}


def await_signal(project: Project, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def looked() -> bool:
        found.update(signals(project).get(name, {}))  # there are none before the first verdict
        return bool(found) and condition(found)

    try:
        wait_for(f"{name} is seen", looked, pause=0.3)
    except AssertionError:
        raise AssertionError(f"{name} is {found}") from None
    return found


def test_what_works_on_the_machine_is_seen(prepared: Project, sshd: Sshd) -> None:
    """One core burns, one terminal is typed in, one device computes: each is named."""
    script = sshd.home / "burn.py"
    script.write_text(BURN)
    ours, theirs = pty.openpty()
    burning = subprocess.Popen([sys.executable, str(script)])
    shell = subprocess.Popen(
        ["sh", "-c", "while read line; do :; done"], stdin=theirs, stdout=theirs, start_new_session=True,
        preexec_fn=lambda: _take(theirs),
    )  # fmt: skip
    try:
        os.write(ours, b"echo\n")
        prepared.devsync("start")
        await_signal(prepared, "cpu", lambda one: one["busy"] and not one["error"])
        session = await_signal(prepared, "sessions", lambda one: not one["error"])
        assert session["busy"], session
        device = await_signal(prepared, "gpu", lambda one: not one["error"])
        assert (device["busy"], device["value"]) == (True, "64 %")
        found = signals(prepared)
        assert set(found) >= {
            *("local-edits", "remote-edits", "jobs", "sessions", "jupyter-kernels"),
            *("cpu", "gpu", "containers", "network", "keepalive"),
        }
        assert found["jupyter-kernels"]["value"] == "no server"
        assert prepared.devsync("idle").stdout.startswith("busy: ")
    finally:
        for process in (burning, shell):
            process.kill()
            process.wait()
        os.close(ours)
        os.close(theirs)


def _take(terminal: int) -> None:
    """Make it the controlling terminal of this new session, as a login does."""
    import fcntl
    import termios

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _listens(file: Path) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", json.loads(file.read_text())["port"]), timeout=1):
            return True
    except (OSError, ValueError):
        return False


@pytest.fixture
def jupyter(sshd: Sshd, tmp_path: Path) -> Iterator[str]:
    """A real Jupyter server of the machine's user; its address with a slash at the end."""
    pytest.importorskip("jupyter_server")
    environ = {"PATH": os.environ["PATH"], "HOME": str(sshd.home)}
    words = ["--no-browser", "--port=0", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=t0k3n"]
    root = [f"--ServerApp.root_dir={sshd.home}", "--allow-root"]
    with (tmp_path / "jupyter.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", *words, *root], env=environ, stdout=log, stderr=log
        )
    try:
        runtime = sshd.home / ".local/share/jupyter/runtime"
        wait_for("Jupyter is there", lambda: bool([*runtime.glob("jpserver-*.json")]))
        (file,) = runtime.glob("jpserver-*.json")
        wait_for("it listens", lambda: _listens(file))
        yield json.loads(file.read_text())["url"]
    finally:
        server.terminate()
        server.wait(20)


def test_a_kernel_that_computes_in_silence_and_one_that_waits(
    prepared: Project, sshd: Sshd, jupyter: str
) -> None:
    from urllib.request import Request, urlopen

    def ask(path: str, body: object) -> Any:
        headers = {"Authorization": "token t0k3n", "Content-Type": "application/json"}
        request = Request(f"{jupyter}api/{path}", json.dumps(body).encode(), headers)
        with urlopen(request, timeout=20) as answer:
            return json.load(answer)

    kernel = {"name": "python3"}
    session = ask("sessions", {"path": "train.ipynb", "name": "", "type": "notebook", "kernel": kernel})
    prepared.devsync("start")
    waiting = await_signal(
        prepared, "jupyter-kernels", lambda one: one["value"] == "0 busy of 1 kernel: train.ipynb"
    )
    assert not waiting["error"]
    subprocess.run([sys.executable, "-c", COMPUTE, jupyter, session["kernel"]["id"]], timeout=30, check=True)
    await_signal(prepared, "jupyter-kernels", lambda one: one["value"] == "1 busy kernel: train.ipynb")
    assert "kernel train.ipynb has run for" in prepared.devsync("idle").stdout


COMPUTE = """
import asyncio, json, sys
from tornado.websocket import websocket_connect

async def main():
    url = sys.argv[1].replace("http", "ws", 1) + f"api/kernels/{sys.argv[2]}/channels?token=t0k3n"
    socket = await websocket_connect(url)
    content = {"code": "while True: pass", "silent": False}
    header = {"msg_id": "1", "msg_type": "execute_request", "session": "s", "username": "", "version": "5.3"}
    await socket.write_message(json.dumps(
        {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    ))
    while "execute_input" not in str(await socket.read_message()):
        pass
    socket.close()

asyncio.run(main())
"""
