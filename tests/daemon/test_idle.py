"""The idle keeper, look by look on a hand-wound clock: warn, call off, flush, deallocate, try again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta

import pytest

from devsync.core.idle import Policy
from devsync.core.observation import PROBED, Observation, Sample, Thresholds
from devsync.daemon.activities import Activities, Kept
from devsync.daemon.board import Board, IdleFacts, LinkFacts, SyncFacts
from devsync.daemon.engine import Permission
from devsync.daemon.farewell import FLUSH, Farewell, time_of_day
from devsync.daemon.idle import FIRST_RETRY, SETTLES, EndOfDay, IdleKeeper
from devsync.daemon.inbox import Inbox, Synchronised
from devsync.daemon.link import Link
from devsync.daemon.observed import Observed
from devsync.ports import Connection, DevsyncError, Power, Unavailable
from tests.daemon.rig import PATIENCE, until
from tests.fakes.clock import HandWoundClock
from tests.fakes.machine import MemoryMachine

AFTER, WARN = 2700.0, 300.0


class Answering(Inbox):
    """Answers each request at once, as `answer` says."""

    def __init__(self, events: list[str]) -> None:
        super().__init__(0)
        self._events = events
        self.answer: Callable[[Future[Synchronised]], None] = lambda reply: reply.set_result(
            Synchronised((), {})
        )

    def request(self, permission: Permission | None = None) -> Future[Synchronised]:
        self._events.append("flush")
        reply: Future[Synchronised] = Future()
        self.answer(reply)
        return reply


class People:
    """A notifier."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notify(self, title: str, text: str) -> None:
        self.told.append(f"{title}: {text}")


class Rig:
    def __init__(
        self,
        *,
        obey: bool = True,
        after: float | None = AFTER,
        modes: dict[str, str] | None = None,
        end_of_day: EndOfDay | None = None,
        quiet: tuple[float, float] | None = None,
    ) -> None:
        self.clock, self.board, self.people = HandWoundClock(), Board(), People()
        self.saved: list[Kept] = []
        self.whispered: list[str] = []
        self.noted: list[str] = []
        self.observed = Observed(self.clock, Thresholds())
        self.activities = Activities(self.clock, None, self.saved.append)
        self.machine = MemoryMachine(Power.RUNNING)
        self.link = Link(self.machine, _nobody, self.board, self.clock)
        self.inbox = Answering(self.machine.commands)
        self.stop = threading.Event()
        self.connected()
        self.keeper = IdleKeeper(
            policy=Policy(after, WARN),
            check=30.0,
            obey=obey,
            activities=self.activities,
            link=self.link,
            board=self.board,
            clock=self.clock,
            farewell=Farewell(
                inbox=self.inbox,
                clock=self.clock,
                notifier=self.people,
                whisper=self.whispered.append,
                quiet=quiet,
            ),
            observed=None if modes is None else self.observed,
            modes=modes,
            end_of_day=end_of_day,
            note=lambda signals: self.noted.extend(one.name for one in signals if one.active),
        )

    def saw(self, **levels: float) -> None:
        """The machine was seen just now: percent of use, and nothing else."""
        rest = [Observation(name, levels.get(name, 0.0), f"{levels.get(name, 'none')}") for name in PROBED]
        self.observed.take([Sample(self.clock.monotonic(), tuple(rest))])

    def connected(self) -> None:
        self.board.post(link=LinkFacts("connected", 0.04, "running", True, "vm"))

    def look(self, after: float = 0.0) -> IdleFacts:
        self.clock.advance(after)
        self.keeper.look(self.stop)
        return self.board.read().idle

    def looking(self) -> threading.Thread:
        """A look that takes a while, in a thread of its own."""
        thread = threading.Thread(target=self.look)
        thread.start()
        return thread

    def later(self, seconds: float) -> None:
        """Time passes, and the bell rings."""
        self.clock.advance(seconds)
        self.keeper.interrupt()

    @property
    def shouts(self) -> int:
        return len([text for text in self.people.told if "STILL BILLED" in text])

    def warned(self) -> None:
        self.look()
        assert self.look(AFTER).warned


def _nobody(address: object) -> Connection:
    raise Unavailable("nobody is there")


@pytest.fixture
def rig() -> Iterator[Rig]:
    yield Rig()


