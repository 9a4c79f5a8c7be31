"""The keeper of the lease and our side of the watchdog, look by look on a hand-wound clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from devsync.daemon.board import Board, FailsafeFacts, LinkFacts
from devsync.daemon.lease import EVERY, RETRY, LeaseKeeper
from devsync.daemon.watchdog import UNSETTLED, Attendance, Standing
from devsync.ports import Unavailable
from tests.fakes.clock import HandWoundClock

HOUR = 3600.0


@dataclass
class Until:
    until: float | None
    note: str = ""


class Switch:
    """A lease that notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[float | None] = []
        self.fails = False

    def renew(self, length: float) -> Until:
        self.asked.append(length)
        if self.fails:
            raise Unavailable("Azure is away")
        return Until(1_790_000_000.0)

    def release(self) -> None:
        self.asked.append(None)

    def close(self) -> None:
        pass


class Rig:
    def __init__(self, lengths: tuple[float | None, float | None] = (3 * HOUR, 12 * HOUR)) -> None:
        self.clock, self.board, self.switch = HandWoundClock(), Board(), Switch()
        self.told: list[str] = []
        self.standing = Standing()
        self.keeper = LeaseKeeper(
            open_lease=lambda: self.switch,
            lengths=lengths,
            after=2700.0,
            unreachable=2 * HOUR,
            standing=lambda: self.standing,
            board=self.board,
            clock=self.clock,
            notifier=self,
        )
        self.link("connected")

    def notify(self, title: str, text: str) -> None:
        self.told.append(f"{title}: {text}")

    def link(self, state: str, billed: bool = True) -> None:
        self.board.post(link=LinkFacts(state, None, "running", billed, "vm"))

    def look(self, after: float = 0.0) -> FailsafeFacts:
        self.clock.advance(after)
        self.keeper.look()
        return self.board.read().failsafe


def test_the_lease_is_held_while_the_machine_is_within_reach() -> None:
    rig = Rig()
    assert not rig.look().settled
    rig.standing = Standing("")
    shown = rig.look()
    assert rig.switch.asked == [12 * HOUR, 3 * HOUR], "the longer one until the watchdog is known"
    assert shown.settled
    assert (shown.watchdog, shown.lease_until) == ("on", "2026-09-21T14:13:20Z")
    assert "45 min after its end the machine deallocates itself" in shown.lines[0]
    rig.look(EVERY - 1)
    rig.link("connecting")
    rig.look(2 * EVERY)
    assert len(rig.switch.asked) == 2, "silence"
    rig.link("connected")
    rig.look()
    assert len(rig.switch.asked) == 3


def test_without_a_watchdog_it_says_what_a_closed_laptop_means() -> None:
    rig = Rig()
    rig.standing = Standing("the VM has no managed identity")
    (line,) = rig.look().lines
    assert line == (
        "with the laptop closed for 12 h 0 min, Azure deallocates it, whatever runs "
        "(no watchdog: the VM has no managed identity)"
    )


def test_a_failure_is_shown_and_tried_again() -> None:
    rig = Rig()
    rig.switch.fails = True
    assert "Azure is away" in rig.look().lines[-1]
    rig.look(RETRY - 1)
    assert len(rig.switch.asked) == 1
    rig.switch.fails = False
    assert "Azure is away" not in rig.look(1).lines[-1]


def test_off_gives_it_back_once() -> None:
    rig = Rig((None, None))
    rig.standing = Standing("switched off")
    rig.look()
    assert "billed on" in rig.look(2 * EVERY).lines[0]
    assert rig.switch.asked == [None]


def test_a_machine_that_is_billed_and_out_of_reach_is_told_of() -> None:
    rig = Rig()
    rig.link("connecting")
    rig.look()
    rig.look(2 * HOUR - 1)
    assert rig.told == []
    rig.look(1)
    rig.look(60)
    assert ["could not be reached for 2 h 0 min" in text for text in rig.told] == [True]
    rig.link("connecting", billed=False)
    rig.look(9 * HOUR)
    assert len(rig.told) == 1


def test_the_watchdog_hears_of_us_and_we_of_it_once() -> None:
    rig = Rig()
    asked: list[dict[str, Any]] = []
    answer: dict[str, Any] = {}
    rings: list[int] = []

    def ask(verb: str, **arguments: Any) -> Any:
        asked.append({"verb": verb, **arguments})
        return answer

    attendance = Attendance(
        project="0123abcd",
        order={"after": 1.0},
        keepalive=lambda: None,
        clock=rig.clock,
        notifier=rig,
        changed=lambda: rings.append(1),
    )

    def attend(after: float) -> Standing:
        rig.clock.advance(after)
        attendance.attend(ask)
        return attendance.standing

    assert attend(0).lacks == UNSETTLED
    answer["check"] = {"ok": True, "why": "", "age": 1.0}
    answer["idle"] = {"ok": True, "why": "the last sign of work was \x1bcpu, 45 min ago", "age": 3600.0}
    standing = attend(1)
    assert standing.works
    assert standing.did == (
        "the watchdog deallocated the machine at 2025-12-31 23:00 UTC: "
        "the last sign of work was ?cpu, 45 min ago",
    )
    attend(1)
    assert len(asked) == 2, "it is not time"
    attend(30)
    assert [one["told"] for one in asked] == [False, False, True]
    assert asked[-1]["order"] == {"after": 1.0, "keep": 0}
    assert len(rig.told) == 1
    answer["check"] = {}
    assert "no sense" in attend(30).lacks
    assert rings
