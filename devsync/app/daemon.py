"""The daemon of a project: makes every part, starts them in order, stops them in reverse."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import signal
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from devsync import __version__
from devsync.app.cost import open_budget
from devsync.app.failsafe import Failsafe
from devsync.app.idle import Idle
from devsync.app.jobs import open_jobs, open_jupyter, open_records, surroundings
from devsync.app.machine import open_machine
from devsync.app.merging import open_merging
from devsync.app.notifier import DesktopNotifier
from devsync.app.sides import Connector, LocalSide, arrivals, claimant, guard, open_remote, unnoticed
from devsync.app.tunnels import Tunnels
from devsync.config import Config
from devsync.core.ignore import Rules
from devsync.core.jobs import Order
from devsync.core.reconcile import Mode
from devsync.daemon.allocator import give_back_large_blocks
from devsync.daemon.announced import Announcements
from devsync.daemon.board import Board
from devsync.daemon.control import Control, as_json
from devsync.daemon.engine import Permission
from devsync.daemon.inbox import Inbox
from devsync.daemon.jobs import JobKeeper
from devsync.daemon.link import Link
from devsync.daemon.lock import ProjectLock
from devsync.daemon.parts import Parts
from devsync.daemon.requests import handlers
from devsync.daemon.status import Identity
from devsync.daemon.supervisor import Supervisor
from devsync.daemon.sync import MARK, SyncLoop, SyncPolicy
from devsync.daemon.systemd import Notify
from devsync.folders import socket_path, state_dir
from devsync.ports import Connection, DevsyncError, Process, Replica, Terminal, Unavailable
from devsync.replica.remote_events import RemoteEvents
from devsync.replica.remote_probe import RemoteProbe
from devsync.replica.remote_watch import RemoteWatch
from devsync.replica.rules import ProjectRules
from devsync.replica.watch import Watcher
from devsync.store import Store
from devsync.work.command import Run, command_line
from devsync.work.provenance import origin

log = logging.getLogger("devsync")


class SystemClock:
    """The computer's clocks."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()


def run_daemon(
    config: Config,
    environ: Mapping[str, str],
    *,
    ready_fd: int | None,
    accept_host_key: str | None,
    accept_deletions: bool,
    accept_arrivals: bool,
    rejoin: bool,
    take_over: bool,
) -> None:
    """Be the project's daemon until SIGTERM or `devsync stop`. `ready_fd` is told how the start went."""
    give_back_large_blocks()
    state = state_dir(config.root, environ)
    permission = Permission(accept_deletions, rejoin, take_over, accept_arrivals)
    try:
        daemon = _Daemon(config, state, environ, accept_host_key, permission)
    except DevsyncError as error:
        _answer(ready_fd, {"error": as_json(error)})
        raise
    _answer(ready_fd, {"ready": os.getpid()})
    try:
        daemon.run()
    finally:
        daemon.close()


def _answer(ready_fd: int | None, answer: object) -> None:
    if ready_fd is not None:
        with os.fdopen(ready_fd, "w") as pipe:
            pipe.write(json.dumps(answer) + "\n")


