"""The ledger and the budget, on a hand-wound clock: what is written down, told, and asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.cost import HOUR, Rates, Span
from devsync.daemon.board import Board, LinkFacts
from devsync.daemon.budget import BudgetKeeper
from devsync.daemon.ledger import Ledger
from devsync.ports import DevsyncError
from tests.fakes.clock import HandWoundClock


class Rig:
    """A machine at 1.00 an hour with a budget of 10.00."""

    def __init__(self, folder: Path, *, acts: bool) -> None:
        self.clock, self.board, self.told = HandWoundClock(), Board(), list[str]()
        self.ledger = Ledger(folder / "ledger.db")
        self.rates = Rates(machine=1.0)
        self.keeper = BudgetKeeper(
            ledger=self.ledger,
            rates=lambda: self.rates,
            budget=10.0,
            acts=acts,
            board=self.board,
            clock=self.clock,
            notifier=self,
        )

    def notify(self, title: str, text: str) -> None:
        self.told.append(f"{title}: {text}")

    def seen(self, hours: float, state: str = "connected", billed: bool | None = True) -> None:
        """Time passes, and then the machine is seen so."""
        self.clock.advance(hours * HOUR)
        self.board.post(link=LinkFacts(state, None, "running" if billed else "deallocated", billed, "vm"))
        self.keeper.look()

    @property
    def spans(self) -> list[Span]:
        """In hours since the clock's beginning."""
        zero = HandWoundClock().now().timestamp()
        return [
            Span((one.begin - zero) / HOUR, (one.end - zero) / HOUR, one.billed)
            for one in self.ledger.spans()
        ]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield Rig(tmp_path, acts=True)


def test_what_does_not_change_is_one_row(rig: Rig) -> None:
    for _ in range(4):
        rig.seen(0.5)
    rig.seen(0.5, "off", billed=False)
    rig.seen(2, "off", billed=False)
    assert rig.spans == [Span(0.5, 2, True), Span(2.5, 4.5, False)]


def test_a_machine_out_of_reach_or_of_somebody_else_is_not_seen(rig: Rig) -> None:
    rig.seen(1)
    rig.seen(1, "away")
    rig.seen(1, "connecting")
    rig.seen(1, "connected", billed=None)
    assert rig.spans == [Span(1, 1, True)]


def test_the_clock_was_put_back(rig: Rig) -> None:
    rig.ledger.note(100.0, True)
    rig.ledger.note(50.0, False)
    assert rig.ledger.spans() == [Span(100.0, 100.0, True)]


def test_a_budget_is_told_of_twice_and_then_acts(rig: Rig) -> None:
    rig.seen(0)
    rig.seen(7.5)
    assert not rig.told
    rig.seen(1)
    assert rig.told == [
        "devsync: the budget is nearly used up: 8.50 of the 10.00 for 2026-01 are spent (devsync cost)"
    ]
    assert "8.50" in rig.board.read().notices["cost"]
    assert not rig.keeper.reason()
    rig.seen(1)
    assert len(rig.told) == 1, "it is said once"
    rig.seen(1)
    assert "is used up: 10.50 of the 10.00" in rig.told[1]
    assert rig.keeper.reason() == "the budget is used up: 10.50 of the 10.00 for 2026-01 are spent"


def test_the_next_month_begins_anew(rig: Rig) -> None:
    rig.seen(0)
    rig.seen(24)
    assert rig.keeper.reason()
    rig.seen(1, "off", billed=False)
    rig.seen(24 * 30.5, "off", billed=False)
    assert not rig.keeper.reason()
    assert not rig.board.read().notices


def test_without_a_price_nothing_is_used_up(rig: Rig) -> None:
    rig.rates = Rates()
    rig.seen(0)
    rig.seen(500)
    assert not rig.told


def test_a_budget_that_only_warns_asks_for_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, acts=False)
    rig.seen(0)
    rig.seen(500)
    assert len(rig.told) == 1
    assert not rig.keeper.reason()


def test_a_ledger_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("no database, but long enough to be taken for one" * 20)
    with pytest.raises(DevsyncError, match="ledger"):
        Ledger(tmp_path / "ledger.db").spans()
    Rig(tmp_path, acts=True).seen(1)  # which is logged, and ends nothing


def test_the_ledger_is_the_user_s_alone(rig: Rig, tmp_path: Path) -> None:
    rig.seen(1)
    assert (tmp_path / "ledger.db").stat().st_mode & 0o777 == 0o600
