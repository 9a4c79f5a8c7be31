"""Terminals, editors, kernels, containers, the network: on machines made of files."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from devsync.core.observation import Observation, Thresholds
from devsync.probe.containers import Containers
from devsync.probe.jupyter import Jupyter
from devsync.probe.network import Network, by_ssh, carried
from devsync.probe.sessions import Sessions, connected, terminal_number
from devsync.probe.view import Hangs
from tests.probe.machine import Machine

OVER = Thresholds()
LONG = "0123456789abcdef" * 4


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


# ---------------------------------------------------------------- sessions


def terminal(machine: Machine, number: int, ago: float) -> None:
    path = machine.write(f"dev/pts/{number}", "")
    os.utime(path, (machine.now - ago, machine.now - ago - 100))


def test_a_terminal_in_use_and_a_silent_one(machine: Machine) -> None:
    machine.process(400, "sshd: ada@pts/0", name="sshd")
    machine.process(401, "-bash", parent=400, terminal=0)
    machine.process(402, "-bash", parent=400, terminal=1)
    terminal(machine, 0, 5)
    terminal(machine, 1, 4000)
    seen = Sessions().look(machine)
    assert OVER.over(seen)
    assert (seen.value, seen.age) == ("2 open, pts/0 used 5 s ago", 5.0)
    terminal(machine, 0, 600)
    machine.processes.forget()
    seen = Sessions().look(machine)
    assert (OVER.over(seen), seen.age) == (False, 600.0)


@pytest.mark.parametrize("name", ["tmux: server", "screen", "SCREEN"])
def test_what_is_inside_a_multiplexer_counts_by_its_cpu(machine: Machine, name: str) -> None:
    machine.process(400, "tmux new -d", name=name)
    machine.process(401, "-bash", parent=400, terminal=3)
    terminal(machine, 3, 1)
    seen = Sessions().look(machine)
    assert (seen.level, seen.value, seen.age) == (0.0, "none open", None)


def test_nobody(machine: Machine) -> None:
    assert Sessions().look(machine) == Observation("sessions", 0.0, "none open")


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9C40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 777 1
   1: 0100007F:9C40 0100007F:D431 {state} 00000000:00000000 00:00000000 00000000  1000        0 778 1
   2: 0100007F:D431 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 779 1
"""


@pytest.mark.parametrize("state, alive", [("01", True), ("06", False)])
def test_an_editor_with_a_client(machine: Machine, state: str, alive: bool) -> None:
    machine.process(600, "/home/ada/.vscode-server/bin/1/node out/server-main.js", name="node")
    (machine.folder / "proc/600/fd").mkdir()
    for number, inode in enumerate((777, 778)):
        (machine.folder / f"proc/600/fd/{number}").symlink_to(f"socket:[{inode}]")
    machine.write("proc/net/tcp", TCP.format(state=state))
    seen = Sessions().look(machine)
    assert OVER.over(seen) is alive
    assert seen.value == ("VS Code is connected" if alive else "none open")
    assert not connected(TCP.format(state="01"), {"779"}), "the client's end listens nowhere"


def test_the_number_of_a_terminal() -> None:
    assert [terminal_number(device) for device in (0, (136 << 8) | 5, (4 << 8) | 1)] == [None, 5, None]


# ---------------------------------------------------------------- kernels


def server(machine: Machine, pid: int = 700, **more: object) -> None:
    told = {"pid": pid, "port": 8888, "base_url": "/", "hostname": "localhost", "token": "t0k3n", **more}
    machine.write(f"home/.local/share/jupyter/runtime/jpserver-{pid}.json", json.dumps(told))
    machine.process(pid, "/opt/conda/bin/python /opt/conda/bin/jupyter-lab", name="jupyter-lab")


def answer(machine: Machine, what: str, value: object, base: str = "/") -> None:
    machine.pages[f"{base}api/{what}"] = (200, json.dumps(value).encode())


