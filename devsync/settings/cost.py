"""The table [cost]: what a month may cost, and what happens then; and the kind of a price."""

from __future__ import annotations

import math
from dataclasses import dataclass

from devsync.settings import schema
from devsync.settings.schema import Kind, setting


def _money(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"must be a number without quotes, not {schema.is_called(value)}")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"must be more than 0, not {value}")
    return float(value)


MONEY = Kind("number, more than 0", _money)


@dataclass(frozen=True, slots=True)
class CostConfig:
    """[cost]: in the currency of the prices"""

    monthly_budget: float | None = setting(
        MONEY, None, "what the machine may cost in a month (UTC); you are told at 80 %", example=200
    )
    budget_action: str = setting(
        schema.choice("warn", "deallocate"),
        "warn",
        "past it: warn | deallocate (after a warning, as when idle)",
    )
