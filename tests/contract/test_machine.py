"""What every machine promises (ports.Machine). A new kind of machine adds its bench to BENCHES."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

import pytest

from devsync.machine.azure import AzureMachine, AzureSettings
from devsync.machine.embedded import EmbeddedMachine
from devsync.machine.embedded_state import Record
from devsync.ports import Machine, NeedsUser, Power, Unavailable
from tests.fakes import az
from tests.fakes.arm import GROUP, SUBSCRIPTION, VM_NAME, Arm, Vm, World
from tests.fakes.machine import MemoryMachine


@dataclass
class Bench:
    """A machine, and how a test gets at it from behind.

    `put` forces one of `states`; `commands` are the starts and deallocations that were really given; after
    `hold` these never finish, which is None where that cannot be had.
    """

    machine: Machine
    put: Callable[[Power], None]
    commands: Callable[[], list[str]]
    hold: Callable[[], None] | None
    states: frozenset[Power]


@contextmanager
def memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    machine = MemoryMachine()
    yield Bench(machine, machine.put, lambda: machine.commands, machine.hold, frozenset(Power))


@contextmanager
def azure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("PATH", str(az.install(folder / "bin").folder), prepend=":")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    vm = Vm()
    world = World(vm)

    def put(power: Power) -> None:
        if power is Power.MISSING:
            world.vms.clear()
        else:
            world.put(vm, None if power is Power.UNKNOWN else power.value)
            # A state on the way is somebody else's operation, which comes to its end.
            verb = {"starting": "start", "deallocating": "deallocate", "stopping": "powerOff"}.get(
                power.value
            )
            if verb is not None:
                world.command(vm, verb)

    def commands() -> list[str]:
        return [entry for entry in world.log if entry in ("start", "deallocate")]

    def hold() -> None:
        world.by_polls = False

    with Arm(folder, world) as arm:
        settings = AzureSettings(SUBSCRIPTION, GROUP, VM_NAME, "cli", arm.url, arm.ca)
        machine = AzureMachine(settings, interval=0.005, deadline=5)
        yield Bench(machine, put, commands, hold, frozenset(Power))
        machine.close()


@contextmanager
def embedded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    machine, owner = WatchedMachine(folder / "machine"), EmbeddedMachine(folder / "machine")
    never = threading.Event()

    def put(power: Power) -> None:
        change = owner.start if power is Power.RUNNING else owner.deallocate
        change(never, lambda line: None)

    try:
        yield Bench(
            machine, put, lambda: machine.commands, None, frozenset({Power.RUNNING, Power.DEALLOCATED})
        )
    finally:
        owner.deallocate(never, lambda line: None)


class WatchedMachine(EmbeddedMachine):
    """One that notes what it does to the process."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.commands: list[str] = []

    def _boot(self, stop: threading.Event, deadline: float) -> None:
        self.commands.append("start")
        super()._boot(stop, deadline)

    def _signal(self, record: Record, number: Signals) -> None:
        self.commands.append("deallocate")
        super()._signal(record, number)


