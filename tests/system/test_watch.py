"""The watcher on a real folder, with the real notifications of this system."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyFD

from devsync.core.ignore import Rule, Rules
from devsync.core.snapshot import ROOT, RelPath, within
from devsync.ports import NeedsUser, Unavailable
from devsync.replica import watch as watch_module
from devsync.replica.eyes import Eyes, Folders, Overflow, Put, Tree, open_eyes
from devsync.replica.rules import ProjectRules
from devsync.replica.watch import Watcher

PATIENCE = 10.0
IGNORES = Rules(
    git=(Rule("", "out", name_only=True, folders_only=True), Rule("", r".*\.log", name_only=True))
)


class Noted:
    """Hints that a test waits for."""

    def __init__(self) -> None:
        self.paths: list[RelPath] = []
        self._changed = threading.Condition()

    def add(self, paths: Iterable[RelPath]) -> None:
        with self._changed:
            self.paths += paths
            self._changed.notify_all()

    def forget(self) -> None:
        with self._changed:
            self.paths.clear()

    def wait_for(self, *paths: RelPath) -> None:
        with self._changed:
            arrived = self._changed.wait_for(
                lambda: all(within(path, self.paths) for path in paths), PATIENCE
            )
            assert arrived, f"no hint at one of {paths}: {self.paths}"

    def wait_for_root(self) -> None:
        self.wait_for(ROOT)


class Running:
    """A watcher in a thread, as the supervisor runs it."""

    def __init__(self, root: Path, outside: Callable[[], object] | None = None) -> None:
        self.hints = Noted()
        self.watcher = Watcher(root, self.hints, outside)
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.watcher.run(self._stop)
        except (Unavailable, NeedsUser) as error:
            self.error = error

    def start(self, rules: Rules | None = IGNORES) -> Running:
        self._thread.start()
        if rules is not None:
            self.watcher.set_rules(rules)
            self.hints.wait_for_root()
            self.hints.forget()
        return self

    def ended(self) -> BaseException | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.error

    def stop(self) -> None:
        self._stop.set()
        self.watcher.interrupt()
        if self._thread.ident is not None:
            self.ended()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "out" / "many").mkdir(parents=True)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Eyes]:
    """Every pair of eyes that a watcher opens."""
    found: list[Eyes] = []
    really = open_eyes

    def note(root: Path, put: Put) -> Eyes:
        found.append(really(root, put))
        return found[-1]

    monkeypatch.setattr(watch_module, "open_eyes", note)
    return found


@pytest.fixture
def running(root: Path, opened: list[Eyes]) -> Iterator[Running]:
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    each = Running(root)
    yield each
    each.stop()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, files)


@pytest.fixture(params=[Folders, Tree])
def either(request: pytest.FixtureRequest, running: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """With each way of watching."""
    monkeypatch.setattr(watch_module, "open_eyes", request.param)
    return running.start()


def watched(eyes: Eyes) -> set[RelPath]:
    assert isinstance(eyes, Folders)
    return {folder.path for folder, _ in eyes.watched.values()}


# ---------------------------------------------------------------- changes


def test_every_kind_of_change_is_a_hint(root: Path, either: Running) -> None:
    file, hints = root / "src/a", either.hints
    for change in (
        lambda: file.write_text("1"),
        lambda: file.write_text("22"),
        lambda: file.chmod(0o755),
        lambda: os.replace(file, root / "src/b"),
        lambda: os.replace(root / "src/b", file),
        file.unlink,
        lambda: file.symlink_to("x"),
    ):
        assert either.watcher.prove(PATIENCE)
        hints.forget()
        change()
        hints.wait_for("src/a")


def test_both_ends_of_a_move_are_hints(root: Path, either: Running) -> None:
    (root / "src/a").write_text("1")
    assert either.watcher.prove(PATIENCE)
    either.hints.forget()
    os.replace(root / "src/a", root / "b")
    either.hints.wait_for("src/a", "b")


def test_what_is_ignored_is_no_hint(root: Path, either: Running) -> None:
    (root / "out/many/a").write_text("1")
    (root / "src/b.log").write_text("22")
    (root / ".git").mkdir()
    (root / ".git/x").write_text("333")
    (root / ".devsync/tmp").mkdir()
    (root / "c").write_text("4444")
    assert either.watcher.prove(PATIENCE)
    assert {path for path in either.hints.paths if path != ROOT} == {"c"}


def test_reading_is_no_hint(root: Path, either: Running) -> None:
    (root / "a").write_text("1")
    assert either.watcher.prove(PATIENCE)
    either.hints.forget()
    (root / "a").read_text()
    assert either.watcher.prove(PATIENCE)
    assert either.hints.paths == []


def test_files_born_right_after_their_folders_are_found(root: Path, running: Running) -> None:
    running.start()
    places = [f"new/{number}/b/c/f" for number in range(100)]
    for place in places:
        (root / place).parent.mkdir(parents=True)
        (root / place).write_text("1")
    running.hints.wait_for(*places)


def test_a_folder_that_is_moved_in_is_watched(root: Path, either: Running) -> None:
    (root.parent / "elsewhere/deep").mkdir(parents=True)
    os.replace(root.parent / "elsewhere", root / "here")
    either.hints.wait_for("here/deep")
    either.hints.forget()
    (root / "here/deep/a").write_text("1")
    either.hints.wait_for("here/deep/a")


def test_a_folder_that_is_moved_is_watched_under_its_new_name(
    root: Path, running: Running, opened: list[Eyes]
) -> None:
    running.start()
    os.replace(root / "src", root / "lib")
    running.hints.wait_for("src", "lib")
    running.hints.forget()
    (root / "lib/deep/a").write_text("1")
    running.hints.wait_for("lib/deep/a")
    assert watched(opened[0]) == {ROOT, "lib", "lib/deep"}


def test_a_name_that_is_no_text(root: Path, either: Running) -> None:
    name = os.fsdecode(b"\xff")
    (root / name).write_text("1")
    either.hints.wait_for(name)


# ---------------------------------------------------------------- rules


def test_an_ignored_folder_costs_no_watch(root: Path, running: Running, opened: list[Eyes]) -> None:
    running.start()
    for number in range(50):
        (root / f"out/many/{number}").mkdir()
        (root / f"src/out/{number}").mkdir(parents=True)
    assert running.watcher.prove(PATIENCE)
    assert watched(opened[0]) == {ROOT, "src", "src/deep"}


def test_new_rules_are_followed(root: Path, running: Running, opened: list[Eyes]) -> None:
    running.start()
    running.watcher.set_rules(Rules(own=(Rule("", "src/deep"),)))
    running.hints.wait_for("out/many")
    assert watched(opened[0]) == {ROOT, "src", "out", "out/many"}
    assert "src" not in running.hints.paths


def test_another_repository_is_not_watched(root: Path, running: Running, opened: list[Eyes]) -> None:
    (root / "lib/.git").mkdir(parents=True)
    (root / "lib/a").mkdir()
    running.start(Rules(repositories=frozenset({ROOT})))
    assert watched(opened[0]) == {ROOT, "src", "src/deep", "out", "out/many"}


def test_only_what_changes_the_rules_of_git_is_a_hint_from_git(root: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True)

    git("init", "-q")
    (root / ".gitignore").write_text("*.log\n")
    (root / "a").write_text("1")
    (root / "b.log").write_text("22")
    each = Running(root, ProjectRules(root).fingerprint)
    try:
        each.start()
        git("add", "a")
        assert each.watcher.prove(PATIENCE)
        assert each.hints.paths == []
        git("add", "-f", "b.log")
        each.hints.wait_for_root()
        each.hints.forget()
        (root / ".git/info/exclude").write_text("a\n")
        each.hints.wait_for_root()
    finally:
        each.stop()


# ---------------------------------------------------------------- proof


def test_a_proof_comes_after_all_hints(root: Path, either: Running) -> None:
    for number in range(20):
        place = f"src/deep/{number}"
        (root / place).write_text("x" * number)
        assert either.watcher.prove(PATIENCE)
        assert within(place, either.hints.paths)
    assert os.listdir(root / ".devsync/cookies") == []


def test_a_proof_needs_rules_and_a_running_watcher(root: Path, running: Running) -> None:
    assert not running.watcher.prove(0.01)
    running.start(rules=None)
    assert not running.watcher.prove(0.01)
    running.watcher.set_rules(IGNORES)
    assert running.watcher.prove(PATIENCE)


def test_a_proof_that_waits_is_given_when_the_rules_come(root: Path, running: Running) -> None:
    running.start(rules=None)
    given: list[bool] = []
    waiting = threading.Thread(target=lambda: given.append(running.watcher.prove(PATIENCE)))
    waiting.start()
    running.watcher.set_rules(IGNORES)
    waiting.join(PATIENCE)
    assert given == [True]


def test_a_proof_survives_the_loss_of_our_own_folder(root: Path, running: Running) -> None:
    running.start()
    shutil.rmtree(root / ".devsync")
    deadline = time.monotonic() + PATIENCE
    while not running.watcher.prove(0.2):
        assert time.monotonic() < deadline


# ---------------------------------------------------------------- loss


def test_an_overflow_hints_at_everything_and_watches_anew(
    root: Path, running: Running, opened: list[Eyes]
) -> None:
    running.start()
    eyes = opened[0]
    assert isinstance(eyes, Folders)
    eyes.on_queue_overflow()
    running.hints.wait_for_root()
    assert watched(eyes) == {ROOT, "src", "src/deep"}


def test_a_flood_hints_at_everything(root: Path, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_LONGEST_QUEUE", 5)
    running.start()
    places = [f"src/{number}/f" for number in range(300)]
    for place in places:
        (root / place).parent.mkdir()
        (root / place).write_text("1")
    running.hints.wait_for(*places)
    monkeypatch.undo()
    assert running.watcher.prove(PATIENCE)
    assert running.watcher.prove(PATIENCE)  # the first may have been answered by one overflow of several
    running.hints.forget()
    (root / "src/299/f").write_text("22")
    running.hints.wait_for("src/299/f")
    assert ROOT not in running.hints.paths


@pytest.mark.parametrize("replaced", [False, True])
def test_a_root_that_is_gone_ends_the_watch(root: Path, either: Running, replaced: bool) -> None:
    if replaced:
        os.replace(root, root.parent / "aside")
        root.mkdir()
    else:
        shutil.rmtree(root)
    assert isinstance(either.ended(), Unavailable)
    assert os.path.lexists(root) == replaced  # nobody made it again


def test_a_root_that_was_moved_with_what_is_above_it(
    root: Path, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_CHECK", 0.02)
    running.start()
    os.replace(root.parent, root.parent.with_suffix(".moved"))
    assert isinstance(running.ended(), Unavailable)
    os.replace(root.parent.with_suffix(".moved"), root.parent)


def test_a_root_that_is_not_there(root: Path, running: Running) -> None:
    shutil.rmtree(root)
    running.start(rules=None)
    assert isinstance(running.ended(), Unavailable)


def test_a_dead_thread_of_watchdog_ends_the_watch(
    running: Running, opened: list[Eyes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "_CHECK", 0.02)
    running.start()
    opened[0].close()
    assert isinstance(running.ended(), Unavailable)


def test_the_limit_of_watches_is_told_and_the_rest_is_watched(
    root: Path, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = InotifyFD.add_callback

    def limited(self: InotifyFD, path: bytes, *more: object) -> object:
        if path.endswith(b"deep"):
            raise OSError(errno.ENOSPC, "inotify watch limit reached")
        return really(self, path, *more)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(InotifyFD, "add_callback", limited)
    running.start()
    assert running.watcher.prove(PATIENCE)
    assert "max_user_watches" in running.watcher.degraded
    (root / "src/a").write_text("1")
    running.hints.wait_for("src/a")
    monkeypatch.undo()
    running.watcher.set_rules(Rules())
    assert running.watcher.prove(PATIENCE)
    assert running.watcher.degraded == ""


def test_no_instance_left_needs_the_user(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(put: object) -> int:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(InotifyFD, "_create_inotify_fd", none_left)
    running.start(rules=None)
    error = running.ended()
    assert isinstance(error, NeedsUser)
    assert "max_user_instances" in error.hint


def test_a_watcher_that_was_started_again_sees(root: Path, running: Running, opened: list[Eyes]) -> None:
    running.start()
    running.stop()
    again = Running(root)
    again.watcher = running.watcher
    again.hints = running.hints
    again.start(rules=None)
    try:
        again.hints.wait_for_root()
        again.hints.forget()
        (root / "src/a").write_text("1")
        again.hints.wait_for("src/a")
        assert len(opened) == 2
    finally:
        again.stop()


def test_an_item_from_nowhere_is_no_harm(running: Running, opened: list[Eyes]) -> None:
    running.start()
    for item in (987654, Overflow, "x"):
        assert not list(opened[0].see(item))
