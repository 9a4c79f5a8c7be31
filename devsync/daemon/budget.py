"""Writes the ledger while the daemon runs, and tells when the month's budget is used up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from devsync.core.cost import Rates, State, bill, hours, state
from devsync.daemon.board import Board
from devsync.daemon.ledger import Ledger
from devsync.ports import Clock, DevsyncError, Notifier

log = logging.getLogger(__name__)

EVERY = 20.0
"""Seconds between two looks."""

COUNT = 300.0
"""Seconds between two sums."""


class BudgetKeeper:
    """The service. `rates` may ask a server; it is called from this thread alone, and never fails."""

    name = "cost"

    def __init__(
        self,
        *,
        ledger: Ledger,
        rates: Callable[[], Rates],
        budget: float | None,
        acts: bool,
        board: Board,
        clock: Clock,
        notifier: Notifier,
    ) -> None:
        """`budget` for a month, None: none; `acts`: past it the machine is to be let go."""
        self._ledger, self._rates, self._budget, self._acts = ledger, rates, budget, acts
        self._board, self._clock, self._notifier = board, clock, notifier
        self._ring = threading.Event()
        self._due = 0.0
        self._told: tuple[str, State] | None = None
        self._failed = ""
        self._reason = ""

    def reason(self) -> str:
        """Why the machine is to be let go, if it is. Any thread may ask."""
        return self._reason

    def run(self, stop: threading.Event) -> None:
        """Look, again and again."""
        while not stop.is_set():
            self.look()
            self._ring.wait(EVERY)

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        self._ring.set()

    def look(self) -> None:
        """Write down what is seen, and count if it is time."""
        link = self._board.read().link
        now = self._clock.now()
        try:
            # Only these two states are seen: a machine out of reach keeps the last word on the board.
            if link.billed is not None and link.state in ("connected", "off"):
                self._ledger.note(now.timestamp(), link.billed)
            if self._budget is not None and self._clock.monotonic() >= self._due:
                self._due = self._clock.monotonic() + COUNT
                self._count(now, self._budget)
        except DevsyncError as error:
            if error.message != self._failed:
                log.warning("%s", error.message)
            self._failed = error.message

    def _count(self, now: datetime, budget: float) -> None:
        month = f"{now:%Y-%m}"
        found = hours(self._ledger.spans(), month_of(now).timestamp(), now.timestamp())
        spent = bill(found, self._rates()).total
        how = state(spent, budget)
        text = f"{spent or 0.0:.2f} of the {budget:.2f} for {month} are spent"
        self._reason = f"the budget is used up: {text}" if self._acts and how is State.OVER else ""
        self._board.notice(self.name, f"budget {TITLES[how]}: {text}" if how in TITLES else "")
        if how in TITLES and self._told != (month, how):
            self._told = (month, how)
            self._notifier.notify(f"devsync: the budget is {TITLES[how]}", f"{text} (devsync cost)")


TITLES = {State.NEAR: "nearly used up", State.OVER: "used up"}


def month_of(moment: datetime) -> datetime:
    """When the month began, in UTC, as Azure counts."""
    return datetime(moment.year, moment.month, 1, tzinfo=UTC)
