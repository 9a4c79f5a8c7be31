"""A host that is simply there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from devsync.machine.host import HostMachine
from devsync.ports import Address, Machine, NeedsUser, Power, Unavailable


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def quiet(line: str) -> None:
    """Nobody listens."""


def test_it_runs_if_its_port_takes_a_connection(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    machine: Machine = HostMachine("127.0.0.1", port, "gpu-box")
    assert machine.power() is Power.RUNNING
    assert machine.address() == Address("127.0.0.1", port, "gpu-box")
    machine.start(threading.Event(), quiet)
    machine.close()


def test_it_cannot_be_started(listener: socket.socket) -> None:
    machine = HostMachine("127.0.0.1", listener.getsockname()[1])
    listener.close()
    assert machine.power() is Power.UNKNOWN
    assert machine.power().billed is None
    with pytest.raises(Unavailable, match="does not answer") as caught:
        machine.start(threading.Event(), quiet)
    assert "switched on" in caught.value.hint


def test_it_cannot_be_deallocated(listener: socket.socket) -> None:
    machine = HostMachine("127.0.0.1", listener.getsockname()[1])
    with pytest.raises(NeedsUser, match="cannot be deallocated") as caught:
        machine.deallocate(threading.Event(), quiet)
    assert "idle.after" in caught.value.hint
