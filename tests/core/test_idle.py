"""Busy or idle, minute by minute."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.idle import Action, Policy, Signal, act, judge, lasting

POLICY = Policy(after=2700.0, warn=300.0)
NEVER = Policy(after=None, warn=300.0)


def quiet(name: str = "cpu", last: float | None = None) -> Signal:
    return Signal(name, False, "3 %", "20 %", last)


def active(name: str = "gpu", last: float | None = None) -> Signal:
    return Signal(name, True, "97 %", "5 %", last)


def broken(name: str = "jupyter-kernels") -> Signal:
    return Signal(name, False, "?", "0 busy", error="connection refused")


# ---------------------------------------------------------------- judge


@pytest.mark.parametrize(
    "last, now, busy",
    [
        (None, 2699.9, True),  # a machine that just started has its grace
        (None, 2700.0, False),
        (1000.0, 3699.9, True),
        (1000.0, 3700.0, False),
        (-9999.0, 2699.9, True),  # what was before the start does not shorten the grace
        (5000.0, 4000.0, True),  # a clock that is ahead
    ],
)
def test_quiet_for_long_enough(last: float | None, now: float, busy: bool) -> None:
    assert judge([quiet(last=last)], POLICY, started=0.0, now=now).busy is busy


def test_the_last_sign_of_any_signal_counts() -> None:
    signals = [quiet("cpu", 100.0), quiet("local-edits", 900.0), quiet("sessions")]
    verdict = judge(signals, POLICY, started=50.0, now=1000.0)
    assert verdict.quiet_since == 900.0
    assert verdict.deallocate_at == 900.0 + 2700.0 + 300.0
    assert verdict.reason == "the last sign of work was local-edits, 1 min ago"
    assert verdict.signals == tuple(signals)


@pytest.mark.parametrize(
    "sign, reason",
    [(active(), "gpu: 97 %"), (broken(), "jupyter-kernels cannot be read: connection refused")],
)
def test_one_active_or_unreadable_signal_is_enough(sign: Signal, reason: str) -> None:
    for signals in ([quiet(), sign], [sign, quiet()]):
        verdict = judge(signals, POLICY, started=0.0, now=1e6)
        assert verdict.busy
        assert (verdict.quiet_since, verdict.deallocate_at) == (1e6, None)
        assert verdict.reason == reason


def test_busy_even_if_idle_after_no_time_at_all() -> None:
    at_once = Policy(after=0.0, warn=0.0)
    assert judge([active()], at_once, started=0.0, now=0.0).busy
    assert judge([broken()], at_once, started=0.0, now=0.0).busy
    assert not judge([quiet()], at_once, started=0.0, now=0.0).busy


def test_never() -> None:
    for signals in ([], [quiet()], [active()], [broken()]):
        verdict = judge(signals, NEVER, started=0.0, now=1e9)
        assert verdict.busy
        assert verdict.deallocate_at is None
        assert verdict.reason == "idle.after is 'never'"


@pytest.mark.parametrize("signals", [[], [quiet()], [quiet(last=-5.0)], [quiet(last=0.0)]])
def test_nothing_since_the_start(signals: list[Signal]) -> None:
    verdict = judge(signals, POLICY, started=0.0, now=10.0)
    assert verdict.busy
    assert (verdict.quiet_since, verdict.deallocate_at) == (0.0, 3000.0)
    assert verdict.reason == "nothing was seen yet"


def test_what_works_explains_more_than_what_is_unknown() -> None:
    kernel = Signal(
        "jupyter-kernels",
        True,
        "1 busy kernel: train.ipynb",
        "0 busy",
        since=-11_520.0,
        doing="kernel train.ipynb has run",
    )
    verdict = judge([broken("gpu"), kernel], POLICY, started=0.0, now=0.0)
    assert verdict.reason == "kernel train.ipynb has run for 3 h 12 min"


def test_what_is_advisory_is_shown_and_does_not_count() -> None:
    signals = [replace(active(), counts=False), replace(broken(), counts=False), quiet()]
    verdict = judge(signals, POLICY, started=0.0, now=2700.0)
    assert not verdict.busy
    assert verdict.signals == tuple(signals)


def test_an_event_is_busy_while_it_is_recent_and_a_level_while_it_is_high() -> None:
    typed = replace(quiet("sessions", 1000.0), event=True)
    assert typed.busy(2700.0, 3699.0) and not typed.busy(2700.0, 3700.0)
    assert typed.busy(None, 1e9)
    assert not quiet("cpu", 1000.0).busy(2700.0, 1001.0)
    assert active().busy(0.0, 0.0) and broken().busy(0.0, 0.0)


@pytest.mark.parametrize(
    "seconds, shown",
    [
        (-1, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (11_520, "3 h 12 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_length_of_time(seconds: float, shown: str) -> None:
    assert lasting(seconds) == shown


_times = st.one_of(st.none(), st.floats(-1e4, 1e4))
_signals = st.lists(
    st.builds(
        Signal,
        st.just("s"),
        st.booleans(),
        st.just("v"),
        st.just("t"),
        _times,
        st.sampled_from(["", "", "no"]),
    ),
    max_size=4,
)


@given(_signals, st.floats(0, 1e4), st.floats(0, 1e4), st.integers(0, 3))
def test_more_signs_of_work_never_make_it_idle(
    signals: list[Signal], started: float, passed: float, which: int
) -> None:
    now = started + passed
    verdict = judge(signals, POLICY, started, now)
    assert verdict.quiet_since >= started
    if not verdict.busy:
        assert passed >= 2700.0
        assert all(
            not s.active and not s.error and (s.last is None or now - s.last >= 2700.0) for s in signals
        )
    for sign in (active(), broken(), quiet(last=now)):
        assert judge([*signals, sign], POLICY, started, now).busy
    if which < len(signals):
        signals[which] = replace(signals[which], error="lost")
        assert judge(signals, POLICY, started, now).busy


# ---------------------------------------------------------------- act

IDLE = judge([quiet()], POLICY, started=0.0, now=2700.0)
BUSY = judge([active()], POLICY, started=0.0, now=2700.0)


@pytest.mark.parametrize(
    "idle, warned_at, now, action",
    [
        (False, None, 0.0, Action.NOTHING),
        (True, None, 2700.0, Action.WARN),
        (True, None, 9999.0, Action.WARN),  # however late: nobody is switched off unwarned
        (True, 2700.0, 2999.9, Action.NOTHING),
        (True, 2700.0, 3000.0, Action.DEALLOCATE),
        (True, 2700.0, 9999.0, Action.DEALLOCATE),  # and again, should it have failed
        (False, 2700.0, 2800.0, Action.CALL_OFF),
        (False, 2700.0, 3000.0, Action.CALL_OFF),  # work in the last moment still counts
    ],
)
def test_act(idle: bool, warned_at: float | None, now: float, action: Action) -> None:
    assert act(IDLE if idle else BUSY, POLICY, warned_at, now) is action


def test_even_without_a_warning_time_there_is_a_second_look() -> None:
    at_once = Policy(after=0.0, warn=0.0)
    idle = judge([quiet()], at_once, started=0.0, now=0.0)
    assert act(idle, at_once, None, 0.0) is Action.WARN
    assert act(idle, at_once, 0.0, 0.0) is Action.DEALLOCATE


def test_switched_off_in_the_middle_of_a_warning() -> None:
    verdict = judge([quiet()], NEVER, started=0.0, now=1e6)
    assert act(verdict, NEVER, 2700.0, 1e6) is Action.CALL_OFF


def test_a_night() -> None:
    """A training ends at 100 s; a warning; somebody types; it is quiet again until the end."""
    warned: float | None = None
    seen = []
    for now in range(0, 12_000, 30):
        signals = [
            active() if now < 100 else quiet(last=90.0),
            quiet("sessions", 3000.0 if now >= 3000 else None),
        ]
        match act(judge(signals, POLICY, 0.0, float(now)), POLICY, warned, float(now)):
            case Action.WARN:
                warned = float(now)
                seen.append((now, "warn"))
            case Action.CALL_OFF:
                warned = None
                seen.append((now, "call off"))
            case Action.DEALLOCATE:
                seen.append((now, "deallocate"))
                break
    assert seen == [(2790, "warn"), (3000, "call off"), (5700, "warn"), (6000, "deallocate")]
