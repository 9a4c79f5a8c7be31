"""The arithmetic of money: hours from sights, their price, and the budget, case by case."""

from __future__ import annotations

import pytest

from devsync.core.cost import HOUR, MONTH, Hours, Rates, Span, State, bill, hours, priced, state


def span(begin: float, end: float, billed: bool) -> Span:
    """In hours."""
    return Span(begin * HOUR, end * HOUR, billed)


@pytest.mark.parametrize(
    ("spans", "billed", "off", "unseen"),
    [
        pytest.param([], 0, 0, 0, id="nothing was seen"),
        pytest.param([span(2, 10, True)], 8, 0, 0, id="it runs, and nothing is known of before"),
        pytest.param([span(-5, 10, True)], 10, 0, 0, id="it ran before the period"),
        pytest.param([span(-9, -5, True)], 0, 0, 10, id="it was seen only before, and then not again"),
        pytest.param([span(0, 4, True)], 4, 0, 6, id="nobody has looked since"),
        pytest.param([span(0, 9.9, True)], 10, 0, 0, id="the last look was a moment ago"),
        pytest.param([span(0, 4, True), span(4.1, 9, False)], 4.1, 5.9, 0, id="it was deallocated"),
        pytest.param([span(0, 4, True), span(7, 9, False)], 4, 3, 3, id="it was found deallocated"),
        pytest.param([span(0, 4, False), span(7, 10, True)], 3, 7, 0, id="it was started"),
        pytest.param([span(1, 1, False)], 0, 9, 0, id="it was seen once, deallocated"),
        pytest.param([span(0, 10, True), span(11, 12, False)], 10, 0, 0, id="what is later is not counted"),
    ],
)
def test_hours(spans: list[Span], billed: float, off: float, unseen: float) -> None:
    found = hours(spans, 0.0, 10 * HOUR)
    assert (found.billed, found.off, found.unseen) == pytest.approx((billed, off, unseen))


def test_parts_add_up_to_the_whole() -> None:
    spans = [span(0, 4, True), span(7, 9, False), span(12, 12, True), span(12.1, 15, False)]
    whole, first, second = (hours(spans, a * HOUR, b * HOUR) for a, b in ((0, 20), (0, 8), (8, 20)))
    assert whole.billed == pytest.approx(first.billed + second.billed)
    assert whole.off == pytest.approx(first.off + second.off)
    assert whole.billed + whole.off + whole.unseen == pytest.approx(20)


def test_a_bill() -> None:
    found = bill(Hours(billed=10, off=60, unseen=3), Rates(machine=0.5, disks=36.5, address=0.005))
    assert (found.machine, found.unseen, found.saved) == (5.0, 1.5, 30.0)
    assert found.standing == pytest.approx(73 / MONTH * (36.5 + 0.005 * MONTH))
    assert found.total == pytest.approx(5.0 + 73 / MONTH * 40.15)


def test_without_prices_there_are_hours_only() -> None:
    found = bill(Hours(10, 60, 3), Rates())
    assert (found.machine, found.unseen, found.saved, found.standing, found.total) == (None,) * 5


def test_a_price_of_the_machine_alone_is_enough_for_a_total() -> None:
    assert bill(Hours(billed=10), Rates(machine=2.0)).total == 20.0


@pytest.mark.parametrize(
    ("spent", "budget", "expected"),
    [
        (None, 100.0, State.UNDER),
        (500.0, None, State.UNDER),
        (79.9, 100.0, State.UNDER),
        (80.0, 100.0, State.NEAR),
        (99.9, 100.0, State.NEAR),
        (100.0, 100.0, State.OVER),
    ],
)
def test_a_budget(spent: float | None, budget: float | None, expected: State) -> None:
    assert state(spent, budget) is expected


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    assert priced([1.0, 2.5]) == 3.5
    assert priced([1.0, None]) is None
    assert priced([]) == 0
