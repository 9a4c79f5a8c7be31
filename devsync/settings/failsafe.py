"""The table [failsafe]: who deallocates the machine when this computer does not."""

from __future__ import annotations

from dataclasses import dataclass

from devsync.core.lease import LONGEST, SHORTEST
from devsync.settings import schema
from devsync.settings.schema import Kind, setting


def _lease(value: object) -> float | None:
    seconds = schema.DURATION_OR_OFF.read(value)
    if seconds is not None and not SHORTEST <= seconds <= LONGEST:
        raise ValueError("must be from 1h to 23h, since Azure's switch fires once a day")
    return seconds


LEASE = Kind('duration, 1h to 23h, or `"off"`', _lease)

ALONE = 12 * 3600.0
"""Seconds of the lease, if nothing is said, while no watchdog on the machine can push it at night."""


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {schema.is_called(value)}")
    return value


@dataclass(frozen=True, slots=True)
class FailsafeConfig:
    """[failsafe]: seconds"""

    lease: float | None = setting(
        LEASE, "3h", "Azure itself deallocates after such a silence; 12h without a watchdog"
    )
    schedule: str = setting(
        schema.choice("keep", "ours"),
        "keep",
        "keep (an auto-shutdown that is yours is left alone) | ours (devsync moves it, and gives it back)",
    )
    watchdog: bool = setting(
        Kind("true or false", _bool), True, "the machine deallocates itself when it is idle and you are away"
    )
    lease_alone: float | None = ALONE
    """The lease while no watchdog works: as `lease` if that was said."""