def stamp(machine: Machine, ago: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(machine.now - ago))


def kernels(machine: Machine, state: str, ago: float, base: str = "/") -> None:
    kernel = {"id": "k1", "name": "python3", "execution_state": state, "last_activity": stamp(machine, ago)}
    answer(machine, "kernels", [kernel], base)
    answer(machine, "sessions", [{"path": "work/train.ipynb", "kernel": kernel}], base)
    answer(machine, "terminals", [], base)


def test_a_kernel_that_computes_in_silence(machine: Machine) -> None:
    server(machine)
    kernels(machine, "busy", 11_520)
    seen = Jupyter().look(machine)
    assert OVER.over(seen)
    assert (seen.value, seen.since) == ("1 busy kernel: train.ipynb", 11_520.0)
    assert seen.doing == "kernel train.ipynb has run"
    assert {headers["Authorization"] for _, headers in machine.asked} == {"token t0k3n"}
    assert all(path.endswith("?no_track_activity=1") for path, _ in machine.asked)


def test_a_kernel_that_waits_is_no_work_however_lately_it_spoke(machine: Machine) -> None:
    server(machine)
    kernels(machine, "idle", 1)
    seen = Jupyter().look(machine)
    assert (OVER.over(seen), seen.value, seen.age) == (False, "0 busy of 1 kernel: train.ipynb", None)


def test_a_terminal_of_jupyters(machine: Machine) -> None:
    server(machine)
    kernels(machine, "idle", 1)
    answer(machine, "terminals", [{"name": "1", "last_activity": stamp(machine, 5)}])
    assert OVER.over(Jupyter().look(machine))
    answer(machine, "terminals", [{"name": "1", "last_activity": stamp(machine, 500)}])
    seen = Jupyter().look(machine)
    assert (OVER.over(seen), seen.age) == (False, 500.0)


def test_a_server_under_the_hub_knows_its_own_token(machine: Machine) -> None:
    server(machine, token="", base_url="/user/ada/")
    machine.write("proc/700/environ", "A=1\0JUPYTERHUB_API_TOKEN=hub\0")
    kernels(machine, "busy", 60, "/user/ada/")
    assert OVER.over(Jupyter().look(machine))
    assert machine.asked[0][1] == {"Authorization": "token hub"}


def test_a_server_that_was_told_another_folder(machine: Machine) -> None:
    folder = machine.folder / "elsewhere"
    machine.process(700, "jupyter-lab", environ=f"JUPYTER_RUNTIME_DIR={folder}")
    told = {"pid": 700, "port": 8888, "base_url": "/", "token": "t"}
    machine.write("elsewhere/nbserver-700.json", json.dumps(told))
    kernels(machine, "busy", 60)
    assert OVER.over(Jupyter().look(machine))


@pytest.mark.parametrize(
    "page, error",
    [
        (TimeoutError("timed out"), "does not answer: timed out"),
        ((403, b"{}"), "HTTP status 403"),
        ((200, b"<html>"), "Expecting value"),
        (ConnectionResetError("reset"), "reset"),
    ],
)
def test_a_server_that_cannot_be_asked_is_an_error(
    machine: Machine, page: tuple[int, bytes] | OSError, error: str
) -> None:
    server(machine)
    machine.pages["/api/kernels"] = page
    assert error in Jupyter().look(machine).error


def test_a_dead_servers_file_is_no_server(machine: Machine) -> None:
    server(machine)
    assert Jupyter().look(machine).value == "no kernel", "its number is another's by now, and nobody listens"
    machine.processes.forget()
    for file in (machine.folder / "proc/700").iterdir():
        file.unlink()
    assert Jupyter().look(machine).value == "no server"
    machine.write("home/.local/share/jupyter/runtime/jpserver-1.json", '{"pid": 1')
    assert Jupyter().look(machine).value == "no server"


# ---------------------------------------------------------------- containers


