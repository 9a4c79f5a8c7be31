"""How hard is compressed follows how much is under way."""

from __future__ import annotations

import pytest

from devsync.replica import codec
from devsync.replica.press import DRY, FULL, LEVELS, SAMPLE, Press

TEXT = b"the quick brown fox jumps over the lazy dog\n" * 1000


def told(press: Press, under_way: int, times: int) -> Press:
    for _ in range(times * SAMPLE):
        press.sent(under_way)
    return press


def test_a_link_that_runs_dry_is_given_the_fastest_and_a_slow_one_the_hardest() -> None:
    assert told(Press(codec.openers()), 0, 10).level == LEVELS[0]
    assert told(Press(codec.openers()), FULL + 1, 10).level == LEVELS[-1]
    assert told(Press(codec.openers()), (DRY + FULL) // 2, 10).level == 3


def test_one_block_decides_nothing() -> None:
    press = Press(codec.openers())
    for under_way in (0, *[FULL] * (SAMPLE - 1)):
        press.sent(under_way)
    assert press.level == 3


@pytest.mark.parametrize("under_way", [0, FULL + 1])
def test_the_other_end_opens_every_level(under_way: int) -> None:
    press = Press(codec.openers())
    for _ in range(len(LEVELS)):
        assert press.pack is not None
        assert codec.openers()[press.codec](press.pack(TEXT), len(TEXT)) == TEXT
        told(press, under_way, 1)


def test_what_the_other_end_cannot_open_is_not_sent() -> None:
    assert Press([codec.RAW]).pack is None
    zlib = Press([codec.RAW, codec.ZLIB])
    assert zlib.codec == codec.ZLIB
    assert zlib.pack is not None
    assert codec.openers()[codec.ZLIB](zlib.pack(TEXT), len(TEXT)) == TEXT
