"""A machine in memory: it has a power state, and nothing else. It keeps the same promises as a real one."""

from __future__ import annotations

import threading

from devsync.ports import Address, DevsyncError, NeedsUser, Power, Progress, Unavailable

_ENDS = {Power.STARTING: Power.RUNNING, Power.STOPPING: Power.STOPPED, Power.DEALLOCATING: Power.DEALLOCATED}
_STARTS_FROM = (Power.STOPPED, Power.DEALLOCATED)


class MemoryMachine:
    """A machine (ports.Machine) that is started and deallocated at once, unless it is held.

    `commands` lists the commands that it was really given, 'start' and 'deallocate'; `reads` counts how
    often its state was read by `power`. Any thread may call anything.
    """

    provider = "memory"

    def __init__(self, power: Power = Power.DEALLOCATED, address: Address | None = None) -> None:
        self.commands: list[str] = []
        self.reads = 0
        self._lock = threading.Lock()
        self._power = power
        self._address = address or Address("127.0.0.1", 22, "devsync-memory")
        self._held = False
        self._errors: dict[str, list[DevsyncError]] = {}

    # ------------------------------------------------ for tests

    def put(self, power: Power) -> None:
        """Somebody else did it."""
        with self._lock:
            self._power = power

    def move(self, address: Address) -> None:
        """It is found elsewhere from now on."""
        with self._lock:
            self._address = address

    def hold(self) -> None:
        """Starting and deallocating take until `release`."""
        with self._lock:
            self._held = True

    def release(self) -> None:
        with self._lock:
            self._held = False

    def fail(self, call: str, error: DevsyncError, times: int = 1) -> None:
        """The next calls of 'power', 'start', 'deallocate' or 'address' raise `error`."""
        with self._lock:
            self._errors.setdefault(call, []).extend([error] * times)

    # ------------------------------------------------ ports.Machine

    def power(self) -> Power:
        with self._lock:
            self.reads += 1
            self._raise("power")
            return self._power

    def start(self, stop: threading.Event, progress: Progress) -> None:
        self._drive("start", Power.STARTING, Power.RUNNING, stop, progress)

    def deallocate(self, stop: threading.Event, progress: Progress) -> None:
        self._drive("deallocate", Power.DEALLOCATING, Power.DEALLOCATED, stop, progress)

    def address(self) -> Address:
        with self._lock:
            self._raise("address")
            return self._address

    def close(self) -> None:
        """Nothing is held."""

    def _drive(
        self, verb: str, on_the_way: Power, reached: Power, stop: threading.Event, progress: Progress
    ) -> None:
        told = None
        with self._lock:
            self._raise(verb)
        while True:
            with self._lock:
                if not self._held:
                    self._power = _ENDS.get(self._power, self._power)
                power = self._power
            if power is not told:
                told = power
                progress(f"the machine is {power.value}")
            if power is reached:
                return
            if power is Power.MISSING:
                raise NeedsUser("the machine is gone", hint="make another one")
            if stop.is_set():
                raise Unavailable(f"the {verb} was interrupted")
            if self._given(verb, power, on_the_way):
                continue
            stop.wait(0.002)

    def _given(self, verb: str, seen: Power, on_the_way: Power) -> bool:
        """Whether the command was given: it is only in a state that calls for it."""
        calls_for_it = seen in _STARTS_FROM if verb == "start" else seen is not on_the_way
        with self._lock:
            if not calls_for_it or self._power is not seen:
                return False
            self.commands.append(verb)
            self._power = on_the_way
            return True

    def _raise(self, call: str) -> None:
        if self._errors.get(call):
            raise self._errors[call].pop(0)
