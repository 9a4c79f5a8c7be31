"""The graphics processors, by what nvidia-smi says. Travels (Python 3.8).

No nvidia-smi is no device. One that fails or hangs is an error, except where it is plain that there is
nothing to ask: every device of an Azure machine is on the PCI bus, and many images bring the driver for
devices that their machine has not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from devsync.core.observation import Observation
from devsync.probe.view import Hangs, View

NAME = "gpu"
TIMEOUT = 10.0
PLACES = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib")
DEVICES = ("--query-gpu=index,utilization.gpu,memory.used", "--format=csv,noheader,nounits")
PROCESSES = ("--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader,nounits")
NVIDIA = "0x10de"
NO_DEVICES = "No devices were found"


@dataclass(frozen=True)
class Device:
    """One device: percent of use (None where it does not tell) and MiB in use."""

    index: str
    use: float | None
    memory: float | None


def parse_devices(text: str) -> list[Device]:
    """What the query of the devices printed. Raises ValueError for anything that is no such answer."""
    found = []
    for line in filter(str.strip, text.splitlines()):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != 3 or not cells[0].isdigit():
            raise ValueError(f"nvidia-smi says: {line.strip()[:120]}")
        found.append(Device(cells[0], _number(cells[1]), _number(cells[2])))
    return found


def parse_processes(text: str) -> list[tuple[int, str, float | None]]:
    """What the query of the processes printed: number, program, MiB."""
    found = []
    for line in filter(str.strip, text.splitlines()):
        first, _, rest = line.partition(",")
        name, _, memory = rest.rpartition(",")
        if not first.strip().isdigit():
            raise ValueError(f"nvidia-smi says: {line.strip()[:120]}")
        found.append((int(first), os.path.basename(name.strip().split(" ")[0]), _number(memory.strip())))
    return found


def _number(cell: str) -> float | None:
    """None for `[N/A]` and `[Not Supported]`. A device that has an error says so in the same place."""
    if cell in ("[N/A]", "N/A", "[Not Supported]", "[Not Available]"):
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"nvidia-smi says: {cell[:120]}") from None


def judge(devices: list[Device], processes: list[tuple[int, str, float | None]]) -> Observation:
    """What the devices do. One that does not tell its use is unknown only if somebody holds its memory."""
    if not devices:
        return Observation(NAME)
    silent = [device.index for device in devices if device.use is None and device.memory != 0]
    if silent and processes:
        return Observation(NAME, error=f"device {silent[0]} does not tell its use, and {_named(processes)}")
    telling = [device for device in devices if device.use is not None]
    use, index = max(((device.use or 0.0, device.index) for device in telling), default=(0.0, "0"))
    note = f"{_named(processes)}, unused" if processes else ""
    return Observation(NAME, use, f"{use:.0f} %", doing=f"GPU {index} has been at {use:.0f} %", note=note)


def _named(processes: list[tuple[int, str, float | None]]) -> str:
    pid, name, memory = max(processes, key=lambda process: process[2] or 0.0)
    others = f" and {len(processes) - 1} more" if len(processes) > 1 else ""
    held = "memory" if memory is None else f"{memory:.0f} MiB"
    return f"{name} ({pid}) holds {held}{others}"


class Gpu:
    """Asks nvidia-smi each time anew."""

    name = NAME

    def look(self, view: View) -> Observation:
        command = view.command("nvidia-smi", *PLACES)
        if command is None or view.embedded:
            return Observation(NAME)
        try:
            status, text = view.run([command, *DEVICES], TIMEOUT)
            if NO_DEVICES in text:
                return Observation(NAME)
            if status:
                return self._failed(view, text, status)
            devices = parse_devices(text)
            # Who holds memory matters only where nobody computes, or where that cannot be told.
            asked = any(not device.use and device.memory != 0 for device in devices)
            processes: list[tuple[int, str, float | None]] = []
            if asked:
                status, text = view.run([command, *PROCESSES], TIMEOUT)
                if status:
                    return self._failed(view, text, status)
                processes = parse_processes(text)
            return judge(devices, processes)
        except (Hangs, ValueError) as error:
            return Observation(NAME, error=str(error))

    @staticmethod
    def _failed(view: View, text: str, status: int) -> Observation:
        if os.path.isdir(view.path("sys/bus/vmbus")) and not _has_device(view):
            return Observation(NAME)
        lines = text.strip().splitlines() or ["it said nothing"]
        return Observation(NAME, error=f"nvidia-smi failed (exit status {status}): {lines[0][:160]}")


def _has_device(view: View) -> bool:
    try:
        names = os.listdir(view.path("sys/bus/pci/devices"))
        return any(view.read("sys/bus/pci/devices", name, "vendor").strip() == NVIDIA for name in names)
    except OSError:
        return True  # not known
