"""Times, sizes and shares: what is read, what is refused, and that what is shown is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.quantity import duration, share, show_duration, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("0s", 0),
        ("30s", 30),
        ("45m", 2700),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5h", 5400),
        ("5 m", 300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "-5m", "5M", "5min", "1h30m", "١m", "1e3s", "inf", "nan", "5m\n", " 5m"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not written like|unit"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "count"), [("1B", 1), ("512KiB", 1 << 19), ("2GiB", 1 << 31), ("1.5MiB", 3 << 19)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["2GB", "2", "2 gib", "-1B"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not written like|unit"):
        size(text)


def test_shares() -> None:
    assert share("10%") == pytest.approx(0.1)
    assert share("0%") == 0
    assert share("100%") == 1
    with pytest.raises(ValueError, match="more than 100%"):
        share("101%")
    with pytest.raises(ValueError, match="unit"):
        share("10")


@given(st.integers(0, 10**10))
def test_what_is_shown_is_read_back(thousandths: int) -> None:
    assert duration(show_duration(thousandths / 1000)) == pytest.approx(thousandths / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.2, "200ms"), (60, "1m"), (90, "90s"), (5400, "90m"), (172800, "2d")]
)
def test_the_shortest_writing(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text
