"""Times, sizes and shares as people write them: `45m`, `20:00`, `2GiB`, `10%`."""

from __future__ import annotations

import re

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

_NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z%]*)", re.ASCII)


def duration(text: str) -> float:
    """Seconds: `200ms`, `30s`, `45m`, `2h`, `1d`, `1.5h`. Raises ValueError."""
    return _measure(text, SECONDS, "45m")


def size(text: str) -> int:
    """Bytes: `4096B`, `512KiB`, `2GiB`. Raises ValueError."""
    return round(_measure(text, BYTES, "512KiB"))


def share(text: str) -> float:
    """A part of a whole, from 0 to 1: `10%`. Raises ValueError."""
    part = _measure(text, {"%": 0.01}, "10%")
    if part > 1:
        raise ValueError("is more than 100%")
    return part


def time_of_day(text: str) -> float:
    """Seconds since midnight: `20:00`. Raises ValueError."""
    match = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])", text, re.ASCII)
    if match is None:
        raise ValueError("is no time of day like 20:00")
    return int(match[1]) * SECONDS["h"] + int(match[2]) * SECONDS["m"]


def hours(text: str) -> tuple[float, float]:
    """From when to when of each day, as seconds since midnight: `22:00-07:00`. Raises ValueError."""
    first, dash, last = text.partition("-")
    try:
        begin, end = time_of_day(first), time_of_day(last)
    except ValueError:
        raise ValueError("is not written like 22:00-07:00") from None
    if not dash or begin == end:
        raise ValueError("is no part of a day")
    return begin, end


def show_duration(seconds: float) -> str:
    """The shortest writing that `duration` reads back: `90m`, `1h`, `0.2s` is `200ms`."""
    thousandths = round(seconds * 1000)
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(thousandths, round(SECONDS[unit] * 1000))
        if count and not rest:
            return f"{count}{unit}"
    return f"{thousandths}ms" if thousandths else "0s"


def show_size(count: int) -> str:
    """Bytes for people, three digits or so: `40GiB`, `1.52MiB`, `12B`."""
    unit = next((unit for unit in reversed(BYTES) if count >= BYTES[unit]), "B")
    return f"{round(count / BYTES[unit], 2):.4g}{unit}"


def _measure(text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"is not written like {example}")
    number, unit = match.groups()
    if unit not in units:
        named = ", ".join(units)
        raise ValueError(
            f"has the unknown unit '{unit}' (known: {named})" if unit else f"needs a unit: {named}"
        )
    return float(number) * units[unit]
