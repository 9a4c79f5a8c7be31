"""demo: the whole job against an embedded machine, each step verified."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from devsync.cli import output
from devsync.ports import DevsyncError

PATIENCE = 20.0
"""Seconds that any one step may take."""

CONFIG = """\
[machine]
provider = "local"

[sync]
path = "~/work/demo"

[[tunnel]]
local = 0
remote = {port}

[run]
setup = {setup}

[idle]
after = "2s"
warn = "1s"
check = "250ms"
"""

TRAIN = """\
import json, pathlib, platform
from model import SCORE
pathlib.Path("result.json").write_text(json.dumps({"score": SCORE, "on": platform.node()}))
print("trained: score", SCORE)
"""

CELLS = ("from model import SCORE", "print('reported: score', SCORE)")
"""Those of the notebook."""

KERNEL = ("nbclient", "ipykernel")
"""What executes a notebook: the extra `demo`."""


@click.command()
def demo() -> None:
    """Show the whole job against an embedded machine; no account needed."""
    with tempfile.TemporaryDirectory(prefix="devsync-demo-") as folder:
        stage = _Stage(Path(folder))
        try:
            for number, step in enumerate(stage.steps(), 1):
                said = step.__doc__ or ""
                output.data(f"{number}. {said.strip()}")
                output.data(f"   {step()}")
        except DevsyncError as error:
            stage.tell_more()
            raise DevsyncError(f"this step of the demo failed: {error.message}", hint=error.hint) from error
        finally:
            stage.clean_up()
    output.data("Every step was verified, and nothing is left behind.")
    output.data("Next: devsync init, in a project of your own.")


class _Stage:
    """The project, its machine, and what was seen of them."""

    def __init__(self, folder: Path) -> None:
        self._project = folder / "demo"
        self._state = folder / "state"
        # The demo must neither see nor touch what its user has set up.
        self._environ = {
            **os.environ,
            "DEVSYNC_STATE_DIR": str(self._state),
            "XDG_CONFIG_HOME": str(folder / "etc"),
        }
        self._port = _free_port()

    def steps(self) -> list[Callable[[], str]]:
        return [
            self.make_project,
            self.start,
            self.compare,
            self.save,
            self.run,
            self.job,
            self.notebook,
            self.page,
            self.idle,
            self.stop,
        ]

    # ------------------------------------------------------------ the steps

    def make_project(self) -> str:
        """A small git project: code, a page, and a data folder that git ignores."""
        files = {
            ".gitignore": "data/\n",
            "model.py": "SCORE = 1\n",
            "train.py": TRAIN,
            "page.html": "<h1>served by the machine</h1>\n",
            "data/huge.bin": "never leaves this computer\n",
            "devsync.toml": CONFIG.format(port=self._port, setup=json.dumps(_setup())),
        }
        for name, text in files.items():
            path = self._project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if shutil.which("git") is None:
            raise DevsyncError("git is not installed", hint="install git")
        self._execute(["git", "init", "--quiet", "."])
        return f"{len(files)} files in {self._project}"

    def start(self) -> str:
        """devsync start: the machine starts, the project is mirrored, the tunnel opens."""
        began = time.monotonic()
        self._devsync("start")
        # Without this the machine would be deallocated while you read: it is idle after 2 s here.
        self._devsync("keepalive", "5m")
        return f"ready after {time.monotonic() - began:.1f} s"

    def compare(self) -> str:
        """The machine has what git lists, and nothing else."""
        listed = self._execute(["git", "ls-files", "-co", "--exclude-standard", "-z"]).split("\0")
        wanted = sorted(name for name in listed if name)
        found = sorted(
            str(path.relative_to(self._there))
            for path in self._there.rglob("*")
            if path.is_file() and ".devsync" not in path.relative_to(self._there).parts
        )
        _verify(found == wanted, f"the machine has {found}, git lists {wanted}")
        _verify(not (self._there / "data").exists(), "an ignored folder was mirrored")
        return f"{len(found)} files there; data/ stayed here"

    def save(self) -> str:
        """You edit a file here; it arrives there."""
        took = []
        for version in range(2, 12):
            text = f"SCORE = {version}\n"
            began = time.monotonic()
            (self._project / "model.py").write_text(text)
            _wait("the edit did not arrive", partial(_holds, self._there / "model.py", text), pause=0.001)
            took.append(time.monotonic() - began)
        median, worst = sorted(took)[5] * 1000, max(took) * 1000
        return f"10 saves: each was there after {median:.0f} ms (median), {worst:.0f} ms at worst"

    def run(self) -> str:
        """devsync run -- python3 train.py: runs there, and its result is here when it returns."""
        said = self._devsync("run", "--", "python3", "train.py").strip()
        result = json.loads((self._project / "result.json").read_text())
        _verify(result["score"] == 11, f"it ran an old version of the code: {result}")
        return f'it said "{said}", and result.json is here'

    def job(self) -> str:
        """devsync run --detach: a job that would go on without you; you follow it, and its result comes."""
        script = "for n in 1 2 3; do echo epoch $n; sleep 0.2; done; echo trained >model.bin"
        job = self._devsync("run", "--detach", "--name", "train", "--", "sh", "-c", script).strip()
        said = self._devsync("attach", "train").split("\n")
        _verify(said[:3] == ["epoch 1", "epoch 2", "epoch 3"], f"it said {said}")
        _wait("its result did not arrive", (self._project / "model.bin").exists)
        state = next(row for row in json.loads(self._devsync("jobs", "--json")) if row["id"] == job)
        _verify(state["status"] == 0, f"it ended so: {state}")
        return f"job {job} said {len(said) - 1} lines and ended with status 0; model.bin is here"

    def notebook(self) -> str:
        """devsync notebook run report.ipynb: executed there, and its outputs are here when it returns."""
        missing = [name for name in KERNEL if find_spec(name) is None]
        if missing:
            return f"left out: {' and '.join(missing)} not installed here (pip install 'devsync[demo]')"
        path = self._project / "report.ipynb"
        path.write_text(json.dumps(_notebook(CELLS)))
        self._devsync("notebook", "run", path.name)
        cells = json.loads(path.read_text())["cells"]
        said = "".join("".join(each.get("text", "")) for cell in cells for each in cell["outputs"]).strip()
        _verify(said == "reported: score 11", f"its outputs are {said!r}")
        return f'{len(cells)} cells were executed; "{said}" is in the notebook here'

    def page(self) -> str:
        """A web server on the machine, as Jupyter would be; you open it here, through the tunnel."""
        serve = f"setsid python3 -m http.server --bind 127.0.0.1 {self._port} >/dev/null 2>&1 </dev/null &"
        self._devsync("run", "--no-pull", "--", "sh", "-c", serve)
        port = self._status()["tunnels"][0]["local"]
        url = f"http://127.0.0.1:{port}/page.html"

        def opens() -> bool:
            try:
                with urllib.request.urlopen(url, timeout=5) as page:
                    return b"served by the machine" in page.read()
            except OSError:
                return False  # the server is not up yet

        _wait("the page could not be opened through the tunnel", opens)
        return f"opened {url}"

    def idle(self) -> str:
        """Nobody works any more: devsync warns, waits, and deallocates the machine."""
        self._devsync("keepalive", "--clear")
        began = time.monotonic()
        _wait("the machine was not deallocated", lambda: self._power() == "deallocated")
        return f"deallocated {time.monotonic() - began:.1f} s after the last sign of work; its bill has ended"

    def stop(self) -> str:
        """devsync stop: the daemon ends."""
        self._devsync("stop")
        _verify(self._devsync("status", expect=3).strip().endswith("stopped"), "it still runs")
        return "stopped"

    # ------------------------------------------------------------ helpers of the steps

    @property
    def _there(self) -> Path:
        machines = list(self._state.glob("*/machine/home"))
        _verify(len(machines) == 1, "the embedded machine has no home")
        return machines[0] / "work" / "demo"

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self._devsync("status", "--json"))
        return status

    def _power(self) -> str:
        return str(self._status()["machine"]["state"])

    def _devsync(self, *words: str, expect: int = 0) -> str:
        return self._execute([sys.executable, "-P", "-m", "devsync", *words], expect)

    def _execute(self, words: list[str], expect: int = 0) -> str:
        try:
            done = subprocess.run(
                words,
                cwd=self._project,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DevsyncError(f"{' '.join(words)} did not end within {PATIENCE:.0f} s") from None
        if done.returncode != expect:
            said = (done.stderr or done.stdout).strip()
            raise DevsyncError(f"{' '.join(words)} ended with {done.returncode}: {said}")
        return done.stdout

    def tell_more(self) -> None:
        """The end of the daemon's log, for whoever looks into a failure."""
        for log in self._state.glob("*/daemon.log"):
            for line in log.read_text(errors="replace").splitlines()[-15:]:
                output.note(f"   log: {line}")

    def clean_up(self) -> None:
        """End what may still run, however the demo ended."""
        with _undisturbed():
            if (self._project / "devsync.toml").exists():
                for words in (["stop", "--timeout", "5s"], ["vm", "deallocate"]):
                    subprocess.run(
                        [sys.executable, "-P", "-m", "devsync", *words],
                        cwd=self._project,
                        env=self._environ,
                        stdin=subprocess.DEVNULL,
                        capture_output=True,
                        timeout=PATIENCE,
                        check=False,
                    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _setup() -> str:
    """What each command on the machine begins with: its `python3` is the one that runs the demo."""
    # A login shell may set PATH anew, and another Python there need not have what executes a notebook.
    return f"PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH"


def _notebook(sources: Iterable[str]) -> dict[str, Any]:
    """A notebook of code cells that nobody has executed yet, as Jupyter stores it."""
    cell: dict[str, Any] = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    kernel = {"name": "python3", "display_name": "Python 3"}
    return {
        "nbformat": 4,
        "nbformat_minor": 4,
        "metadata": {"kernelspec": kernel},
        "cells": [{**cell, "source": source} for source in sources],
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _holds(path: Path, text: str) -> bool:
    return path.read_text() == text


def _verify(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DevsyncError(otherwise)


def _wait(otherwise: str, condition: Callable[[], bool], pause: float = 0.05) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        _verify(time.monotonic() < deadline, f"{otherwise} within {PATIENCE:.0f} s")
        time.sleep(pause)