class _Daemon:
    """Every part of a running daemon, started in order and stopped in reverse."""

    def __init__(
        self,
        config: Config,
        state: Path,
        environ: Mapping[str, str],
        accept: str | None,
        permission: Permission,
    ) -> None:
        self._lock = ProjectLock(state / "lock")
        self._logging = _log_to(state / "daemon.log")
        log.info("devsync %s for %s, process %d", __version__, config.root, os.getpid())
        self._systemd = Notify(environ.get("NOTIFY_SOCKET"))
        self._config, self._permission = config, permission
        self._clock = SystemClock()
        self._board = Board()
        self._supervisor = Supervisor(self._board)
        self._inbox = Inbox(config.sync.settle)
        self._store = Store(state / "project.db")
        self._merging = open_merging(config.sync, state, environ)
        self._local: LocalSide | None = None
        self._machine = open_machine(config, state)
        self._connector = Connector(config, self._machine, accept, state / "machine-alias")
        self._link = Link(self._machine, self._connector, self._board, self._clock)
        self._notifier = DesktopNotifier(self._supervisor.spawn, environ)
        self._budget = open_budget(config, state, self._board, self._clock, self._notifier)
        self._idle = Idle(
            config,
            state,
            # A host that is simply there has no power switch: the verdict is shown, and nothing follows.
            power=self._machine.provider != "ssh",
            link=self._link,
            inbox=self._inbox,
            board=self._board,
            clock=self._clock,
            notifier=self._notifier,
            spawn=self._supervisor.spawn,
            execute=self._exec,
            over=self._budget.reason,
        )
        self._activities = self._idle.activities
        self._failsafe = Failsafe(
            config, self._board, self._clock, self._notifier, self._activities.keepalive
        )
        self._records = open_records(state)
        self._jobs = JobKeeper(
            link=self._link,
            open_desk=lambda connection: open_jobs(config, connection),
            board=self._board,
            activities=self._activities,
            records=self._records,
            notifier=self._notifier,
        )
        supervisor = self._supervisor
        self._tunnels = Tunnels(config.tunnels, self._link.connection, supervisor.spawn, supervisor.stopping)
        root = config.root
        outside = ProjectRules(root, config.sync.ignore).fingerprint
        self._watch = Watcher(root, self._inbox.local, outside=outside)
        self._remote_watch = RemoteWatch(self._exec, config.sync.path, Rules(), self._inbox.remote)
        socket = socket_path(state, environ)
        self._control = Control(socket, handlers(self._parts()), self._supervisor.spawn)

    def run(self) -> None:
        """Start everything and wait for the end. Raises what made a service fail for good."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._supervisor.end())
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal that it was started from may close
        root, ignore = self._config.root, self._config.sync.ignore
        rules = ProjectRules(root, ignore, self._store.fact(MARK) or None)
        local = self._local = LocalSide(root, self._store)
        watch, remote_watch = self._watch, self._remote_watch
        sync = SyncLoop(
            open_remote=self._open_remote,
            local=local,
            memory=self._store,
            rules=rules,
            watchers=[watch, remote_watch],
            inbox=self._inbox,
            board=self._board,
            policy=SyncPolicy(
                Mode(self._config.sync.mode),
                self._config.sync.max_deletions,
                guard(self._config.sync.allow_secrets, rules),
                arrivals(self._config.sync, rules),
                self._config.trash.keep,
                self._config.trash.size,
                claimant(root),
                unnoticed(self._config.idle.ignore),
                self._merging,
            ),
            clock=self._clock,
            activity=self._activities.seen,
            permission=self._permission,
        )
        self._supervisor.add(self._control)
        self._supervisor.add(self._link, reports=True)
        self._tunnels.start(self._supervisor.add)
        self._supervisor.add(watch)
        self._supervisor.add(sync, reports=True)
        self._supervisor.add(remote_watch)
        self._supervisor.add(self._jobs)
        check, attend = self._config.idle.check, self._failsafe.attend
        self._supervisor.add(RemoteProbe(self._exec, self._idle.observed, check, attend))
        if self._config.machine.azure is not None and self._machine.provider == "azure":
            vm = self._config.machine.azure.vm_name
            announced = Announcements(vm, self._inbox, self._board, self._notifier)
            self._supervisor.add(RemoteEvents(self._exec, announced.take))
        self._supervisor.add(self._failsafe.keeper)
        self._supervisor.add(self._budget)
        self._supervisor.add(self._idle.keeper)
        self._systemd.ready()
        self._supervisor.wait()

    def close(self) -> None:
        """Stop what was started, in reverse order, and let the project go."""
        self._systemd.stopping()
        self._supervisor.stop()
        if self._local is not None:
            self._local.close()
        self._machine.close()
        if self._merging is not None:
            self._merging.close()
        self._store.close()
        log.info("stopped")
        self._logging.close()
        self._lock.release()

    def _parts(self) -> Parts:
        return Parts(
            board=self._board,
            inbox=self._inbox,
            link=self._link,
            activities=self._activities,
            supervisor=self._supervisor,
            identity=Identity(
                project=self._config.name,
                root=str(self._config.root),
                pid=os.getpid(),
                since=self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                provider=self._machine.provider,
            ),
            tunnels=self._tunnels.to_json,
            open_tunnel=self._tunnels.to,
            open_jupyter=lambda connection: open_jupyter(self._config, connection),
            watching=lambda: {
                "local": self._watch.degraded or None,
                "machine": self._remote_watch.watching or None,
            },
            start_command=self._start_command,
            accept_host_key=self._connector.accept,
            jobs=self._jobs,
            records=self._records,
            clock=self._clock,
            origin=lambda: origin(self._config.root),
            release=self._idle.keeper.release,
            past=self._idle.past,
        )

    def _open_remote(self, stop: threading.Event) -> Replica:
        return open_remote(self._config, self._link.open_another(stop), create=True)

    def _exec(self, line: str) -> Process:
        connection = self._link.connection(1.0)
        if connection is None:
            raise Unavailable("the machine is out of reach")
        return connection.exec(line)

    def _start_command(self, connection: Connection, order: Order, terminal: Terminal | None) -> Run:
        line = command_line(surroundings(self._config), order, buffered=terminal is not None)
        return Run(connection, line, terminal)


def _log_to(file: Path) -> logging.Handler:
    try:
        file.touch(mode=0o600)
        handler = logging.handlers.RotatingFileHandler(
            file, maxBytes=1_000_000, backupCount=3, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise DevsyncError(f"cannot write the log {file}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
    return handler
