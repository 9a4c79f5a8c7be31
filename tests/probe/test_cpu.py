"""Whose work the processors do, on machines made of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devsync.core.observation import Observation
from devsync.probe.cpu import Cpu, busiest, cores
from devsync.probe.processes import HELPER, PEOPLE
from tests.probe.machine import Machine

HERTZ = os.sysconf("SC_CLK_TCK")
TEN = 10 * HERTZ  # ticks in ten seconds


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


def seen(machine: Machine, ticks: dict[int, int], *busy: int) -> Observation:
    """Look, let ten seconds pass in which processes use `ticks` and cores `busy` of them, look again."""
    probe = Cpu()
    machine.cores(*[0] * len(busy), total=TEN)
    assert probe.look(machine) is None
    machine.pass_by(10)
    machine.cores(*busy, total=2 * TEN)
    for pid, used in ticks.items():
        path = machine.folder / f"proc/{pid}/stat"
        fields = path.read_text().split()
        fields[13] = str(used)
        path.write_text(" ".join(fields))
    found = probe.look(machine)
    assert found is not None
    return found


def test_one_of_many_cores(machine: Machine) -> None:
    machine.process(500, "/usr/bin/python3 train.py --token secret")
    found = seen(machine, {500: TEN}, *[0] * 63, TEN)
    assert found.level == 100.0
    assert found.value == "100 % of a core (python3 train.py)"
    assert found.doing == "python3 train.py has used 100 % of a core"


def test_a_process_that_wanders_from_core_to_core(machine: Machine) -> None:
    machine.process(500, "./train")
    assert seen(machine, {500: TEN}, *[TEN // 64] * 64).level == 100.0


def test_many_small_ones_on_one_core(machine: Machine) -> None:
    for pid in range(500, 510):
        machine.process(pid, "worker")
    assert seen(machine, dict.fromkeys(range(500, 510), TEN // 20), TEN // 2, 0).level == 50.0


@pytest.mark.parametrize(
    "words, name, group",
    [
        ("/usr/sbin/waagent -daemon", "waagent", "/system.slice/walinuxagent.service"),
        ("", "kworker/0:1", "/"),
        ("sshd: ada@pts/0", "sshd-session", "/user.slice/user-1000.slice/session-1.scope"),
        (f"python3\0-c\0import sys;{HELPER.decode()};", "python3", "/user.slice"),
        ("/usr/bin/python3 -m devsync start --foreground", "python3", "/user.slice"),
    ],
)
def test_what_is_the_systems_or_devsyncs_own_does_not_count(
    machine: Machine, words: str, name: str, group: str
) -> None:
    machine.process(500, words, name=name, group=group, parent=2 if not words else 1)
    found = seen(machine, {500: TEN}, TEN, 0)
    # Who owns a file of this test is who runs it: a person's process is a person's, in any group.
    assert found.level == 0.0 or ("system.slice" in group and os.getuid() >= PEOPLE)


@pytest.mark.parametrize("group", ["/system.slice/docker-1a2b.scope", "/docker/1a2b", "/", "/user.slice"])
def test_a_container_and_a_roots_shell_count(machine: Machine, group: str) -> None:
    machine.process(500, "./train", group=group)
    assert seen(machine, {500: TEN}, TEN, 0).level == 100.0


def test_children_that_come_and_go_count_once(machine: Machine) -> None:
    """A build: each compiler lives for less than a look, and hands its time to make at its end."""
    probe = Cpu()
    machine.process(500, "make -j4")
    machine.process(501, "cc1 long.c", parent=500, own=5 * TEN)
    machine.cores(0, 0, total=TEN)
    probe.look(machine)
    machine.pass_by(10)
    machine.cores(TEN, TEN, total=2 * TEN)
    for name in ("stat", "cmdline", "cgroup", "environ"):
        (machine.folder / "proc/501" / name).unlink()
    (machine.folder / "proc/501").rmdir()
    machine.process(500, "make -j4", reaped=5 * TEN + TEN // 2)
    found = probe.look(machine)
    assert found is not None
    assert found.level == 50.0


def test_the_embedded_machine_has_no_other_processes(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine", {"DEVSYNC_EMBEDDED": "7"})
    machine.process(500, "./browser")
    machine.process(501, "./train", environ="DEVSYNC_EMBEDDED=7")
    found = seen(machine, {500: TEN, 501: TEN // 2}, TEN, TEN)
    assert found.value == "50 % of a core (train)"


def test_the_lines_of_the_cores() -> None:
    text = "cpu  9 9 9 9\ncpu0 100 5 10 800 50 1 2 32 7 0\ncpu1 0 0 0 1000 0 0 0 0 0 0\nintr 1"
    assert cores(text) == {"cpu0": (118, 1000), "cpu1": (0, 1000)}
    assert busiest({"cpu0": (0, 0)}, {"cpu0": (118, 1000), "cpu9": (5, 5)}) == pytest.approx(11.8)