def test_quiet_long_enough_warns_flushes_and_deallocates(rig: Rig) -> None:
    shown = rig.look()
    assert shown.verdict["verdict"] == "busy"
    assert shown.verdict["deallocate_at"] == "2026-01-01T00:50:00Z"
    assert not rig.look(AFTER - 1).warned
    shown = rig.look(1)
    assert shown.warned
    assert (shown.verdict["verdict"], shown.verdict["deallocate_at"]) == ("idle", "2026-01-01T00:50:00Z")
    assert ["it ends in 5 min (devsync keepalive 2h" in text for text in rig.people.told] == [True]
    assert rig.whispered == rig.people.told, "in the terminals, too"
    rig.look(WARN - 1)
    assert rig.machine.commands == []
    shown = rig.look(1)
    assert rig.machine.commands == ["flush", "deallocate"]
    assert (shown.verdict, shown.warned, shown.failure) == ({}, False, None)
    assert rig.board.read().link.power == "deallocated", "read back"
    assert not rig.link.wanted


@pytest.mark.parametrize("work", ["local-edits", "remote-edits", "jobs", "keepalive", "synchronising"])
def test_work_after_the_warning_calls_it_off(rig: Rig, work: str) -> None:
    rig.warned()
    rig.clock.advance(10)
    if work == "jobs":
        rig.activities.running(+1)
    elif work == "keepalive":
        rig.activities.keep_until(rig.clock.now() + timedelta(hours=2))
    elif work == "synchronising":
        rig.board.post(sync=replace(SyncFacts(), activity="synchronising"))
    else:
        rig.activities.seen(work)
    shown = rig.look()
    assert (shown.warned, shown.verdict["verdict"]) == (False, "busy")
    rig.look(WARN)
    assert rig.machine.commands == []


def test_work_that_begins_during_the_last_flush_calls_it_off(rig: Rig) -> None:
    rig.warned()

    def answer(reply: Future[Synchronised]) -> None:
        rig.activities.seen("local-edits")
        reply.set_result(Synchronised((), {}))

    rig.inbox.answer = answer
    shown = rig.look(WARN)
    assert rig.machine.commands == ["flush"]
    assert (shown.warned, shown.verdict["verdict"]) == (False, "busy")
    rig.look(AFTER)
    assert rig.machine.commands == ["flush"], "first there is another warning"


def test_a_flush_that_is_refused_does_not_keep_the_machine(rig: Rig) -> None:
    rig.warned()
    rig.inbox.answer = lambda reply: reply.set_exception(Unavailable("lost"))
    rig.look(WARN)
    assert rig.machine.commands == ["flush", "deallocate"]


def test_a_flush_that_takes_too_long_does_not_keep_the_machine(rig: Rig) -> None:
    rig.warned()
    rig.inbox.answer = lambda reply: None  # nobody answers
    rig.clock.advance(WARN)
    thread = rig.looking()
    until(lambda: rig.machine.commands == ["flush"])
    while thread.is_alive():
        rig.later(FLUSH / 10)
        thread.join(0.01)
    assert rig.machine.commands == ["flush", "deallocate"]


def test_a_stop_during_the_last_flush_ends_it(rig: Rig) -> None:
    rig.warned()
    rig.inbox.answer = lambda reply: None  # nobody answers
    rig.clock.advance(WARN)
    thread = rig.looking()
    until(lambda: rig.machine.commands == ["flush"])
    rig.stop.set()
    rig.keeper.interrupt()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert rig.machine.commands == ["flush"]


def test_a_refusal_is_shown_and_tried_again_less_and_less_often(rig: Rig) -> None:
    rig.warned()
    rig.machine.fail("deallocate", DevsyncError("a lock forbids it", hint="remove the lock"), times=2)
    rig.clock.advance(WARN)
    thread = rig.looking()
    for number, pause in enumerate((FIRST_RETRY, 2 * FIRST_RETRY), 1):
        until(lambda number=number: rig.shouts == number)  # type: ignore[misc]  # bound now
        assert rig.board.read().idle.failure == "a lock forbids it"
        rig.later(pause - 1)
        assert rig.machine.commands == ["flush"]
        rig.later(1)
    thread.join(PATIENCE)
    assert rig.machine.commands == ["flush", "deallocate"]
    assert rig.board.read().idle.failure is None
    assert rig.shouts == 2


