"""The daemon's own record, and both records told together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from devsync.core.idle import Policy
from devsync.core.observation import Observation, Sample, Thresholds
from devsync.daemon import diary as diaries
from devsync.daemon.activities import Activities
from devsync.daemon.diary import STEP, Diary
from devsync.daemon.idle_history import IdleHistory
from devsync.ports import Misuse, Unavailable
from tests.fakes.clock import HandWoundClock


class Rig:
    def __init__(self, folder: Path) -> None:
        self.clock, self.file = HandWoundClock(), folder / "work.log"
        self.activities = Activities(self.clock, None, lambda _kept: None)
        self.diary = Diary(self.file, self.clock)
        self.theirs: list[Sample] | None = []
        self.history = IdleHistory(
            diary=self.diary,
            recorded=self.recorded,
            thresholds=Thresholds(),
            policy=Policy(2700.0, 300.0),
            modes={},
            clock=self.clock,
        )

    def recorded(self, within: float) -> list[Sample]:
        if self.theirs is None:
            raise Unavailable("the machine is out of reach")
        return self.theirs

    def note(self, after: float = 0.0) -> None:
        self.clock.advance(after)
        self.diary.note(self.activities.signals())

    @property
    def lines(self) -> int:
        return len(self.file.read_text().splitlines())


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_only_news_is_written_and_a_line_for_five_minutes(rig: Rig) -> None:
    rig.note()
    rig.note(30.0)
    assert rig.lines == 1
    rig.activities.seen("local-edits")
    rig.note(30.0)
    assert rig.lines == 2
    rig.note(STEP)
    assert rig.lines == 3
    first, second, third = rig.diary.read(3600.0)
    assert (first.at, second.at, third.at) == (-STEP - 60, -STEP, 0.0)
    assert [one.age for one in second.observations if one.name == "local-edits"] == [30.0]
    assert rig.diary.read(100.0) == [third]


def test_a_torn_line_and_a_full_disk_lose_a_line_only(rig: Rig, tmp_path: Path) -> None:
    rig.note()
    with rig.file.open("a") as file:
        file.write('[12.0,[["jobs"')
        file.write("\n")
    rig.note(STEP)
    assert len(rig.diary.read(3600.0)) == 2
    Diary(tmp_path / "gone" / "work.log", rig.clock).note(rig.activities.signals())


def test_too_much_is_thinned(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diaries, "LARGEST", 4000)
    for _ in range(50):
        rig.note(diaries.KEPT / 10)
    assert 1 <= rig.lines <= 20
    assert rig.diary.read(2 * diaries.KEPT)


def test_both_records_are_told_together(rig: Rig) -> None:
    rig.activities.seen("local-edits")
    for _ in range(24):
        rig.note(STEP)
    rig.theirs = [
        Sample(-7200.0 + number * 60.0, (Observation("cpu", 90.0 if number < 10 else 1.0, "x"),))
        for number in range(121)
    ]
    told = rig.history.tell(86400.0, None)
    assert told["away"] is told["stops"] is None
    shown = told["spans"]
    assert isinstance(shown, list)
    assert [one["signal"] for one in shown] == ["cpu"]
    again = rig.history.tell(86400.0, {"after": 1200.0, "warn": 60.0, "cpu": 30.0, "gpu": "off"})
    stops = again["stops"]
    assert isinstance(stops, list)
    (stop,) = stops
    began = rig.clock.now() - timedelta(hours=2)
    assert stop["quiet_since"] == (began + timedelta(minutes=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert stop["at"] == (began + timedelta(minutes=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_machine_out_of_reach_is_said(rig: Rig) -> None:
    rig.theirs = None
    assert rig.history.tell(60.0, None)["away"] == "the machine is out of reach"


@pytest.mark.parametrize("wish", [{"gpu": "perhaps"}, {"nothing": 1.0}, {"after": True}, {"sessions": 3.0}])
def test_what_cannot_be_replayed(rig: Rig, wish: dict[str, object]) -> None:
    with pytest.raises(Misuse, match="nothing to replay"):
        rig.history.tell(60.0, wish)
