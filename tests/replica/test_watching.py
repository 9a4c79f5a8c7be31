"""Hints from the machine: complete, pruned by the rules, and over when the link is."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from devsync.core.ignore import Rule, Rules
from devsync.core.snapshot import ROOT
from devsync.ports import Unavailable
from devsync.replica import inotify
from devsync.replica.remote_watch import RemoteWatch
from tests.fakes.process import LocalProcess

IGNORED = Rules(git=(Rule("", "data", folders_only=True, name_only=True),))


class Heard:
    """A `ports.Hints` that can be waited on."""

    def __init__(self) -> None:
        self._queue: queue.Queue[str] = queue.Queue()
        self.all: list[str] = []

    def add(self, paths: Iterable[str]) -> None:
        for path in paths:
            self._queue.put(path)

    def wait_for(self, path: str) -> None:
        while path not in self.all:
            self.all.append(self._queue.get(timeout=20))


class Watching:
    """A RemoteWatch in a thread."""

    def __init__(self, root: Path, rules: Rules) -> None:
        self.heard = Heard()
        self.processes: list[LocalProcess] = []
        self.watch = RemoteWatch(self._open, str(root), rules, self.heard)
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.heard.wait_for(ROOT)

    def _open(self, command: str) -> LocalProcess:
        self.processes.append(LocalProcess(command))
        return self.processes[-1]

    def _run(self) -> None:
        try:
            self.watch.run(self.stop)
        except Unavailable as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.watch.interrupt()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[[Rules], Watching]]:
    made: list[Watching] = []

    def start(rules: Rules) -> Watching:
        made.append(Watching(tmp_path, rules))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_changes_are_hinted(tmp_path: Path, watching: Callable[[Rules], Watching]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old/f").write_bytes(b"1")
    heard = watching(IGNORED).heard
    (tmp_path / "data/ignored").write_bytes(b"no hint")
    (tmp_path / "a").write_bytes(b"one")
    heard.wait_for("a")
    (tmp_path / "old/f").unlink()
    heard.wait_for("old/f")
    (tmp_path / "x/y/z").mkdir(parents=True)
    heard.wait_for("x")
    (tmp_path / "old").rename(tmp_path / "new")
    heard.wait_for("new")
    (tmp_path / "new/g").write_bytes(b"after the move")
    heard.wait_for("new/g")
    (tmp_path / "x/y/z/deep").write_bytes(b"x")
    (tmp_path / "last").write_bytes(b"x")
    heard.wait_for("last")
    assert not any(path.startswith("data/") for path in heard.all)


def test_new_rules_take_effect(tmp_path: Path, watching: Callable[[Rules], Watching]) -> None:
    (tmp_path / "data").mkdir()
    one = watching(IGNORED)
    assert one.watch.watching == "inotify"
    one.heard.all.clear()
    one.watch.set_rules(Rules())
    one.heard.wait_for(ROOT)
    (tmp_path / "data/seen").write_bytes(b"x")
    one.heard.wait_for("data/seen")


def test_a_lost_link_is_unavailable(watching: Callable[[Rules], Watching]) -> None:
    one = watching(Rules())
    one.processes[0].shutdown_write()
    one.thread.join(20)
    assert isinstance(one.error, Unavailable)


def test_30_new_folders_are_watched_before_they_are_hinted(tmp_path: Path) -> None:
    watcher = inotify.Watcher(str(tmp_path), Rules())
    try:
        for n in range(50):
            (tmp_path / f"{n}/b").mkdir(parents=True)
            (tmp_path / f"{n}/b/f").write_bytes(b"x" * n)
        hints = watcher.read()
        assert {str(n) for n in range(50)} <= hints
        (tmp_path / "7/b/f").write_bytes(b"again")
        assert "7/b/f" in watcher.read()
        (tmp_path / "7").rename(tmp_path / "seven")
        assert {"7", "seven"} <= watcher.read()
        (tmp_path / "seven/b/g").write_bytes(b"g")
        assert watcher.read() == {"seven/b/g"}
    finally:
        watcher.close()


def test_28_an_overflow_is_a_hint_of_everything(tmp_path: Path) -> None:
    watcher = inotify.Watcher(str(tmp_path), Rules())
    try:
        most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
        if most > 100_000:
            pytest.skip("the queue is too long to fill")
        for n in range(most + 600):
            os.close(os.open(tmp_path / str(n % 500), os.O_WRONLY | os.O_CREAT))
        assert ROOT in watcher.read()
        (tmp_path / "after").write_bytes(b"x")
        assert "after" in watcher.read()
    finally:
        watcher.close()


def test_29_without_inotify_stamps_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*_: object) -> None:
        raise inotify.Blind("no more watches to be had")

    monkeypatch.setattr(inotify, "Watcher", blind)
    monkeypatch.setattr(inotify, "POLL", 0.01)
    (tmp_path / "gone").write_bytes(b"x")
    said: queue.Queue[dict[str, object]] = queue.Queue()
    ear, mouth = os.pipe()
    thread = threading.Thread(target=inotify.watch, args=(str(tmp_path), IGNORED, ear, said.put))
    thread.start()
    try:
        assert said.get(timeout=20) == {"watching": "polling", "why": "no more watches to be had"}
        (tmp_path / "gone").unlink()
        assert said.get(timeout=20) == {"hints": ["gone"]}
        (tmp_path / "new").write_bytes(b"y")
        assert said.get(timeout=20) == {"hints": ["new"]}
    finally:
        os.write(mouth, b".")
        thread.join(20)
        os.close(ear)
        os.close(mouth)
    assert not thread.is_alive()