BENCHES: dict[str, Callable[[Path, pytest.MonkeyPatch], AbstractContextManager[Bench]]] = {
    "memory": memory,
    "azure": azure,
    "embedded": embedded,
}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with BENCHES[request.param](tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def put(bench: Bench, power: Power) -> None:
    if power not in bench.states:
        pytest.skip(f"this machine cannot be put into {power.value}")
    bench.put(power)


@pytest.mark.parametrize("power", list(Power))
def test_the_state_is_read_from_the_source(bench: Bench, power: Power) -> None:
    put(bench, power)
    assert bench.machine.power() is power
    assert bench.commands() == []


@pytest.mark.parametrize("power", [Power.DEALLOCATED, Power.STOPPED])
def test_start_returns_when_it_runs(bench: Bench, stop: threading.Event, power: Power) -> None:
    put(bench, power)
    lines: list[str] = []
    bench.machine.start(stop, lines.append)
    assert bench.machine.power() is Power.RUNNING
    assert bench.commands() == ["start"]
    assert lines
    assert all(one != other for one, other in itertools.pairwise(lines))


def test_start_of_what_runs_does_nothing(bench: Bench, stop: threading.Event) -> None:
    put(bench, Power.RUNNING)
    bench.machine.start(stop, lambda line: None)
    assert bench.commands() == []


def test_start_waits_for_a_start_that_is_on_its_way(bench: Bench, stop: threading.Event) -> None:
    put(bench, Power.STARTING)
    bench.machine.start(stop, lambda line: None)
    assert bench.machine.power() is Power.RUNNING
    assert bench.commands() == []


@pytest.mark.parametrize("power", [Power.DEALLOCATING, Power.STOPPING])
def test_start_waits_for_the_end_of_a_stop(bench: Bench, stop: threading.Event, power: Power) -> None:
    put(bench, power)
    bench.machine.start(stop, lambda line: None)
    assert bench.machine.power() is Power.RUNNING
    assert bench.commands() == ["start"]


@pytest.mark.parametrize("power", [Power.RUNNING, Power.STOPPED, Power.UNKNOWN])
def test_deallocate_returns_when_that_is_read_back(bench: Bench, stop: threading.Event, power: Power) -> None:
    put(bench, power)
    bench.machine.deallocate(stop, lambda line: None)
    assert bench.machine.power() is Power.DEALLOCATED
    assert bench.commands() == ["deallocate"]


@pytest.mark.parametrize("power", [Power.STARTING, Power.STOPPING])
def test_deallocate_gets_there_from_a_state_on_the_way(
    bench: Bench, stop: threading.Event, power: Power
) -> None:
    put(bench, power)
    bench.machine.deallocate(stop, lambda line: None)
    assert bench.machine.power() is Power.DEALLOCATED


@pytest.mark.parametrize("power", [Power.DEALLOCATED, Power.DEALLOCATING])
def test_deallocate_gives_no_command_twice(bench: Bench, stop: threading.Event, power: Power) -> None:
    put(bench, power)
    bench.machine.deallocate(stop, lambda line: None)
    assert bench.machine.power() is Power.DEALLOCATED
    assert bench.commands() == []


@pytest.mark.parametrize("call", ["start", "deallocate"])
def test_a_machine_that_is_gone_needs_the_user(bench: Bench, stop: threading.Event, call: str) -> None:
    put(bench, Power.MISSING)
    with pytest.raises(NeedsUser):
        getattr(bench.machine, call)(stop, lambda line: None)


@pytest.mark.parametrize(("call", "power"), [("start", Power.DEALLOCATED), ("deallocate", Power.RUNNING)])
def test_nothing_is_begun_after_stop(bench: Bench, stop: threading.Event, call: str, power: Power) -> None:
    put(bench, power)
    stop.set()
    with pytest.raises(Unavailable):
        getattr(bench.machine, call)(stop, lambda line: None)
    assert bench.commands() == []
    assert bench.machine.power() is power


@pytest.mark.parametrize(("call", "power"), [("start", Power.DEALLOCATED), ("deallocate", Power.RUNNING)])
def test_stop_ends_the_wait(bench: Bench, stop: threading.Event, call: str, power: Power) -> None:
    if bench.hold is None:
        pytest.skip("this machine cannot be held")
    put(bench, power)
    bench.hold()

    def progress(line: str) -> None:
        if bench.commands():
            stop.set()

    with pytest.raises(Unavailable):
        getattr(bench.machine, call)(stop, progress)
    assert bench.commands() == [call]


def test_the_address_has_a_name_that_outlives_a_deallocation(bench: Bench, stop: threading.Event) -> None:
    bench.machine.start(stop, lambda line: None)
    before = bench.machine.address()
    bench.machine.deallocate(stop, lambda line: None)
    bench.machine.start(stop, lambda line: None)
    after = bench.machine.address()
    assert after.host
    assert 0 < after.port < 65536
    assert after.alias == before.alias


def test_close_may_come_twice(bench: Bench) -> None:
    bench.machine.power()
    bench.machine.close()
    bench.machine.close()
