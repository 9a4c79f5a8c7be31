"""The ring on the disk, the sampler's rounds, and a sampler of its own that outlives its helper."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.observation import Observation
from devsync.machine.embedded_process import MARK
from devsync.probe.ring import FRESH, KEPT, STEP, Record, Ring, thinned
from devsync.probe.sampler import EVERY, Probe, Sampler
from devsync.probe.view import EMBEDDED, Hangs, View
from devsync.replica.channel import HelperChannel
from devsync.replica.luggage import command_line, start_helper
from devsync.replica.remote_probe import VERBS
from tests.fakes.process import LocalProcess
from tests.probe.machine import Machine
from tests.system.project import wait_for

WALL = 1_790_000_000.0


def record(ago: float, level: float = 0.0, boot: str = "b") -> Record:
    return Record(boot, 1e6 - ago, WALL - ago, (Observation("cpu", level, f"{level}"),))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ring = Ring(str(tmp_path))
    assert ring.read() == []
    for ago in (30, 20, 10):
        ring.append(record(ago))
    assert ring.read() == [record(30), record(20), record(10)]
    assert ring.newer("b", 1e6 - 25) == [record(20), record(10)]
    assert ring.newer("another", 0) == []
    assert (tmp_path / "ring").stat().st_mode & 0o777 == 0o600


def test_a_torn_line_costs_one_line(tmp_path: Path) -> None:
    ring = Ring(str(tmp_path))
    ring.append(record(20))
    with (tmp_path / "ring").open("ab") as file:
        file.write(record(15).line()[:30])
    ring.append(record(10))
    assert ring.read() == [record(20), record(10)]


def test_the_end_of_a_long_ring_is_read_alone_if_that_is_enough(tmp_path: Path) -> None:
    ring = Ring(str(tmp_path))
    many = [record(float(ago)) for ago in range(3000, 0, -1)]
    (tmp_path / "ring").write_bytes(b"".join(one.line() for one in many))
    assert ring.newer("b", 1e6 - 5.5) == many[-5:]
    assert ring.newer("b", 0) == many


def test_thinning_forgets_no_burst() -> None:
    long_ago = (WALL - FRESH - 4 * STEP) // STEP * STEP
    old = [
        Record("b", n, long_ago + n, (Observation("cpu", 99.0 if n == 70 else 1.0),))
        for n in range(0, 300, 10)
    ]
    fresh = [record(60), record(50)]
    kept = thinned([record(KEPT + 1), *old, *fresh], WALL)
    assert [one.observations[0].level for one in kept] == [99.0, 0.0, 0.0]
    assert thinned(kept, WALL) == kept


def test_the_ring_stays_small(tmp_path: Path) -> None:
    ring = Ring(str(tmp_path))
    week = [record(float(ago)) for ago in range(int(KEPT), 0, -60)]
    (tmp_path / "ring").write_bytes(b"".join(one.line() for one in week))
    ring.thin(WALL)
    assert len(ring.read()) < KEPT / STEP + FRESH / 60 + 5


# ---------------------------------------------------------------- rounds


class Counting(Probe):
    def __init__(self, name: str, answer: Observation | Exception | None) -> None:
        self.name, self.answer, self.looks = name, answer, 0

    def look(self, view: View) -> Observation | None:
        self.looks += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_probe_that_fails_is_an_error_and_the_others_go_on(tmp_path: Path) -> None:
    machine, ring = Machine(tmp_path / "machine"), Ring(str(tmp_path))
    good, bad = Counting("cpu", Observation("cpu", 1.0)), Counting("gpu", KeyError("surprise"))
    Sampler(machine, ring, [bad, good]).sample()
    (written,) = ring.read()
    assert [(seen.name, seen.error) for seen in written.observations] == [
        ("gpu", "KeyError: 'surprise'"),
        ("cpu", ""),
    ]


def test_a_dear_probe_is_asked_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, ring = Machine(tmp_path / "machine"), Ring(str(tmp_path))
    spent = 0.0

    class Dear(Counting):
        def look(self, view: View) -> Observation | None:
            nonlocal spent
            spent += 0.1
            return super().look(view)

    monkeypatch.setattr("devsync.probe.sampler._used", lambda: spent)
    dear, cheap = Dear("gpu", Observation("gpu", 0.0)), Counting("cpu", Observation("cpu", 0.0))
    sampler = Sampler(machine, ring, [dear, cheap])
    for _ in range(60):
        sampler.sample()
        machine.pass_by(EVERY)
    assert (dear.looks, cheap.looks) == (6, 60)  # twice, then every two minutes; every ten seconds


def test_a_command_that_hangs_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    view = View({"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)})
    command = view.command("nvidia-smi")
    assert command == str(tmp_path / "nvidia-smi")
    with pytest.raises(Hangs, match="did not answer within"):
        view.run([command], 0.1)


def test_the_embedded_machine_is_known_by_its_mark() -> None:
    assert EMBEDDED == MARK


# ---------------------------------------------------------------- a process of its own


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder of a machine; its sampler ends with the test."""
    yield tmp_path
    pid = sampler(tmp_path)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def sampler(home: Path) -> int | None:
    try:
        told = json.loads((home / ".local/state/devsync-sampler/lock").read_text())
    except (OSError, ValueError):
        return None
    return int(told["pid"])


def helper(home: Path) -> HelperChannel:
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    return start_helper(LocalProcess(command_line(), environ), VERBS)


def observe(channel: HelperChannel, version: str = "1", after: object = None) -> dict[str, list[object]]:
    answer = channel.call("observe", version=version, after=after, within=3600.0)
    assert isinstance(answer, dict)
    return answer


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_one_sampler_outlives_its_helpers_and_gives_way_to_a_newer_one(home: Path) -> None:
    first, second = helper(home), helper(home)
    observe(first)
    observe(second)
    wait_for("the sampler has looked", lambda: bool(observe(first)["samples"]))
    pid = sampler(home)
    assert pid is not None and alive(pid)
    observe(second)
    assert sampler(home) == pid, "there is one for both"
    seen = observe(first)
    assert observe(first, after=seen["next"])["samples"] == []
    first.close()
    second.close()
    assert alive(pid)
    third = helper(home)
    rows = third.call("recorded", within=3600.0)
    assert rows and 0 <= rows[0][0] < 60
    observe(third, version="2")
    wait_for("a newer devsync has its own", lambda: sampler(home) not in (pid, None))
    assert not alive(pid)
    third.close()
