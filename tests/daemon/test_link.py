"""The link: reaches for the machine when it is wanted, and leaves it alone when it is not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import pytest

from devsync.daemon import link as module
from devsync.daemon import supervisor
from devsync.daemon.board import Board, LinkFacts
from devsync.daemon.link import Link
from devsync.daemon.supervisor import Supervisor
from devsync.ports import Address, Connection, DevsyncError, NeedsUser, Power, Unavailable
from tests.daemon.rig import PATIENCE, until
from tests.fakes.clock import HandWoundClock
from tests.fakes.connection import FakeConnection
from tests.fakes.machine import MemoryMachine

HERE, THERE = Address("10.0.0.1", 22, "vm"), Address("10.0.0.2", 22, "vm")


class Rig:
    """A link in a thread, and the way to a machine. `refusals` are what the next connections meet."""

    def __init__(self) -> None:
        self.machine = MemoryMachine(Power.DEALLOCATED, HERE)
        self.board, self.clock = Board(), HandWoundClock()
        self.refusals: dict[str, DevsyncError] = {}
        self.tried: list[str] = []
        self.made: queue.Queue[FakeConnection] = queue.Queue()
        self.supervisor = Supervisor(self.board)
        self.link = Link(self.machine, self.connect, self.board, self.clock)

    def connect(self, address: Address) -> Connection:
        self.tried.append(address.host)
        if address.host in self.refusals:
            raise self.refusals[address.host]
        connection = FakeConnection()
        self.made.put(connection)
        return connection

    def start(self) -> FakeConnection:
        self.supervisor.add(self.link, reports=True)
        return self.connected()

    def connected(self) -> FakeConnection:
        connection = self.made.get(timeout=PATIENCE)
        self.state("connected")
        return connection

    def state(self, state: str) -> LinkFacts:
        until(lambda: self.facts.state == state, f"'{state}' instead of {self.facts}")
        return self.facts

    @property
    def trouble(self) -> str:
        """What keeps the link from its work, if it is not trying again just now."""
        trouble = self.board.read().troubles.get("link")
        return trouble.message if trouble is not None else ""

    @property
    def facts(self) -> LinkFacts:
        return self.board.read().link


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.01)
    monkeypatch.setattr(module, "BEAT", 0.01)
    made = Rig()
    yield made
    made.supervisor.stop()


def test_a_machine_that_is_off_is_started_and_let_go_with_all_connections(rig: Rig) -> None:
    first = rig.start()
    assert rig.machine.commands == ["start"]
    facts = rig.facts
    assert (facts.power, facts.billed, facts.host, facts.rtt) == ("running", True, "10.0.0.1", 0.041)
    other = rig.link.open_another(threading.Event())
    assert isinstance(other, FakeConnection)
    rig.link.deallocate(threading.Event())
    assert first.closed and other.closed
    assert rig.machine.power() is Power.DEALLOCATED
    facts = rig.state("off")
    assert (facts.power, facts.billed) == ("deallocated", False)
    assert not rig.link.wanted
    assert rig.link.connection(0) is None
    rig.link.wake()
    rig.made.get(timeout=PATIENCE)
    assert rig.connected()
    assert rig.machine.commands == ["start", "deallocate", "start"]


def test_a_machine_that_somebody_switched_off_stays_off_until_it_runs_again(rig: Rig) -> None:
    connection = rig.start()
    rig.machine.put(Power.DEALLOCATED)
    rig.refusals[HERE.host] = Unavailable("no answer")
    connection.lose()
    assert rig.state("off").power == "deallocated"
    reads = rig.machine.reads
    until(lambda: rig.machine.reads > reads + 2, "a look at its state now and then")
    assert rig.machine.commands == ["start"]
    rig.refusals.clear()
    rig.machine.put(Power.RUNNING)
    rig.connected()
    assert rig.machine.commands == ["start"], "somebody else did that"


def test_a_missing_machine_needs_the_user(rig: Rig) -> None:
    rig.machine.put(Power.MISSING)
    rig.supervisor.add(rig.link, reports=True)
    until(lambda: "link" in rig.board.read().troubles)
    trouble = rig.board.read().troubles["link"]
    assert (trouble.message, trouble.needs_user) == ("the machine does not exist", True)
    rig.machine.put(Power.DEALLOCATED)
    rig.supervisor.retry()
    rig.connected()
    assert not rig.board.read().troubles


def test_stopped_but_billed_is_said_and_not_started(rig: Rig) -> None:
    connection = rig.start()
    rig.machine.put(Power.STOPPED)
    rig.refusals[HERE.host] = Unavailable("no answer")
    connection.lose()
    until(lambda: "still billed" in rig.trouble)
    assert rig.board.read().troubles["link"].needs_user
    assert (rig.facts.power, rig.facts.billed) == ("stopped", True)
    assert rig.machine.commands == ["start"]
    rig.refusals.clear()
    rig.link.wake()
    rig.supervisor.retry()
    rig.connected()
    assert rig.machine.commands == ["start", "start"]


def test_a_lost_link_tries_the_last_address_first(rig: Rig) -> None:
    rig.start()
    reads = rig.machine.reads
    rig.machine.move(THERE)
    rig.link.connection(0).lose("reset")  # type: ignore[union-attr]  # it is a fake, and there
    rig.made.get(timeout=PATIENCE)
    rig.state("connected")
    assert (rig.tried, rig.machine.reads) == (["10.0.0.1", "10.0.0.1"], reads), "the cloud was not asked"


@pytest.mark.parametrize("error", [Unavailable("no answer"), NeedsUser("the host key has changed")])
def test_a_machine_that_moved_is_found(rig: Rig, error: DevsyncError) -> None:
    connection = rig.start()
    rig.machine.move(THERE)
    rig.refusals[HERE.host] = error
    connection.lose()
    rig.connected()
    assert rig.tried == ["10.0.0.1", "10.0.0.1", "10.0.0.2"]
    assert rig.facts.host == "10.0.0.2"


def test_ssh_that_does_not_answer_yet_is_no_fault_of_a_booting_machine(rig: Rig) -> None:
    rig.refusals[HERE.host] = Unavailable("connection refused")
    rig.supervisor.add(rig.link, reports=True)
    until(lambda: rig.facts.progress == "waiting for SSH to answer")
    rig.clock.advance(module.BOOT + 1)
    until(lambda: rig.trouble == "connection refused")
    rig.refusals.clear()
    rig.connected()
    until(lambda: rig.facts.progress == "")


def test_a_deallocation_waits_for_a_start_that_is_under_way(rig: Rig) -> None:
    rig.machine.hold()
    rig.supervisor.add(rig.link, reports=True)
    until(lambda: rig.machine.commands == ["start"])
    letting_go = rig.supervisor.spawn("deallocate", lambda: rig.link.deallocate(threading.Event()))
    until(lambda: not rig.link.wanted)
    assert rig.machine.commands == ["start"]
    rig.machine.release()
    letting_go.join(PATIENCE)
    assert rig.machine.commands == ["start", "deallocate"]
    rig.state("off")
    assert rig.link.connection(0) is None
    while not rig.made.empty():
        assert rig.made.get().closed, "what was opened too late is closed"


def test_a_wake_during_a_deallocation_starts_it_afterwards(rig: Rig) -> None:
    rig.start()
    rig.machine.hold()
    letting_go = rig.supervisor.spawn("deallocate", lambda: rig.link.deallocate(threading.Event()))
    until(lambda: rig.machine.commands == ["start", "deallocate"])
    rig.link.wake()
    rig.machine.release()
    letting_go.join(PATIENCE)
    rig.connected()
    assert rig.machine.commands == ["start", "deallocate", "start"]


def test_a_machine_that_could_not_be_let_go_is_not_taken_for_one_that_was_started(rig: Rig) -> None:
    rig.start()
    rig.machine.fail("deallocate", DevsyncError("a lock forbids it"))
    with pytest.raises(DevsyncError, match="a lock forbids it"):
        rig.link.deallocate(threading.Event())
    reads = rig.machine.reads
    until(lambda: rig.machine.reads > reads + 2)
    assert not rig.link.wanted
    assert rig.facts.billed
    rig.link.resume()
    rig.connected()
    assert rig.machine.commands == ["start"]


def test_resume_starts_nothing(rig: Rig) -> None:
    rig.start()
    rig.link.deallocate(threading.Event())
    reads = rig.machine.reads
    rig.link.resume()
    rig.refusals[HERE.host] = Unavailable("no answer")
    until(lambda: rig.machine.reads > reads + 2)
    rig.state("off")
    assert rig.machine.commands == ["start", "deallocate"]


def test_open_another_is_closed_by_a_rest_that_comes_in_between(rig: Rig) -> None:
    rig.start()
    connect, opened = rig.link._connect, []
    stop = threading.Event()

    def slow(address: Address) -> Connection:
        rig.link.rest()
        stop.set()
        opened.append(connect(address))
        return opened[-1]

    rig.link._connect = slow
    with pytest.raises(Unavailable):
        rig.link.open_another(stop)
    assert isinstance(opened[0], FakeConnection)
    assert opened[0].closed


def test_what_takes_the_same_way_goes_with_the_link(rig: Rig) -> None:
    connection = rig.start()
    other = rig.link.open_another(threading.Event())
    connection.lose("no heartbeat")
    assert isinstance(other, FakeConnection)
    until(lambda: other.closed)


def test_an_end_sets_free_whoever_waits_for_a_connection(rig: Rig) -> None:
    rig.machine.put(Power.MISSING)
    rig.supervisor.add(rig.link, reports=True)
    got: list[Connection | None] = []
    waiting = rig.supervisor.spawn("tunnel", lambda: got.append(rig.link.connection(60.0)))
    rig.supervisor.stop()
    waiting.join(PATIENCE)
    assert got == [None]