def test_a_wake_ends_the_tries(rig: Rig) -> None:
    rig.warned()
    rig.machine.fail("deallocate", DevsyncError("a lock forbids it"), times=9)
    rig.clock.advance(WARN)
    thread = rig.looking()
    until(lambda: rig.board.read().idle.failure)
    rig.link.wake()
    rig.keeper.interrupt()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert rig.board.read().idle.failure is None
    rig.connected()
    assert rig.look().verdict["verdict"] == "busy"
    assert not rig.look(AFTER - 1).warned, "the time of quiet begins anew"


def test_a_stop_ends_the_tries(rig: Rig) -> None:
    rig.warned()
    rig.machine.fail("deallocate", DevsyncError("a lock forbids it"), times=9)
    rig.clock.advance(WARN)
    thread = rig.looking()
    until(lambda: rig.board.read().idle.failure)
    rig.stop.set()
    rig.keeper.interrupt()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_a_machine_out_of_reach_is_no_idle_one(rig: Rig) -> None:
    rig.warned()
    rig.board.post(link=replace(rig.board.read().link, state="connecting"))
    assert rig.look(WARN) == IdleFacts()
    rig.connected()
    rig.look(AFTER)
    assert not rig.look(AFTER - 1).warned, "the time of quiet begins anew"
    assert rig.look(1).warned
    assert rig.machine.commands == []


@pytest.mark.parametrize("rig", [Rig(obey=False), Rig(after=None)], ids=["obey", "never"])
def test_a_verdict_that_nobody_obeys_is_only_shown(rig: Rig) -> None:
    rig.look()
    shown = rig.look(AFTER + WARN)
    assert shown.verdict["deallocate_at"] is None
    assert not shown.warned
    rig.look(WARN)
    assert rig.machine.commands == []
    assert rig.people.told == []


def test_a_keepalive_is_saved_shown_and_passes(rig: Rig) -> None:
    until_then = rig.clock.now() + timedelta(hours=2)
    rig.activities.keep_until(until_then)
    assert rig.saved == [until_then]
    assert rig.look().keepalive_until == "2026-01-01T02:00:00Z"
    later = Activities(rig.clock, until_then, rig.saved.append)
    assert later.keepalive() == until_then, "a restart does not forget it"
    assert not rig.look(AFTER).warned
    rig.clock.advance(2 * 3600 - AFTER)
    assert rig.look().keepalive_until is None
    assert later.keepalive() is None
    rig.activities.keep_until(None)
    assert rig.saved == [until_then, None]


def test_the_signals_are_those_of_the_contract(rig: Rig) -> None:
    rig.activities.running(+1)
    rig.activities.seen("local-edits")
    shown = rig.look(60)
    signals = shown.verdict["signals"]
    assert isinstance(signals, list)
    assert all(
        set(signal) == {"name", "busy", "value", "threshold", "since", "error", "counts"}
        for signal in signals
    )
    by_name = {signal["name"]: signal for signal in signals}
    assert set(by_name) == {"local-edits", "remote-edits", "jobs", "keepalive"}
    assert by_name["local-edits"]["since"] == "2026-01-01T00:00:00Z"
    assert (by_name["jobs"]["busy"], by_name["jobs"]["value"]) == (True, "1 running")
    rig.activities.running(-1)
    assert rig.look(AFTER - 1).verdict["verdict"] == "busy", "quiet counts from the end of the job"


def quiet_until_the_end(rig: Rig) -> None:
    """A warning has been given, and its time is over; the flush is answered."""
    rig.saw()
    rig.look()
    rig.clock.advance(AFTER)
    rig.saw()
    assert rig.look().warned
    rig.clock.advance(WARN)
    rig.saw()


@pytest.mark.parametrize("level, let_go", [(0.0, True), (99.0, False)])
def test_the_last_look_is_at_a_fresh_sample(level: float, let_go: bool) -> None:
    rig = Rig(modes={})
    quiet_until_the_end(rig)
    rig.clock.advance(1)
    thread = rig.looking()
    until(rig.observed.hurried)
    rig.clock.advance(1)
    rig.saw(cpu=level)
    thread.join(PATIENCE)
    assert rig.machine.commands == (["flush", "deallocate"] if let_go else ["flush"])
    assert not rig.observed.hurried()


def test_a_machine_that_is_not_seen_again_is_not_let_go() -> None:
    rig = Rig(modes={})
    quiet_until_the_end(rig)
    rig.clock.advance(1)
    thread = rig.looking()
    until(rig.observed.hurried)
    rig.observed.lose("the machine is out of reach")
    thread.join(PATIENCE)
    assert rig.machine.commands == ["flush"]
    assert not rig.board.read().idle.warned


