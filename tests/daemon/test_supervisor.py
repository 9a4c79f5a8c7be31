"""The supervisor: services that fail, wait, end the daemon, and are stopped in reverse."""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from devsync.daemon import supervisor as module
from devsync.daemon.board import Board
from devsync.daemon.supervisor import Supervisor
from devsync.ports import DevsyncError, Halted, NeedsUser, Unavailable
from tests.daemon.rig import PATIENCE, until

Script = list[Callable[[threading.Event], None]]


class Scripted:
    """A service whose runs are written down; after the last one it serves until it is stopped."""

    def __init__(self, name: str, script: Script | None = None, log: list[str] | None = None) -> None:
        self.name = name
        self.runs: queue.Queue[int] = queue.Queue()
        self._script = iter(enumerate(script or []))
        self._log = log if log is not None else []
        self._set_free = threading.Event()

    def run(self, stop: threading.Event) -> None:
        number, step = next(self._script, (-1, self._serve))
        self.runs.put(number)
        step(stop)

    def _serve(self, stop: threading.Event) -> None:
        assert self._set_free.wait(PATIENCE)
        assert stop.is_set(), "interrupt comes after stop"
        self._log.append(self.name)

    def interrupt(self) -> None:
        self._set_free.set()


def fails(error: Exception) -> Callable[[threading.Event], None]:
    def run(stop: threading.Event) -> None:
        raise error

    return run


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def supervisor(board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    made = Supervisor(board)
    yield made
    made.stop()


def test_what_is_out_of_reach_is_tried_again(supervisor: Supervisor, board: Board) -> None:
    link = Scripted("link", [fails(Unavailable("away", hint="wait")), fails(Unavailable("still away"))])
    supervisor.add(link)
    assert [link.runs.get(timeout=PATIENCE) for _ in range(3)] == [0, 1, -1]
    until(lambda: not board.read().troubles, "that the trouble is forgotten")
    assert not supervisor.stopping.is_set()


def test_the_pauses_grow_and_a_retry_cuts_them_short(
    supervisor: Supervisor, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 100.0)
    link = Scripted("link", [fails(Unavailable("away"))])
    supervisor.add(link)
    assert link.runs.get(timeout=PATIENCE) == 0
    until(lambda: "link" in board.read().troubles)
    trouble = board.read().troubles["link"]
    assert (trouble.kind, trouble.message, trouble.needs_user) == ("Unavailable", "away", False)
    assert link.runs.empty()
    supervisor.retry()
    assert link.runs.get(timeout=PATIENCE) == -1


def test_what_needs_the_user_waits_for_him(supervisor: Supervisor, board: Board) -> None:
    sync = Scripted("sync", [fails(Halted("too many deletions", hint="accept them"))])
    supervisor.add(sync, reports=True)
    other = Scripted("link")
    supervisor.add(other)
    assert (sync.runs.get(timeout=PATIENCE), other.runs.get(timeout=PATIENCE)) == (0, -1)
    until(lambda: "sync" in board.read().troubles)
    trouble = board.read().troubles["sync"]
    assert (trouble.kind, trouble.exit_status, trouble.needs_user) == ("Halted", 4, True)
    assert not supervisor.stopping.is_set(), "the other parts go on"
    supervisor.retry()
    assert sync.runs.get(timeout=PATIENCE) == -1
    assert "sync" in board.read().troubles, "it reports by itself when it works again"


def test_a_retry_before_the_pause_is_not_lost(supervisor: Supervisor) -> None:
    def retried_meanwhile(stop: threading.Event) -> None:
        supervisor.retry()
        raise NeedsUser("the host key is unknown")

    link = Scripted("link", [retried_meanwhile])
    supervisor.add(link)
    assert [link.runs.get(timeout=PATIENCE) for _ in range(2)] == [0, -1]


@pytest.mark.parametrize("error", [DevsyncError("the disk is full", hint="make room"), KeyError("a bug")])
def test_anything_else_ends_the_daemon(supervisor: Supervisor, error: Exception) -> None:
    ended: list[str] = []
    supervisor.add(Scripted("link", log=ended))
    supervisor.add(Scripted("sync", [fails(error)]))
    with pytest.raises(DevsyncError) as caught:
        supervisor.wait()
    expected = error.message if isinstance(error, DevsyncError) else "sync failed: KeyError('a bug')"
    assert caught.value.message == expected
    supervisor.stop()
    assert ended == ["link"]


def test_a_service_that_has_finished_ends_nothing(supervisor: Supervisor) -> None:
    done = Scripted("once", [lambda stop: None])
    supervisor.add(done)
    assert done.runs.get(timeout=PATIENCE) == 0
    assert done.runs.empty()
    assert not supervisor.stopping.is_set()


def test_everything_stops_in_reverse(supervisor: Supervisor) -> None:
    order: list[str] = []
    for name in ("control", "link", "sync"):
        service = Scripted(name, log=order)
        supervisor.add(service)
        service.runs.get(timeout=PATIENCE)
    supervisor.end()
    supervisor.wait()
    supervisor.stop()
    assert order == ["sync", "link", "control"]
    supervisor.stop()  # once more does no harm


def test_a_service_in_its_pause_stops_at_once(supervisor: Supervisor, board: Board) -> None:
    service = Scripted("link", [fails(NeedsUser("log in"))])
    supervisor.add(service)
    until(lambda: "link" in board.read().troubles)
    supervisor.stop()
    assert service.runs.get_nowait() == 0
    assert service.runs.empty()


def test_the_stuck_are_named_and_left_behind(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STOP_WITHIN", 0.05)
    order: list[str] = []
    healthy = Scripted("link", log=order)
    supervisor.add(healthy)
    healthy.runs.get(timeout=PATIENCE)
    release = threading.Event()
    stuck = Scripted("stubborn", [lambda stop: _ignore(release)])
    supervisor.add(stuck)
    stuck.runs.get(timeout=PATIENCE)
    spawned = supervisor.spawn("run-output", lambda: _ignore(release))
    with caplog.at_level(logging.WARNING):
        supervisor.stop()
    assert "did not stop in time: stubborn, run-output" in caplog.text
    assert order == ["link"]
    release.set()
    spawned.join(PATIENCE)


def _ignore(release: threading.Event) -> None:
    release.wait(PATIENCE)


def test_an_interrupt_that_fails_does_not_spare_the_others(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    order: list[str] = []
    healthy = Scripted("link", log=order)
    supervisor.add(healthy)
    healthy.runs.get(timeout=PATIENCE)

    class Clumsy(Scripted):
        def interrupt(self) -> None:
            super().interrupt()
            raise OSError("close failed")

    clumsy = Clumsy("sync", log=order)
    supervisor.add(clumsy)
    clumsy.runs.get(timeout=PATIENCE)
    supervisor.stop()
    assert order == ["sync", "link"]
    assert "sync could not be interrupted" in caplog.text


def test_spawned_threads_are_waited_for_and_their_errors_are_logged(
    supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def work() -> None:
        supervisor.stopping.wait(PATIENCE)
        done.append("worked")

    def broken() -> None:
        raise ValueError("a bug")

    supervisor.spawn("work", work)
    supervisor.spawn("broken", broken).join(PATIENCE)
    supervisor.end()
    supervisor.stop()
    assert done == ["worked"]
    assert "broken failed" in caplog.text


def test_a_signal_ends_the_wait(supervisor: Supervisor) -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: supervisor.end())
    waiting = threading.main_thread()
    assert threading.current_thread() is waiting
    sender = threading.Timer(0.01, signal.pthread_kill, (waiting.ident, signal.SIGUSR1))
    try:
        sender.start()
        supervisor.wait()
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert supervisor.stopping.is_set()
