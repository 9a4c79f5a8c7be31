"""What the sync loop tells: facts on the board, a line in the log for each batch, signs of activity.

Owned by the thread that synchronises.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import chain

from devsync.core.pace import Pace
from devsync.core.snapshot import RelPath
from devsync.daemon.board import Board, SyncFacts
from devsync.daemon.engine import Engine, Result
from devsync.daemon.guard import summed
from devsync.ports import Clock

log = logging.getLogger(__name__)

STEP = 0.1
"""Seconds between two posts of how a transfer goes."""


class Telling:
    """Implements transfer.Meter."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        mode: str,
        activity: Callable[[str], None],
        unnoticed: Callable[[RelPath], bool],
    ) -> None:
        """`activity` is told of the side of each edit but those that are `unnoticed`."""
        self._board, self._clock, self._activity, self._unnoticed = board, clock, activity, unnoticed
        self._facts = SyncFacts(mode=mode)
        self._pace = Pace()
        self._posted = 0.0
        self.held: dict[RelPath, str] = {}
        """What is held back, as it is shown."""

    def post(self, **facts: object) -> None:
        """These facts are new."""
        self._facts = replace(self._facts, **facts)  # type: ignore[arg-type]  # replace refuses unknown names
        self._board.post(sync=self._facts)

    # ------------------------------------------------------------ on the way

    def planned(self, files: int, size: int) -> None:
        """Meter: so many files and bytes are still to move."""
        self._pace.plan(self._clock.monotonic(), files, size)
        self._progress()

    def moved(self, side: str, size: int) -> None:
        """Meter: so many bytes have moved towards `side`."""
        now = self._clock.monotonic()
        self._pace.move(now, size)
        facts = self._facts
        if side == "local":
            self._facts = replace(facts, downloaded_bytes=facts.downloaded_bytes + size)
        else:
            self._facts = replace(facts, uploaded_bytes=facts.uploaded_bytes + size)
        if not 0 <= now - self._posted < STEP:
            self._progress()

    def came(self) -> None:
        """Meter: one more content has come whole."""
        self._pace.came()

    def _progress(self) -> None:
        now = self._posted = self._clock.monotonic()
        pace = self._pace
        self.post(
            pending=pace.files,
            in_flight=pace.files,
            planned_bytes=max(pace.planned, pace.moved),
            moved_bytes=pace.moved,
            rate=pace.rate(now),
            remaining=pace.remaining(now),
        )

    # ------------------------------------------------------------ afterwards

    def batch(self, engine: Engine, result: Result) -> None:
        """A slice of a plan has been carried out."""
        plan = result.plan
        # What cannot be carried over is tried again and again, and is no sign of work.
        for side, changes in (("local", plan.to_remote), ("remote", plan.to_local)):
            agreed = (path for path, _ in plan.agreed)
            carried = (change.path for change in changes if change.path not in result.problems)
            if not all(map(self._unnoticed, chain(agreed, carried))):
                self._activity(f"{side}-edits")
        if not plan.quiet:
            left = f", {engine.waiting} to come" if engine.waiting else ""
            log.info(
                "synchronised: %d here, %d on the machine, %d conflicts%s",
                len(plan.to_local),
                len(plan.to_remote),
                len(engine.conflicts),
                left,
            )
        self.post(
            pending=len(result.again) + len(result.later) + engine.waiting,
            last_sync=self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self.engine(engine)

    def engine(self, engine: Engine) -> None:
        """What it knows by now; what it has begun to hold back is logged once."""
        shown = summed(engine.held)
        for path, why in shown.items():
            if path not in self.held:
                log.warning("%s: %s", ascii(path), why)
        self.held = shown
        self._pace.done(engine.waiting)
        resting: dict[str, object] = {} if engine.waiting else {"rate": None, "remaining": None}
        self.post(
            files=len(engine.ancestor),
            in_flight=engine.waiting,
            moved_bytes=self._pace.moved,
            conflicts=len(engine.conflicts),
            held=len(engine.held),
            skipped=sum(map(len, engine.skipped.values())),
            **resting,
        )
