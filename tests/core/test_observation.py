"""From what the machine's probes saw to signs of work: samples in, signals out, on a clock of the test's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.idle import Policy, Signal, judge
from devsync.core.observation import (
    OLD,
    PROBED,
    SILENT,
    Observation,
    Sample,
    Thresholds,
    follow,
    signals,
)

USUAL = Thresholds()


def cpu(level: float) -> Observation:
    return Observation("cpu", level, f"{level:.0f} % of a core", doing="train has used a core")


def read(samples: Sequence[Sample], now: float, thresholds: Thresholds = USUAL) -> dict[str, Signal]:
    tracks = follow({}, samples, thresholds)
    return {signal.name: signal for signal in signals(tracks, thresholds, now)}


def at(*moments: tuple[float, Observation]) -> list[Sample]:
    return [Sample(moment, (seen,)) for moment, seen in moments]


def test_a_burst_between_two_looks_is_remembered() -> None:
    found = read(at((0, cpu(3)), (10, cpu(90)), (20, cpu(3))), now=25)["cpu"]
    assert (found.active, found.last, found.since, found.error) == (False, 10, None, "")


def test_what_goes_on_has_a_beginning() -> None:
    found = read(at((0, cpu(3)), (10, cpu(90)), (20, cpu(80)), (30, cpu(70))), now=70)["cpu"]
    assert (found.active, found.since) == (True, 10)
    assert found.story(70) == "train has used a core for 1 min"


def test_the_probe_knows_better_when_it_began() -> None:
    seen = Observation(
        "jupyter-kernels", 1, "1 busy kernel", since=11_520, doing="kernel train.ipynb has run"
    )
    found = read(at((100, seen)), now=100)["jupyter-kernels"]
    assert found.story(100) == "kernel train.ipynb has run for 3 h 12 min"


def test_what_happened_before_the_look_has_its_own_time() -> None:
    seen = Observation("sessions", 0, "1 open", age=600)
    found = read(at((1000, seen)), now=1005)["sessions"]
    assert (found.active, found.last) == (False, 400)
    assert found.busy(2700, 1005) and not found.busy(600, 1005)


def test_the_same_samples_by_other_thresholds() -> None:
    samples = at((0, cpu(25)))
    assert read(samples, 5)["cpu"].active
    assert not read(samples, 5, Thresholds(cpu=30))["cpu"].active


@pytest.mark.parametrize("level, active", [(20.0, False), (20.1, True), (None, False)])
def test_over_means_over(level: float | None, active: bool) -> None:
    assert USUAL.over(Observation("cpu", level)) is active


def test_an_error_is_busy_and_leaves_its_time() -> None:
    broken = Observation("gpu", error="nvidia-smi did not answer within 10 s")
    found = read(at((0, broken)), 5)["gpu"]
    assert found.error and found.busy(2700, 5)
    found = read(at((0, broken), (10, Observation("gpu", 0, "0 %"))), 15)["gpu"]
    assert (found.error, found.last) == ("", 0)


def test_a_note_is_shown_once_it_is_old() -> None:
    idle = Observation("gpu", 0, "0 %", note="python (7) holds 9 MiB, unused")
    busy = Observation("gpu", 50, "50 %")
    assert read(at((0, busy), (10, idle)), 20)["gpu"].value == "0 %"
    later = at((0, busy), (1900, idle))
    assert read(later, 1910)["gpu"].value == "0 %; python (7) holds 9 MiB, unused"


def test_silence_is_unknown() -> None:
    samples = [Sample(0, tuple(Observation(name, 0, "0") for name in PROBED))]
    assert not any(signal.error for signal in read(samples, SILENT).values())
    found = read(samples, SILENT + 1)
    assert {signal.error for signal in found.values()} == {"nothing was heard of the machine for 61 s"}
    assert {signal.error for signal in read([], 0).values()} == {"nothing was heard of the machine yet"}
    assert {signal.error for signal in signals({}, USUAL, 0, unknown="no Python")} == {"no Python"}


def test_a_probe_that_stopped_is_unknown_while_others_go_on() -> None:
    found = read(at((0, cpu(0)), (OLD + 1, Observation("gpu", 0, "0 %"))), OLD + 2)
    assert (found["cpu"].error, found["gpu"].error) == ("it was not looked at", "")


def test_every_signal_is_there_and_names_its_threshold() -> None:
    found = read([], 0)
    assert tuple(found) == PROBED
    shown = [found[name].threshold for name in ("cpu", "gpu", "network", "jupyter-kernels", "sessions")]
    assert shown == ["20 %", "5 %", "1 MiB/s", "0 busy", "input or output"]


@pytest.mark.parametrize("row", [None, [], ["cpu"] * 8, ["cpu", True, "", None, None, "", "", ""]])
def test_what_is_no_observation(row: object) -> None:
    with pytest.raises(ValueError, match=r"no observation|no number|without words"):
        Observation.from_json(row)


_level = st.one_of(st.none(), st.floats(0, 1000))
_seen = st.builds(Observation, st.sampled_from(PROBED), _level, st.just("v"), st.one_of(st.none(), _level))


@given(_seen)
def test_an_observation_survives_the_way(seen: Observation) -> None:
    assert Observation.from_json(seen.to_json()) == seen


@given(st.lists(_seen, max_size=30), st.floats(5, 600))
def test_nobody_is_let_go_while_anything_was_over_its_threshold(
    seen: list[Observation], after: float
) -> None:
    samples = [Sample(10.0 * number, (one,)) for number, one in enumerate(seen)]
    now = 10.0 * len(samples)
    verdict = judge(list(read(samples, now).values()), Policy(after, 0), started=-1e9, now=now)
    worked = [sample.at for sample in samples if USUAL.over(sample.observations[0])]
    if worked and now - worked[-1] < after:
        assert verdict.busy