def test_a_signal_can_be_off_or_advisory() -> None:
    rig = Rig(modes={"cpu": "off", "gpu": "advisory"})
    rig.saw(cpu=99, gpu=99)
    shown = rig.look()
    signals = shown.verdict["signals"]
    assert isinstance(signals, list)
    by_name = {signal["name"]: signal for signal in signals}
    assert "cpu" not in by_name
    assert (by_name["gpu"]["busy"], by_name["gpu"]["counts"]) == (True, False)
    rig.clock.advance(AFTER)
    rig.saw(cpu=99, gpu=99)
    assert rig.look().warned


def test_what_the_machine_does_not_tell_is_busy() -> None:
    rig = Rig(modes={})
    assert rig.look().verdict["reason"] == "sessions cannot be read: nothing was heard of the machine yet"
    rig.saw()
    rig.look()
    assert rig.look(AFTER).verdict["verdict"] == "busy", "silent for so long"


def test_it_looks_when_the_bell_rings_and_ends_when_told(rig: Rig) -> None:
    thread = threading.Thread(target=rig.keeper.run, args=(rig.stop,))
    thread.start()
    until(lambda: rig.board.read().idle.verdict)
    rig.later(AFTER)
    until(lambda: rig.board.read().idle.warned)
    rig.stop.set()
    rig.keeper.interrupt()
    thread.join(PATIENCE)
    assert not thread.is_alive()


# ---------------------------------------------------------------- what is told, and when


