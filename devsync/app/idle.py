"""Everything about idleness that a daemon has: the signs of work, the keeper, the record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from devsync.config import Config
from devsync.core.idle import Policy
from devsync.core.observation import Thresholds
from devsync.daemon.activities import Activities, Kept
from devsync.daemon.board import Board
from devsync.daemon.diary import Diary
from devsync.daemon.farewell import Farewell
from devsync.daemon.idle import EndOfDay, IdleKeeper
from devsync.daemon.idle_history import IdleHistory
from devsync.daemon.inbox import Inbox
from devsync.daemon.link import Link
from devsync.daemon.observed import Observed
from devsync.ports import Clock, DevsyncError, Notifier, Process, Spawn
from devsync.replica.remote_questions import recorded, tell

log = logging.getLogger("devsync")


class Idle:
    """The parts, made together since they share their rules. `execute` runs a command line there."""

    def __init__(
        self,
        config: Config,
        state: Path,
        *,
        power: bool,
        link: Link,
        inbox: Inbox,
        board: Board,
        clock: Clock,
        notifier: Notifier,
        spawn: Spawn,
        execute: Callable[[str], Process],
        over: Callable[[], str],
    ) -> None:
        """`power`: whether devsync switches the machine; else the verdict is shown, and nothing follows.

        `over` as the keeper has it.
        """
        idle = config.idle
        thresholds = Thresholds(idle.cpu, idle.gpu, idle.network, idle.gpu_stale)
        policy = Policy(idle.after, idle.warn)
        modes = {name.replace("_", "-"): mode for name, mode in asdict(idle.signals).items()}
        diary = Diary(state / "work.log", clock)
        self.activities = open_activities(clock, state / "keepalive")
        self.observed = Observed(clock, thresholds)
        self.keeper = IdleKeeper(
            policy=policy,
            check=idle.check,
            obey=power,
            activities=self.activities,
            link=link,
            board=board,
            clock=clock,
            farewell=Farewell(
                inbox=inbox,
                clock=clock,
                notifier=notifier,
                whisper=lambda text: _whisper(spawn, execute, text),
                quiet=idle.quiet,
            ),
            observed=self.observed,
            modes=modes,
            end_of_day=None if idle.at is None else EndOfDay(idle.at, idle.at_jobs == "wait"),
            note=diary.note,
            over=over,
        )
        history = IdleHistory(
            diary=diary,
            recorded=lambda within: recorded(execute, within),
            thresholds=thresholds,
            policy=policy,
            modes=modes,
            clock=clock,
        )
        self.past: Callable[[float, Mapping[str, Any] | None], Mapping[str, object]] = history.tell


def _whisper(spawn: Spawn, execute: Callable[[str], Process], text: str) -> None:
    def body() -> None:
        try:
            log.info("told in %d terminals of the machine", tell(execute, text))
        except DevsyncError as error:
            log.info("the machine's terminals were not told: %s", error.message)

    spawn("tell", body)


def open_activities(clock: Clock, file: Path) -> Activities:
    """The signs of work; a keepalive stands in a file, so that a restart does not forget it."""

    def save(kept: Kept) -> None:
        if kept is None:
            file.unlink(missing_ok=True)
        else:
            file.write_text(f"job {kept}" if isinstance(kept, str) else kept.isoformat())

    try:
        text = file.read_text()
        kept: Kept = text.removeprefix("job ") if text.startswith("job ") else datetime.fromisoformat(text)
    except (OSError, ValueError):
        kept = None
    return Activities(clock, kept, save)
