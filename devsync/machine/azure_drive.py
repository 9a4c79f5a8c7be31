"""Brings a VM to a power state: decides from what is read, never from what was asked for last.

Others act on the VM too (the portal, a schedule, a colleague, Azure itself), and answers get lost. So each
round reads the state; the command is sent only in a state that calls for it, and the operation that Azure
opened for it is only asked why the state did not come about.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from devsync.machine.azure_errors import Trouble
from devsync.ports import Power, Progress, Unavailable


@dataclass(frozen=True)
class Goal:
    """A wish: the state to be read back, and the states in which the command is sent; in others one waits."""

    verb: str
    reached: Power
    acts_in: frozenset[Power]
    doing: str


START = Goal("start", Power.RUNNING, frozenset({Power.STOPPED, Power.DEALLOCATED}), "starting")
DEALLOCATE = Goal(
    "deallocate",
    Power.DEALLOCATED,
    frozenset({Power.RUNNING, Power.STARTING, Power.STOPPING, Power.STOPPED, Power.UNKNOWN}),
    "deallocating",
)


@dataclass(frozen=True)
class Operation:
    """What Azure opened for a command. The address is signed: never shown, never stored."""

    url: str = field(repr=False)
    pause: float | None = None
    """Seconds to wait before asking, as Azure wishes."""


class Vm(Protocol):
    """The VM as the drive sees it; every call may raise Trouble."""

    name: str

    def look(self) -> Power: ...

    def begin(self, verb: str) -> Operation | None:
        """Send the command. None if Azure opened no operation for it."""

    def poll(self, operation: Operation, verb: str) -> Operation | None:
        """The operation if it goes on, None if it is over or cannot be read."""


_FIRST_LOOK = 1.0
"""Seconds until the first look after a command: many are quick."""
_PATIENCE = 6
"""Looks that the state may lag behind a command that was accepted."""
_UNKNOWN = 3
"""Looks that an unknown state is given to become known before the command is sent all the same."""


class Drive:
    """One wish for one VM, until it is fulfilled, refused, stopped or late."""

    def __init__(
        self,
        vm: Vm,
        goal: Goal,
        stop: threading.Event,
        progress: Progress,
        *,
        interval: float,
        deadline: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._vm, self._goal, self._stop, self._progress = vm, goal, stop, progress
        self._interval, self._monotonic = interval, monotonic
        self._allowed = deadline
        self._deadline = monotonic() + deadline
        self._operation: Operation | None = None
        self._failure: Trouble | None = None
        self._begun = False
        self._patience = 0
        self._unknown = 0
        self._setbacks = 0
        self._last_setback: Trouble | None = None
        self._power = Power.UNKNOWN
        self._told = ""

    def run(self) -> None:
        """Return when the state has been read back. Raises DevsyncError; Unavailable if `stop` ended it."""
        while True:
            try:
                self._power = self._vm.look()
                if self._power is self._goal.reached:
                    self._tell(f"VM '{self._vm.name}' is {self._power.value}")
                    return
                pause = self._step()
                self._last_setback = None
            except Trouble as trouble:
                pause = self._bear(trouble)
            self._wait(pause)

    def _step(self) -> float:
        """Do what the state calls for: the seconds to wait before the next look."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._operation is not None:
            return self._ask()
        if self._patience > 0:
            self._patience -= 1
        elif self._power is Power.UNKNOWN and self._unknown < _UNKNOWN:
            self._unknown += 1
        elif self._power in self._goal.acts_in:
            return self._act()
        self._tell(f"VM '{self._vm.name}' is {self._power.value}: waiting")
        return self._interval

    def _act(self) -> float:
        self._wait(0)
        self._tell(f"VM '{self._vm.name}' is {self._power.value}: {self._goal.doing} it")
        # RACE: an answer that gets lost leaves open whether Azure acts. The next look tells; sending the
        # command once more does no harm.
        self._begun = True
        self._operation = self._vm.begin(self._goal.verb)
        self._patience = _PATIENCE
        return self._pause(min(_FIRST_LOOK, self._interval))

    def _ask(self) -> float:
        assert self._operation is not None
        try:
            self._operation = self._vm.poll(self._operation, self._goal.verb)
        except Trouble as trouble:
            if not trouble.ended:
                raise
            # RACE: the state may have come about although the operation failed, or another's command
            # brought it. So look once more before believing the failure.
            self._operation, self._failure, self._patience = None, trouble, 0
            return 0
        if self._operation is None:
            return 0  # over: what has come of it is read at once
        self._tell(f"VM '{self._vm.name}' is {self._power.value}: {self._goal.doing} it")
        return self._pause(self._interval)

    def _pause(self, seconds: float) -> float:
        asked = self._operation.pause if self._operation else None
        return seconds if asked is None else asked

    def _bear(self, trouble: Trouble) -> float:
        """The seconds after which to look again; raises if that would not help."""
        if not trouble.kind.passing or (trouble.kind.away and not self._begun):
            raise trouble.error from None
        self._setbacks, self._last_setback = self._setbacks + 1, trouble
        pause = trouble.retry_after
        if pause is None:
            pause = self._interval * min(self._setbacks, 3)
        self._tell(f"{trouble.error.message}; looking again in {pause:.0f} s")
        return pause

    def _wait(self, seconds: float) -> None:
        if self._monotonic() + seconds > self._deadline:
            raise self._late()
        if self._stop.wait(seconds):
            going_on = "; what Azure has begun goes on" if self._begun else ""
            raise Unavailable(f"{self._goal.doing} VM '{self._vm.name}' was interrupted{going_on}")

    def _late(self) -> Unavailable:
        billed = "" if self._power.billed is False else "; it may cost money"
        setback = self._last_setback.error if self._last_setback else None
        why = f": {setback.message}" if setback else ""
        return Unavailable(
            f"VM '{self._vm.name}' is not {self._goal.reached.value} after {self._allowed / 60:.0f} min, "
            f"but {self._power.value}{billed}{why}",
            hint=setback.hint if setback else "the VM's page in the Azure portal may tell more",
        )

    def _tell(self, line: str) -> None:
        if line != self._told:
            self._told = line
            self._progress(line)
