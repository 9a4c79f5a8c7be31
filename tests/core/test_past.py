"""The record read again: what was busy when, what other settings would have done; a day's hours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devsync.core import quantity
from devsync.core.idle import Policy, Signal, closing, passed, within
from devsync.core.observation import Observation, Sample, Thresholds
from devsync.core.past import HOLE, MOMENT, replay, seen, spans

HOUR = 3600.0
POLICY = Policy(2700.0, 300.0)
OVER = Thresholds()


def every(step: float, end: float, level: Callable[[float], float], begin: float = 0.0) -> list[Sample]:
    """Samples of one signal."""
    count = int((end - begin) / step)
    moments = [begin + number * step for number in range(count + 1)]
    return [Sample(at, (Observation("cpu", level(at), f"{level(at):.0f} %"),)) for at in moments]


def test_a_time_of_work_is_drawn_from_the_look_before_it() -> None:
    samples = every(60.0, HOUR, lambda at: 90.0 if 600 <= at <= 900 else 3.0)
    assert [(one.name, one.begin, one.end) for one in spans(samples, OVER)] == [("cpu", 540.0, 900.0)]
    assert spans(samples, Thresholds(cpu=95.0)) == []


def test_an_event_is_a_moment_and_an_error_is_work() -> None:
    edit = Observation("local-edits", 0.0, "none now", age=20.0)
    broken = Observation("gpu", error="it hangs")
    found = spans([Sample(0.0, (edit,)), Sample(300.0, (edit, broken))], OVER)
    assert [(one.name, one.begin, one.end) for one in found] == [
        ("gpu", 300.0 - MOMENT, 300.0),
        ("local-edits", -20.0, 0.0),
        ("local-edits", 280.0, 300.0),
    ]
    assert found[0].story == "cannot be read: it hangs"


def test_a_hole_is_not_known() -> None:
    samples = [*every(60.0, HOUR, lambda _: 0.0), *every(60.0, 3 * HOUR, lambda _: 0.0, 2 * HOUR)]
    assert seen(samples) == [(0.0, HOUR), (2 * HOUR, 3 * HOUR)]


def test_a_night_would_have_been_slept_through() -> None:
    """Work until one, then again from nine."""
    samples = every(30.0, 10 * HOUR, lambda at: 90.0 if at <= HOUR or at >= 9 * HOUR else 1.0)
    (stop,) = replay(samples, OVER, POLICY, {})
    assert (stop.at, stop.quiet_since, stop.until) == (HOUR + 3000.0, HOUR, 9 * HOUR)
    assert stop.reason == "the last sign of work was cpu, 50 min before"
    (sooner,) = replay(samples, OVER, Policy(1200.0, 60.0), {})
    assert sooner.at == HOUR + 1260.0
    assert replay(samples, OVER, Policy(None, 300.0), {}) == []
    assert len(replay(samples, Thresholds(cpu=0.5), POLICY, {})) == 0, "then it was busy all the time"
    assert replay(samples, OVER, POLICY, {"cpu": "off"})[0].at == 3000.0, "then it is nobody's work"


def test_what_is_not_known_is_no_idleness() -> None:
    """The machine was off, or nobody looked: the time of quiet begins anew."""
    quiet = every(60.0, 2000.0, lambda _: 0.0)
    later = every(60.0, 2000.0 + HOLE + 2900.0, lambda _: 0.0, 2000.0 + HOLE + 1)
    assert replay([*quiet, *later], OVER, POLICY, {}) == []


def test_what_was_thinned_still_says_when_there_was_work() -> None:
    """A look for five minutes: work within the last of them counts from when it was."""
    samples = every(300.0, 2700.0, lambda _: 0.0)
    burst = Sample(3000.0, (Observation("cpu", 1.0, age=100.0),))
    assert replay([*samples, burst], OVER, POLICY, {}) == []
    assert len(replay([*samples, *every(300.0, 3000.0, lambda _: 0.0, 3000.0)], OVER, POLICY, {})) == 1


# ---------------------------------------------------------------- hours


@pytest.mark.parametrize(
    "text, seconds", [("00:00", 0.0), ("20:00", 72_000.0), ("07:30", 27_000.0), ("23:59", 86_340.0)]
)
def test_a_time_of_day(text: str, seconds: float) -> None:
    assert quantity.time_of_day(text) == seconds


@pytest.mark.parametrize("text", ["24:00", "8:00", "20.00", "20:60", "", "２0:00", "20:00 "])
def test_no_time_of_day(text: str) -> None:
    with pytest.raises(ValueError, match="no time of day"):
        quantity.time_of_day(text)


@pytest.mark.parametrize("text", ["22:00", "22:00-", "22:00-22:00", "a-b"])
def test_no_hours(text: str) -> None:
    with pytest.raises(ValueError):
        quantity.hours(text)


@pytest.mark.parametrize(
    "hour, inside", [(21.9, False), (22.0, True), (23.5, True), (3.0, True), (6.9, True), (7.0, False)]
)
def test_hours_beyond_midnight(hour: float, inside: bool) -> None:
    assert within(quantity.hours("22:00-07:00"), hour * HOUR) is inside
    assert not within(None, hour * HOUR)


@pytest.mark.parametrize(
    "clock, elapsed, over",
    [(72_000.0, 30, True), (72_029.0, 30, True), (72_030.0, 30, False), (71_999, 30, False)],
)
def test_the_end_of_the_day_passes_once(clock: float, elapsed: float, over: bool) -> None:
    assert passed(72_000.0, clock, elapsed) is over


# ---------------------------------------------------------------- the end of the day


def sign(name: str, *, active: bool = True, counts: bool = True) -> Signal:
    return Signal(name, active, "something", "nothing", counts=counts)


@pytest.mark.parametrize(
    "name, waits, busy",
    [
        ("local-edits", True, False),
        ("sessions", True, False),
        ("cpu", True, False),
        ("jobs", True, True),
        ("jupyter-kernels", True, True),
        ("containers", True, True),
        ("jobs", False, False),
        ("keepalive", True, True),
        ("keepalive", False, True),
    ],
)
def test_what_keeps_a_machine_at_the_end_of_the_day(name: str, waits: bool, busy: bool) -> None:
    verdict = closing([sign(name)], POLICY, waits=waits, reason="it is late", now=100.0)
    assert verdict.busy is busy
    assert verdict.reason == (f"{name}: something" if busy else "it is late")
    assert verdict.deallocate_at == (None if busy else 400.0)
    assert verdict.signals == (sign(name),), "shown as it is"


def test_what_does_not_count_keeps_nothing_at_the_end_of_the_day() -> None:
    assert not closing([sign("jobs", counts=False)], POLICY, waits=True, reason="late", now=0.0).busy
