"""What was measured, beside what was aimed at: as a table for people, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum


class Compare(Enum):
    """What is held against the limit."""

    ALONE = "alone"
    RATIO = "ratio"
    RATIO_AT_LEAST = "ratio at least"
    DIFFERENCE = "difference"
    SHARE = "share"


@dataclass(frozen=True)
class Figure:
    """One line of the table: devsync's figure and that of `against`, a peer or what it is a part of.

    `limit` is the target, in the unit of `result`; None where there is none. `others` are for reference
    only: seconds, None where one was given up.
    """

    work: str
    line: str
    devsync: float
    unit: str
    limit: float | None
    compare: Compare = Compare.ALONE
    against: str = ""
    theirs: float = 0.0
    others: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def result(self) -> float:
        """What is held against the limit: a ratio, a difference, or the figure itself."""
        match self.compare:
            case Compare.ALONE:
                return self.devsync
            case Compare.DIFFERENCE:
                return self.devsync - self.theirs
            case Compare.RATIO | Compare.RATIO_AT_LEAST | Compare.SHARE:
                return self.devsync / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.limit is None:
            return None
        if self.compare is Compare.RATIO_AT_LEAST:
            return self.result >= self.limit
        return self.result <= self.limit

    def as_json(self) -> dict[str, object]:
        """All of it, and what follows from it."""
        plain = {**asdict(self), "compare": self.compare.value, "others": dict(self.others)}
        return {**plain, "result": self.result, "met": self.met}


def from_json(document: Mapping[str, object]) -> Figure:
    """What `as_json` made."""
    known = {name: value for name, value in document.items() if name not in ("result", "met")}
    return Figure(**{**known, "compare": Compare(document["compare"])})  # type: ignore[arg-type]  # as it was


def table(figures: Iterable[Figure]) -> Iterator[str]:
    """The figures in Markdown."""
    yield "| work | line | devsync | beside | result | target | met |"
    yield "|---|---|---|---|---|---|---|"
    for each in figures:
        sign = "≥" if each.compare is Compare.RATIO_AT_LEAST else "≤"
        beside = f"{each.against} {_number(each.theirs, each.unit)}" if each.against else ""
        result = _result(each, each.result) if each.against else ""
        target = "" if each.limit is None else f"{sign} {_result(each, each.limit)}"
        met = {True: "yes", False: "**no**", None: ""}[each.met]
        ours = _number(each.devsync, each.unit)
        yield f"| {each.work} | {each.line} | {ours} | {beside} | {result} | {target} | {met} |"


def references(figures: Iterable[Figure]) -> Iterator[str]:
    """What other programs took for the same, in Markdown; nothing if none was there."""
    found = [each for each in figures if each.others]
    names = sorted({name for each in found for name in each.others})
    if not names:
        return
    yield f"| work | line | devsync | {' | '.join(names)} |"
    yield "|---" * (3 + len(names)) + "|"
    for each in found:
        cells = [_reference(each, name) for name in names]
        ours = _number(each.devsync, each.unit)
        yield f"| {each.work} | {each.line} | {ours} | {' | '.join(cells)} |"


def _reference(figure: Figure, name: str) -> str:
    if name not in figure.others:
        return "not installed"
    took = figure.others[name]
    return "given up" if took is None else _number(took, figure.unit)


def _result(figure: Figure, value: float) -> str:
    match figure.compare:
        case Compare.RATIO | Compare.RATIO_AT_LEAST:
            return f"{value:.2f} ×"
        case Compare.SHARE:
            return f"{100 * value:.1f} %"
        case Compare.DIFFERENCE:
            return f"{value:+.2f} {figure.unit}"
        case Compare.ALONE:
            return _number(value, figure.unit)


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value / 1e6:.2f} MB"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {unit}"
