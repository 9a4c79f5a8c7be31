"""What the machine has cost, from when it was seen billed: hours, money, what its deallocation saved. Pure.

Times are seconds since 1970, prices are in one currency, which the caller knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

NEAR = 600.0
"""Seconds between two sights that are counted as the state of the first."""

HOUR = 3600.0
MONTH = 730.0
"""Hours of the month that Azure's monthly prices are for."""

SOON = 0.8
"""The share of a budget at which its end is told of."""


@dataclass(frozen=True)
class Span:
    """From its first sight to its last, the machine was seen billed, or not, and never otherwise."""

    begin: float
    end: float
    billed: bool


@dataclass(frozen=True)
class Hours:
    """Hours that it was billed, hours that it was not, and hours that it may have been: nobody looked."""

    billed: float = 0.0
    off: float = 0.0
    unseen: float = 0.0


@dataclass(frozen=True)
class Rates:
    """Prices: the machine by the hour, its disks by the month, its address by the hour; None: unknown."""

    machine: float | None = None
    disks: float | None = None
    address: float | None = None

    @property
    def standing(self) -> float | None:
        """What a month costs without a running machine, as far as it is known."""
        if self.disks is None and self.address is None:
            return None
        return (self.disks or 0.0) + (self.address or 0.0) * MONTH


@dataclass(frozen=True)
class Bill:
    """Money; None where a price is unknown.

    `machine`: its billed hours; `unseen`: as much more it is at most; `saved`: against never deallocating;
    `standing`: disks and address, from the first sight on.
    """

    machine: float | None
    unseen: float | None
    saved: float | None
    standing: float | None

    @property
    def total(self) -> float | None:
        """What is known to have been spent."""
        return None if self.machine is None else self.machine + (self.standing or 0.0)


class State(Enum):
    """How it is with the budget."""

    UNDER = "under"
    NEAR = "near"
    OVER = "over"


def hours(spans: Sequence[Span], begin: float, end: float) -> Hours:
    """The hours between two moments, from spans in the order of time; before the first, nothing is known.

    A gap counts as the state before it if it is short, else as `unseen` where the machine was billed before
    it. What was not billed and was next seen billed was started by somebody who then saw to its being seen.
    """
    billed = off = unseen = 0.0

    def clipped(start: float, stop: float) -> float:
        return max(0.0, min(stop, end) - max(start, begin)) / HOUR

    ends = [*(one.begin for one in spans), end][1:]
    for span, after in zip(spans, ends, strict=True):
        seen, gap = clipped(span.begin, span.end), clipped(span.end, after)
        if not span.billed:
            off += seen + gap
        elif after - span.end <= NEAR:
            billed += seen + gap
        else:
            billed, unseen = billed + seen, unseen + gap
    return Hours(billed, off, unseen)


def bill(found: Hours, rates: Rates) -> Bill:
    """The hours in money. Saved is what the hours that it was off would have cost."""
    each = rates.machine
    whole = found.billed + found.off + found.unseen
    return Bill(
        machine=None if each is None else found.billed * each,
        unseen=None if each is None else found.unseen * each,
        saved=None if each is None else found.off * each,
        standing=None if rates.standing is None else whole / MONTH * rates.standing,
    )


def state(spent: float | None, budget: float | None) -> State:
    """Whether the budget is used up; what is unknown uses up none."""
    if spent is None or budget is None or spent < SOON * budget:
        return State.UNDER
    return State.OVER if spent >= budget else State.NEAR


def priced(sizes: Iterable[float | None]) -> float | None:
    """The sum of prices; None if there is one that is unknown."""
    found = list(sizes)
    known = [price for price in found if price is not None]
    return sum(known) if len(known) == len(found) else None