def test_what_is_told_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The notifier logs what it shows; the keeper leaves that to it."""
    rig.warned()
    assert not [record for record in caplog.records if "it ends in" in record.getMessage()]


def test_in_quiet_hours_nobody_is_disturbed(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(quiet=(0.0, 86399.0))
    rig.warned()
    assert (rig.people.told, rig.whispered) == ([], [])
    assert "it ends in 5 min" in caplog.text
    rig.machine.fail("deallocate", DevsyncError("a lock forbids it"), times=9)
    rig.clock.advance(WARN)
    thread = rig.looking()
    until(lambda: rig.shouts == 1)
    rig.stop.set()
    rig.keeper.interrupt()
    thread.join(PATIENCE)


def test_what_ends_and_what_stays_there_is_named() -> None:
    rig = Rig(modes={})
    quiet_until_the_end(rig)
    rig.observed.take(
        [Sample(rig.clock.monotonic(), (Observation("jupyter-kernels", 0.0, "0 busy of 1 kernel: a.ipynb"),))]
    )
    rig.inbox.answer = lambda reply: reply.set_result(Synchronised(("both.py",), {"big.bin": "held back"}))
    rig.look()
    assert rig.machine.commands == ["flush", "deallocate"]
    last = rig.board.read().idle.last
    assert last["ended"] == ["jupyter-kernels: 0 busy of 1 kernel: a.ipynb"]
    assert last["left"] == {"both.py": "a conflict is open", "big.bin": "held back"}
    assert "only on its disk: big.bin, both.py" in rig.people.told[-1]


# ---------------------------------------------------------------- a computer that sleeps


def test_a_computer_that_wakes_up_begins_with_a_look(rig: Rig) -> None:
    """It sleeps through the end of the warning. The machine may have worked all night."""
    rig.warned()
    rig.look(WARN - 1)
    rig.clock.sleep(9 * 3600)
    assert not rig.look(1).warned
    assert rig.look(AFTER - 1).verdict["verdict"] == "busy", "the time of quiet begins anew"
    assert rig.machine.commands == []
    assert rig.look(1).warned
    rig.look(WARN)
    assert rig.machine.commands == ["flush", "deallocate"]


def test_a_sleep_through_the_end_of_the_day_is_no_end(rig: Rig) -> None:
    rig = Rig(end_of_day=at(3600.0))
    rig.look()
    rig.clock.sleep(2 * 3600)
    assert not rig.look(30).warned


# ---------------------------------------------------------------- the end of the day


def at(seconds: float, *, waits: bool = True) -> EndOfDay:
    """So long after the clock of the tests began, by the time of day here."""
    midnight = time_of_day(HandWoundClock().now())
    return EndOfDay((midnight + seconds) % 86400, waits)


def test_the_day_ends_for_who_is_there_after_a_warning() -> None:
    rig = Rig(end_of_day=at(3600.0))
    rig.look()
    for _ in range(119):
        rig.activities.seen("local-edits")
        assert not rig.look(30).warned
    rig.activities.seen("local-edits")
    assert rig.look(31).warned
    assert "the end of the day; it ends in 5 min" in rig.people.told[0]
    rig.activities.seen("local-edits")
    rig.look(WARN)
    assert rig.machine.commands == ["flush", "deallocate"]
    rig.link.wake()
    rig.connected()
    assert not rig.look(60).warned, "who works on in the evening may"


def test_a_keepalive_puts_the_end_of_the_day_off() -> None:
    rig = Rig(end_of_day=at(3600.0))
    rig.look()
    assert rig.look(3600.0).warned
    rig.activities.keep_until(rig.clock.now() + timedelta(hours=1))
    assert not rig.look(WARN).warned
    rig.activities.seen("local-edits")
    assert rig.look(3600.0).warned
    assert rig.machine.commands == []


@pytest.mark.parametrize("waits", [True, False])
def test_what_runs_is_awaited_unless_told_otherwise(waits: bool) -> None:
    rig = Rig(end_of_day=at(3600.0, waits=waits))
    rig.activities.detached(1)
    rig.activities.jobs({"0a1b2c3d": "training"})
    rig.look()
    assert rig.look(3600.0).warned is not waits
    rig.look(WARN)
    if waits:
        assert rig.machine.commands == []
        rig.activities.detached(0)
        rig.activities.jobs({})
        assert rig.look(30).warned
        rig.look(WARN)
    assert rig.machine.commands == ["flush", "deallocate"]
    assert rig.board.read().idle.last["ended"] == ([] if waits else ["job training"])


# ---------------------------------------------------------------- then deallocate


def test_released_it_goes_at_once(rig: Rig) -> None:
    rig.look()
    rig.activities.seen("jobs")
    done = rig.keeper.release()
    rig.look(1)
    assert rig.machine.commands == ["flush", "deallocate"]
    assert done.result(0) == ""


def test_released_it_stays_for_what_works() -> None:
    rig = Rig(modes={})
    rig.saw(cpu=99)
    rig.look()
    done = rig.keeper.release()
    thread = rig.looking()
    while not done.done():
        rig.saw(cpu=99)
        rig.later(SETTLES / 4)
    thread.join(PATIENCE)
    assert done.result(0) == "cpu: 99"
    assert rig.machine.commands == []


def test_released_what_the_command_leaves_behind_is_waited_for() -> None:
    rig = Rig(modes={})
    rig.saw(cpu=99)
    rig.look()
    done = rig.keeper.release()
    thread = rig.looking()
    until(rig.observed.hurried)
    rig.saw(cpu=99)
    until(rig.observed.hurried)
    while not done.done():
        rig.saw()
        rig.later(1.0)
    thread.join(PATIENCE)
    assert done.result(0) == ""
    assert rig.machine.commands == ["flush", "deallocate"]


def test_who_waits_for_a_release_is_told_why_not(rig: Rig) -> None:
    rig.look()
    away = rig.keeper.release()
    rig.board.post(link=replace(rig.board.read().link, state="connecting"))
    rig.look()
    assert away.result(0) == "the machine is out of reach"
    rig.stop.set()
    stopped = rig.keeper.release()
    rig.keeper.run(rig.stop)
    with pytest.raises(Unavailable):
        stopped.result(0)
    host = Rig(obey=False)
    plain = host.keeper.release()
    host.look()
    assert plain.result(0) == "its power is not devsync's to switch"


# ---------------------------------------------------------------- kept for a job


def test_a_machine_is_kept_until_a_job_has_ended(rig: Rig) -> None:
    rig.activities.jobs({"0a1b2c3d": "training"})
    rig.activities.keep_until("0a1b2c3d")
    assert rig.saved == ["0a1b2c3d"]
    assert rig.look().verdict["reason"] == "keepalive: until job 0a1b2c3d has ended"
    rig.activities.jobs(None)
    rig.activities.jobs({})
    assert rig.activities.kept_for() == "0a1b2c3d", "that list may be older than the wish"
    rig.activities.jobs({})
    assert rig.activities.kept_for() is None
    assert rig.saved == ["0a1b2c3d", None]
    assert not rig.look().warned