@pytest.mark.parametrize(
    "group",
    [
        f"system.slice/docker-{LONG}.scope",
        f"docker/{LONG}",
        f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{LONG}.scope",
    ],
)
def test_a_container_at_work_and_at_rest(machine: Machine, group: str) -> None:
    probe, file = Containers(), f"sys/fs/cgroup/{group}/cpu.stat"
    machine.write(file, "usage_usec 5000000\nuser_usec 1\n")
    assert probe.look(machine) is None
    machine.pass_by(10)
    machine.write(file, "usage_usec 12500000\nuser_usec 1\n")
    seen = probe.look(machine)
    assert seen is not None
    assert (seen.level, seen.value) == (75.0, "1 running, 0123456789ab at 75 % of a core")
    machine.pass_by(10)
    seen = probe.look(machine)
    assert seen is not None
    assert (seen.level, OVER.over(seen)) == (0.0, False)
    machine.pass_by(10)
    machine.write(file, "usage_usec 1000000\n")  # it was started again
    seen = probe.look(machine)
    assert seen is not None
    assert seen.level == 10.0


def test_no_container(machine: Machine) -> None:
    assert Containers().look(machine) == Observation("containers")


# ---------------------------------------------------------------- network

DEV = """\
Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame |bytes    packets errs drop fifo colls carrier compressed
    lo: 999999999 1 0 0 0 0 0 0 999999999 1 0 0 0 0 0 0
  eth0: {received} 10 0 0 0 0 0 0 {sent} 10 0 0 0 0 0 0
enP4s1: {received} 10 0 0 0 0 0 0 {sent} 10 0 0 0 0 0 0
"""
SS = """\
ESTAB 0 0 10.0.0.4:22 203.0.113.7:51234
\t cubic wscale:7,7 rto:204 bytes_sent:{sent} bytes_acked:1 bytes_received:{received} segs_out:4
"""


def looked(machine: Machine, probe: Network, received: int, sent: int, by: tuple[int, int]) -> Observation:
    machine.write("proc/net/dev", DEV.format(received=received, sent=sent))
    machine.answers = {"ss": (0, SS.format(received=by[0], sent=by[1]))}
    machine.pass_by(10)
    return probe.look(machine) or Observation("network", -1.0)


def test_a_download_and_what_comes_by_ssh(machine: Machine) -> None:
    probe, mib = Network(), 1 << 20
    looked(machine, probe, 0, 0, (0, 0))
    rates = [looked(machine, probe, n * 50 * mib, 0, (0, 0)).level for n in range(1, 7)]
    assert [round((rate or 0) / mib, 1) for rate in rates] == [0.8, 1.7, 2.5, 3.3, 4.2, 5.0]
    probe = Network()
    looked(machine, probe, 0, 0, (0, 0))
    for n in range(1, 7):
        seen = looked(machine, probe, n * 50 * mib, n * mib, (n * 49 * mib, n * mib))
    assert not OVER.over(seen)
    assert seen.value == "0.1 MiB/s"


def test_a_short_burst_is_no_sustained_transfer(machine: Machine) -> None:
    probe, mib = Network(), 1 << 20
    looked(machine, probe, 0, 0, (0, 0))
    assert not OVER.over(looked(machine, probe, 50 * mib, 0, (0, 0)))


def test_without_ss_and_with_one_that_hangs(machine: Machine) -> None:
    assert Network().look(machine) == Observation("network")
    machine.answers = {"ss": Hangs("ss did not answer within 5 s")}
    seen = Network().look(machine)
    assert seen is not None and seen.error == "ss did not answer within 5 s"


def test_what_the_counters_say() -> None:
    assert carried(DEV.format(received=3, sent=4)) == {"eth0": 7, "enP4s1": 7}
    assert by_ssh(SS.format(sent=5, received=6)) == {"10.0.0.4:22 203.0.113.7:51234": 11}
