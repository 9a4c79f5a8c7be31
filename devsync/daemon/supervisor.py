"""Owns every thread of the daemon: starts services, restarts them with back-off, stops them in reverse."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable

from devsync.daemon.board import Board
from devsync.ports import DevsyncError, NeedsUser, Service, Unavailable

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
STOP_WITHIN = 5.0
"""Seconds that a stop of everything may take, before the stuck are named and left behind."""


class Supervisor:
    """Runs services until it is told to stop, or one of them fails for good."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._runners: list[_Runner] = []
        self._spawned: set[threading.Thread] = set()
        self._lock = threading.Lock()
        self._wish: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.stopping = threading.Event()
        """Set from the first wish to end."""
        self.failure: DevsyncError | None = None
        """What made a service fail for good, and with it the daemon."""

    def add(self, service: Service, *, reports: bool = False) -> None:
        """Start a service; later ones may rely on earlier ones, which are stopped after them.

        `reports`: it says on the board itself when it works again; else starting it anew counts as that.
        """
        runner = _Runner(service, self._board, self._fail, reports)
        self._runners.append(runner)
        runner.thread.start()

    def spawn(self, name: str, body: Callable[[], None]) -> threading.Thread:
        """Start a thread for one piece of work. Its owner makes it end; the supervisor waits for it."""

        def run() -> None:
            try:
                body()
            except DevsyncError as error:
                log.info("%s: %s", name, error.message)
            except Exception:
                log.exception("%s failed", name)
            finally:
                with self._lock:
                    self._spawned.discard(thread)

        thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            self._spawned.add(thread)
        thread.start()
        return thread

    def retry(self) -> None:
        """Somebody acted: start again at once what waits for its time or for the user."""
        for runner in self._runners:
            runner.retry.set()

    def end(self, failure: DevsyncError | None = None) -> None:
        """Make `wait` return; from any thread, also from a signal handler."""
        if failure is not None and self.failure is None:
            self.failure = failure
        self.stopping.set()
        self._wish.put(None)

    def wait(self) -> None:
        """Return when `end` was called. Raises what made a service fail for good."""
        # RACE: a signal handler runs within this very call. To set the event that it waits for could block
        # for ever on the event's own lock; a simple queue is made for that.
        self._wish.get()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """Stop all services, the last started first, and wait for their threads."""
        deadline = time.monotonic() + STOP_WITHIN
        for runner in reversed(self._runners):
            runner.halt()
            runner.thread.join(max(0.1, deadline - time.monotonic()))
        with self._lock:
            left = list(self._spawned)
        for thread in left:
            thread.join(max(0.1, deadline - time.monotonic()))
        stuck = [thread.name for thread in [*(r.thread for r in self._runners), *left] if thread.is_alive()]
        if stuck:
            log.warning("did not stop in time: %s", ", ".join(stuck))

    def _fail(self, error: DevsyncError) -> None:
        self.end(error)


class _Runner:
    """One service in its thread, again and again."""

    def __init__(
        self, service: Service, board: Board, fail: Callable[[DevsyncError], None], reports: bool
    ) -> None:
        self.service = service
        self.retry = threading.Event()
        self.thread = threading.Thread(target=self._run, name=service.name, daemon=True)
        self._board = board
        self._fail = fail
        self._reports = reports
        self._said = ""
        self._stop = threading.Event()

    def halt(self) -> None:
        self._stop.set()
        self.retry.set()
        try:
            self.service.interrupt()
        except Exception:
            # Whatever it is: the services that were started before this one must be stopped all the same.
            log.exception("%s could not be interrupted", self.service.name)

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            self.retry.clear()
            started = time.monotonic()
            if not self._reports:
                self._board.trouble(self.service.name, None)
            try:
                self.service.run(self._stop)
            except Unavailable as error:
                pause = FIRST_PAUSE if time.monotonic() - started > LONGEST_PAUSE else pause
                self._pause(error, pause * random.uniform(0.7, 1.0))  # noqa: S311 (jitter, no secret)
                pause = min(pause * 2, LONGEST_PAUSE)
            except NeedsUser as error:
                self._pause(error, None)
                pause = FIRST_PAUSE
            except DevsyncError as error:
                self._fail(error)
                return
            except Exception as error:
                # A bug must not leave a daemon that looks alive and is deaf: end it, the trace in the log.
                log.exception("%s failed", self.service.name)
                self._fail(DevsyncError(f"{self.service.name} failed: {error!r}", hint="its log says more"))
                return
            else:
                return

    def _pause(self, error: DevsyncError, seconds: float | None) -> None:
        if self._stop.is_set():
            return
        # The same failure again and again is one line of news.
        level = logging.WARNING if error.message != self._said else logging.DEBUG
        log.log(level, "%s: %s", self.service.name, error.message)
        self._said = error.message
        self._board.trouble(self.service.name, error)
        self.retry.wait(seconds)
