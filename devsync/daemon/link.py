"""Holds the machine: wakes it when asked, keeps the interactive connection open, lets it go.

The service's thread owns the interactive connection; others borrow it to open channels. Calls of the
machine are serialised by one lock, since deallocation comes from the idle service's thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from devsync.daemon.board import Board
from devsync.ports import (
    Address,
    Clock,
    Connection,
    DevsyncError,
    Machine,
    NeedsUser,
    Power,
    Unavailable,
)

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0
"""Seconds between two looks at the power state of a machine that is off."""

BOOT = 300.0
"""Seconds after a start in which SSH that does not answer yet is no fault."""

BEAT = 5.0
"""Seconds between two looks at a connection that is up."""

Connector = Callable[[Address], Connection]


class Link:
    """The service that keeps the machine within reach, for as long as it is wanted."""

    name = "link"

    def __init__(self, machine: Machine, connect: Connector, board: Board, clock: Clock) -> None:
        self._machine, self._connect, self._board, self._clock = machine, connect, board, clock
        self._gate = threading.Lock()
        self._changed = threading.Condition()
        self._connection: Connection | None = None
        self._others: list[Connection] = []
        self._address: Address | None = None
        self._wanted = True
        self._start = True
        self._booting_until = 0.0
        self._stopped = False

    # ------------------------------------------------------------ for other threads

    def wake(self) -> None:
        """The machine is wanted: start it if it is off."""
        with self._changed:
            self._wanted = self._start = True
            self._changed.notify_all()

    def resume(self) -> None:
        """The machine is wanted if it runs, and is not started for that."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()

    def rest(self) -> None:
        """The machine is not wanted: close the connection and do not come back by itself."""
        with self._changed:
            self._wanted = self._start = False
            connection, self._connection = self._connection, None
            self._changed.notify_all()
            others, self._others = self._others, []
        self._post(state="off")
        for lent in [*others, *([connection] if connection else [])]:
            lent.close()

    @property
    def wanted(self) -> bool:
        """Whether the machine is meant to be within reach."""
        return self._wanted

    def connection(self, timeout: float) -> Connection | None:
        """The interactive connection; waits up to `timeout` seconds for it, unless the link ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._connection is not None or self._stopped, timeout)
            return self._connection

    def open_another(self, stop: threading.Event) -> Connection:
        """A connection of one's own, once the link is up. Raises Unavailable when `stop` is set."""
        while not stop.is_set():
            if self.connection(0.5) is not None and (address := self._address) is not None:
                opened = self._connect(address)
                with self._changed:
                    if self._connection is not None:
                        self._others = [*self._others[-3:], opened]  # those before are long closed
                        return opened
                opened.close()  # RACE: the link was lost, or let go, meanwhile
        raise Unavailable("stopped")

    def deallocate(self, stop: threading.Event) -> None:
        """Let the machine go and see that it is deallocated. Raises DevsyncError if it is not."""
        if self._machine.provider == "ssh":  # it has no power switch, and says so: nothing else changes
            self._machine.deallocate(stop, self._progress)
        self.rest()
        with self._gate:
            self._machine.deallocate(stop, self._progress)
            self._note(self._machine.power())

    # ------------------------------------------------------------ the service

    def run(self, stop: threading.Event) -> None:
        """Bring the machine within reach and hold it there; Unavailable when it is lost."""
        while not stop.is_set():
            self._await_wanted(stop)
            if stop.is_set():
                return
            self._post(state="connecting")
            connection = self._open(stop)
            if connection is not None:
                self._lend(connection, stop)

    def _lend(self, connection: Connection, stop: threading.Event) -> None:
        try:
            with self._changed:
                if not self._wanted:
                    return
                self._connection = connection
                self._changed.notify_all()
            self._board.trouble(self.name, None)
            self._note(Power.RUNNING)  # it answered, whatever could be learnt before
            log.info("connected to %s", self._address and self._address.host)
            self._hold(connection, stop)
        finally:
            with self._changed:
                self._connection = None
                others, self._others = self._others, []
            for lent in [*others, connection]:
                lent.close()  # what takes the same way is gone as well, and its owner must not wait for it
            self._post(state="connecting" if self._wanted else "off")

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        with self._changed:
            self._stopped = True
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.close()

    def _hold(self, connection: Connection, stop: threading.Event) -> None:
        while not stop.is_set():
            self._post(state="connected", rtt=connection.rtt(), progress="")
            for lent in list(self._others):
                lent.wait_closed(0.0)  # its heartbeat too: one that is lost without a word is closed by this
            lost = connection.wait_closed(BEAT)
            if lost is not None:
                if self._wanted and not stop.is_set():
                    raise Unavailable(f"the connection was lost: {lost}")
                return

    def _open(self, stop: threading.Event) -> Connection | None:
        if self._address is not None and not self._start:
            # A lost link mostly comes back at the same address: no need to ask the cloud first.
            try:
                return self._connect(self._address)
            except (Unavailable, NeedsUser) as error:
                # By now the address may be another machine's, with another host key.
                log.info("not at its last address: %s", error.message)
        with self._gate:
            if not self._ready(stop):
                return None
            self._address = self._machine.address()
        self._post(host=self._address.host)
        try:
            return self._connect(self._address)
        except Unavailable as error:
            if self._clock.monotonic() < self._booting_until:
                self._progress("waiting for SSH to answer")
                raise Unavailable(f"the machine is booting: {error.message}", hint=error.hint) from error
            self._progress("")
            raise

    def _ready(self, stop: threading.Event) -> bool:
        """See that the machine runs; start it if the user asked for that, and only then."""
        power = self._machine.power()
        self._note(power)
        if power is Power.MISSING:
            raise NeedsUser(
                "the machine does not exist",
                hint="check the [machine] table of devsync.toml, then: devsync start",
            )
        if self._start and power not in (Power.RUNNING, Power.UNKNOWN):
            self._note(Power.STARTING)
            try:
                self._machine.start(stop, self._progress)
            finally:
                self._progress("")
            self._booting_until = self._clock.monotonic() + BOOT
            self._note(self._machine.power())
        elif power is Power.STOPPED:
            raise NeedsUser(
                "the machine is stopped, but not deallocated: it is still billed",
                hint="devsync vm deallocate ends that; devsync start uses it again",
            )
        elif power not in (Power.RUNNING, Power.STARTING, Power.UNKNOWN):
            # Somebody else switched it off: that is their wish, and starting it would cost their money.
            log.warning("the machine is %s; 'devsync start' starts it", power.value)
            self.rest()
            return False
        self._start = False
        return not stop.is_set()

    def _await_wanted(self, stop: threading.Event) -> None:
        while not stop.is_set():
            with self._changed:
                if self._changed.wait_for(lambda: self._wanted or stop.is_set(), LOOK_AGAIN):
                    return
            self._look_at_power()

    def _look_at_power(self) -> None:
        """A machine that somebody else has started is used again."""
        try:
            with self._gate:
                power = self._machine.power()
        except DevsyncError as error:
            log.info("the machine's state is unknown: %s", error.message)
            return
        before = self._board.read().link.power
        self._note(power)
        # One that runs because it could not be let go was not started by anybody.
        if power is Power.RUNNING and before != power.value:
            with self._changed:
                self._wanted = True

    def _progress(self, line: str) -> None:
        self._post(progress=line)

    def _note(self, power: Power) -> None:
        # A host that is simply there may be somebody else's: nobody can say who pays for it.
        self._post(power=power.value, billed=None if self._machine.provider == "ssh" else power.billed)

    def _post(
        self,
        *,
        state: str | None = None,
        rtt: float | None = None,
        power: str | None = None,
        billed: bool | None = None,
        host: str | None = None,
        progress: str | None = None,
    ) -> None:
        with self._changed:
            old = self._board.read().link
            self._board.post(
                link=replace(
                    old,
                    state=state or old.state,
                    rtt=rtt if state else old.rtt,
                    power=power or old.power,
                    billed=billed if power else old.billed,
                    host=host or old.host,
                    progress=old.progress if progress is None else progress,
                )
            )
