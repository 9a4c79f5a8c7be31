"""JupyterLab on a machine, from the command to the browser: a real server, a real sshd, a real Chromium."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as NotShown

from tests.fakes.sshd import Sshd, free_port
from tests.fakes.terminal import Terminal
from tests.fakes.wan import Wan
from tests.system.browser import browsing
from tests.system.config import config_for
from tests.system.conftest import there
from tests.system.project import Project, wait_for
from tests.system.test_jobs import sessions

BIN = Path(sys.executable).parent
SAVED_WITHIN = 2.0
PATIENCE = 60.0


def installed(sshd: Sshd) -> None:
    """The login finds the Jupyter that the tests were installed with."""
    (sshd.home / ".profile").write_text(f'PATH="{BIN}:$PATH"\n')


def ask(url: str, path: str, body: object = None) -> Any:
    """The server's answer, by the token of the printed URL."""
    base, _, token = url.partition("/lab?token=")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/api/{path}", data, {"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


def jupyter(project: Project, *words: str) -> Any:
    return json.loads(project.devsync("jupyter", *words, "--json").stdout)


def kernel_states(project: Project) -> list[str]:
    return [kernel["state"] for kernel in jupyter(project, "--kernel-list")]


def words_of_processes() -> str:
    """What everybody can read of everybody's command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue  # no process, or ended meanwhile
    return "\n".join(found)


def test_it_is_started_once_found_again_and_ended(project: Project, sshd: Sshd) -> None:
    installed(sshd)
    done = project.devsync("jupyter", expect=3)
    assert "hint: devsync start" in done.stderr

    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        (project.root / "devsync.toml").write_text(config_for(sshd, remote=wanted))
        project.devsync("start")
        assert "no Jupyter server runs" in project.devsync("jupyter", "url", expect=1).stderr
        first = jupyter(project)
    assert first["started"]
    assert wanted < first["remote"] < wanted + 100, "the next port, since somebody has that one"
    url = first["url"]
    assert url.startswith(f"http://localhost:{first['local']}/lab?token=")
    tunnels = [(one["remote"], one["state"]) for one in project.status()["tunnels"]]
    assert tunnels == [(wanted, "open"), (first["remote"], "open")]
    assert ask(url, "contents")["path"] == "", "the way leads there"
    assert {one["name"] for one in ask(url, "contents")["content"]} >= {"devsync.toml"}

    token = url.partition("token=")[2]
    file = there(sshd) / ".devsync" / "jupyter" / "token"
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == (token, 0o600)
    assert token not in words_of_processes()
    written = [*sshd.home.glob("work/project/.devsync/jobs/*/*"), *project.state.glob("*/*.log")]
    assert written
    assert not [path for path in written if token.encode() in path.read_bytes()]
    assert project.status()["jobs"]["running"] == 0, "a server that waits is no work"

    kernel = ask(url, "kernels", {"name": "python3"})["id"]
    project.kill()
    for pid in sessions(sshd):
        os.kill(pid, signal.SIGKILL)
    project.devsync("start")
    again = jupyter(project)
    assert not again["started"]
    assert again["url"].partition("token=")[2] == token
    (row,) = jupyter(project, "--kernel-list")
    assert (row["id"], row["name"], row["notebook"]) == (kernel, "python3", None)
    assert row["memory"] > 10_000_000
    assert project.devsync("jupyter", "url").stdout.strip() == again["url"]

    assert jupyter(project, "stop") == {"stopped": True}
    assert jupyter(project, "stop") == {"stopped": False}
    assert kernel not in words_of_processes(), "its kernels have ended with it"


def test_where_there_is_none_it_can_be_installed(project: Project, sshd: Sshd) -> None:
    """Into a stand-in for a virtual environment, whose pip makes a link to the real one."""
    python = there(sshd) / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (sshd.home / ".profile").write_text("PATH=/usr/bin:/bin\n")
    link = f"ln -s {BIN}/jupyter-lab {python.parent}/jupyter-lab; echo Successfully installed"
    python.write_text(f'#!/bin/sh\ncase "$*" in *install*) {link} ;; esac\n')
    python.chmod(0o755)
    (project.root / ".gitignore").write_text(".venv/\n")
    project.devsync("start")
    refused = project.devsync("jupyter", expect=1)
    assert "there is no Jupyter" in refused.stderr
    assert "hint: devsync run -- sh -c '.venv/bin/python -m pip install jupyterlab'" in refused.stderr

    opened = project.home / "opened"
    browser = project.home / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" >{opened}.new; mv {opened}.new {opened}\n')
    browser.chmod(0o755)
    environ = {**project.environ, "BROWSER": str(browser)}
    words = [sys.executable, "-P", "-m", "devsync", "jupyter"]
    with Terminal(words, project.root, environ) as terminal:
        terminal.until("Run it now? [Y/n]")
        terminal.type("y\n")
        terminal.until("Successfully installed")
        terminal.until("/lab?token=")
        assert terminal.end() == 0
    wait_for("the browser was asked for", opened.exists)
    (page,) = project.state.glob("*/jupyter.html")
    assert opened.read_text().strip() == page.as_uri(), "no token on a command line"
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert jupyter(project, "url")["url"] in page.read_text()
    project.devsync("jupyter", "stop")


# ---------------------------------------------------------------- in the browser


@pytest.fixture
def far(tmp_path: Path, sshd: Sshd) -> Iterator[tuple[Project, Wan]]:
    """A project whose machine is behind a line that can be cut."""
    installed(sshd)
    with Wan(sshd.port) as wan:
        made = Project(tmp_path, config_for(sshd, port=wan.port, remote=free_port()))
        yield made, wan
        made.close()


def make_notebook(page: Page) -> None:
    """By the launcher. What is run before the page and the kernel know each other, JupyterLab may drop."""
    known = threading.Event()

    def hear(payload: bytes | str) -> None:
        if b"kernel_info_reply" in (payload if isinstance(payload, bytes) else payload.encode()):
            known.set()

    page.on("websocket", lambda sock: sock.on("framereceived", hear))
    page.locator('.jp-LauncherCard[data-category="Notebook"]').first.click()
    deadline = time.monotonic() + PATIENCE
    while not known.is_set():
        assert time.monotonic() < deadline, "no kernel came"
        page.wait_for_timeout(50)  # the driver hands over what was heard only while it is called
    page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').wait_for()


def run_cell(page: Page, code: str) -> None:
    """Write into the cell that is selected, and run it; the next one is then selected."""
    cell = page.locator(".jp-Notebook .jp-Cell.jp-mod-active .cm-content")
    cell.click()
    page.keyboard.insert_text(code)
    cell.filter(has_text=code.splitlines()[-1]).wait_for()
    page.keyboard.press("Shift+Enter")


def shows(page: Page, text: str) -> None:
    """Wait for a line of output."""
    page.locator(".jp-OutputArea-output", has_text=text).wait_for()


@pytest.mark.timeout(150)
def test_a_notebook_in_the_browser_outlives_a_cut(
    far: tuple[Project, Wan], tmp_path: Path, sshd: Sshd
) -> None:
    project, wan = far
    project.devsync("start")
    url = project.devsync("jupyter").stdout.strip()
    with browsing(tmp_path / "profile") as page:
        page.goto(url)
        make_notebook(page)
        run_cell(page, "x = 6 * 7; print('the answer is', x)")
        shows(page, "the answer is 42")
        save(page, project.root / "Untitled.ipynb", "the answer is 42")

        kernel = jupyter(project, "--kernel-list")[0]
        assert kernel["notebook"] == "Untitled.ipynb"
        wait = "import os, time\nprint('it runs')\nwhile not os.path.exists('go'): time.sleep(0.05)"
        run_cell(page, f"{wait}\nprint('and still', x + 1)")
        shows(page, "it runs")
        assert kernel_states(project) == ["busy"]
        with page.expect_console_message(lambda message: "reconnecting" in message.text):
            wan.cut()
        wait_for("the link is back", lambda: project.status()["connection"]["state"] == "connected", PATIENCE)
        (project.root / "go").touch()
        shows(page, "and still 43")
        run_cell(page, "print('the same', x, os.getpid())")
        shows(page, "the same 42")
        assert jupyter(project, "--kernel-list")[0]["id"] == kernel["id"]
        save(page, project.root / "Untitled.ipynb", "the same 42")
    project.devsync("jupyter", "stop")


def save(page: Page, file: Path, text: str) -> None:
    """Press Ctrl-S; what was shown is in the file here soon after."""
    page.keyboard.press("Control+s")
    rename = page.locator(".jp-Dialog .jp-mod-accept")  # asked at the first save, for a better name
    if not file.exists() or text not in file.read_text():
        try:
            rename.click(timeout=1000)
        except NotShown:
            pass  # not asked
    took = wait_for("the notebook is here", lambda: file.exists() and text in file.read_text())
    assert took < SAVED_WITHIN
