"""What nvidia-smi says, as it says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from devsync.core.observation import Thresholds
from devsync.probe.gpu import Gpu
from devsync.probe.view import Hangs
from tests.probe.machine import Machine

DEVICES, APPS = "nvidia-smi --query-gpu", "nvidia-smi --query-compute-apps"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
    "NVIDIA driver is installed and running.\n"
)
OVER = Thresholds()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "machine")


@pytest.mark.parametrize(
    "devices, apps, busy, value",
    [
        ("0, 97, 40536\n", "", True, "97 %"),
        ("0, 0, 0\n", "", False, "0 %"),
        ("0, 4, 900\n1, 63, 70000\n", "", True, "63 %"),
        ("0, 5, 900\n", "", False, "5 %"),
        ("0, 0, 12001\n", "4711, /opt/conda/bin/python, 12001\n", False, "0 %"),
        ("0, [N/A], 0\n", "", False, "0 %"),
        ("0, [N/A], 0\n1, 40, 7\n", "", True, "40 %"),
        ("0, 0, [N/A]\n", "", False, "0 %"),
        ("0, 64, 9000\n1, [N/A], 0\n", "4711, python, 9000\n", True, "64 %"),
        ("", "", False, "none"),
    ],
)
def test_devices(machine: Machine, devices: str, apps: str, busy: bool, value: str) -> None:
    machine.answers = {DEVICES: (0, devices), APPS: (0, apps)}
    seen = Gpu().look(machine)
    assert (OVER.over(seen), seen.value, seen.error) == (busy, value, "")


def test_memory_that_is_held_unused_is_noted(machine: Machine) -> None:
    apps = "4711, /opt/conda/bin/python, 12001\n4712, [Not Found], 300\n"
    machine.answers = {DEVICES: (0, "0, 0, 12301\n"), APPS: (0, apps)}
    assert Gpu().look(machine).note == "python (4711) holds 12001 MiB and 1 more, unused"


@pytest.mark.parametrize(
    "answer, error",
    [
        ((9, NO_DRIVER), "nvidia-smi failed (exit status 9): NVIDIA-SMI has failed because it couldn't"),
        ((0, "0, ERR!, 7\n"), "nvidia-smi says: ERR!"),
        ((0, "0, [Unknown Error], 7\n"), "nvidia-smi says: [Unknown Error]"),
        ((0, "Unable to determine the device handle for GPU 0000:00:1E.0: GPU is lost.\n"), "GPU is lost"),
        (Hangs("nvidia-smi did not answer within 10 s"), "did not answer within 10 s"),
    ],
)
def test_one_that_fails_is_an_error(machine: Machine, answer: tuple[int, str] | OSError, error: str) -> None:
    machine.answers = {DEVICES: answer}
    assert error in Gpu().look(machine).error


def test_a_device_that_does_not_tell_and_computes_is_an_error(machine: Machine) -> None:
    machine.answers = {DEVICES: (0, "0, [N/A], 5000\n"), APPS: (0, "4711, python, [N/A]\n")}
    assert Gpu().look(machine).error == "device 0 does not tell its use, and python (4711) holds memory"


def test_no_command_and_no_device(machine: Machine) -> None:
    assert Gpu().look(machine).value == "none"
    machine.answers = {DEVICES: (6, "No devices were found\n")}
    assert Gpu().look(machine).value == "none"


def test_a_driver_on_an_azure_machine_without_a_device(machine: Machine) -> None:
    machine.answers = {DEVICES: (9, NO_DRIVER)}
    machine.write("sys/bus/vmbus/devices/x", "")
    machine.write("sys/bus/pci/devices/0001:00:02.0/vendor", "0x15b3\n")
    assert (Gpu().look(machine).value, Gpu().look(machine).error) == ("none", "")
    machine.write("sys/bus/pci/devices/0002:00:00.0/vendor", "0x10de\n")
    assert Gpu().look(machine).error
