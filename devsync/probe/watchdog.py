"""Deallocates its own machine when nobody and nothing works on it and no laptop is there. Travels (3.8).

It lives in the sampler's process, which calls `turn` behind each look, and owns the process of the deed that
it has begun. While work is seen it pushes the cloud's lease forward. A refusal is written down and tried
again, more and more seldom; nothing is ever shut down from inside, since that would be billed on.

orders/PROJECT   what a project wants, see `watchdog_orders`
deed             how the last deed of each kind went
report           what was done, and why, until somebody has been told
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from devsync.core.idle import Signal, Verdict, judge
from devsync.core.lease import is_sign_of_life
from devsync.core.observation import Sample, Track, follow, signals
from devsync.probe.ring import Ring
from devsync.probe.view import View
from devsync.probe.watchdog_azure import perform
from devsync.probe.watchdog_orders import Order, read, stored, write

EVERY = 30.0
"""Seconds between two judgements."""

ABSENT = 120.0
"""Seconds without a word after which no laptop is there."""

GRACE = 600.0
"""Seconds after the start of the machine in which it is left alone: somebody has started it for something."""

CHECK = 3600.0
"""Seconds between two looks whether the identity may still act; after a refusal sooner."""

RENEW = 600.0
"""Seconds between two pushes of the lease."""

FIRST_RETRY, LONGEST_RETRY = 60.0, 1800.0
"""Seconds between two tries at what was refused."""

LONGEST_DEED = 120.0
"""Seconds after which a deed is given up."""


def forked(body: Callable[[], None]) -> int:
    """Do it in a child. Nothing of the sampler's is held open there, its lock least of all."""
    child = os.fork()
    if child:
        return child
    try:
        os.closerange(3, 256)
        body()
    finally:
        os._exit(0)


class Watchdog:
    """One for each sampler; only its thread calls."""

    def __init__(
        self,
        view: View,
        place: str,
        boot: Callable[[], str],
        launch: Callable[[Callable[[], None]], int | None] = forked,
    ) -> None:
        """`place` is the sampler's folder, `boot` tells which start of the machine this is.

        `launch` begins a deed: the number of its process, or None if it is done already.
        """
        self._view, self._place, self._boot, self._launch = view, place, boot, launch
        self._tracks: dict[str, dict[str, Track]] = {}
        self._read_to: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._deed: tuple[str, int | None, float] | None = None
        self._next = 0.0

    def turn(self) -> None:
        """Look and, if it is time, act. Never raises: the looks at the machine go on."""
        try:
            if self._view.monotonic() >= self._next:
                self._next = self._view.monotonic() + EVERY - 5.0  # the looks come a little early or late
                self._turn()
        except Exception as error:  # noqa: BLE001 (see above; whoever asks is told)
            self._note({"kind": "turn", "ok": False, "why": f"{type(error).__name__}: {error}"[:200]})

    def _turn(self) -> None:
        orders = stored(self._place)
        if not orders or self._busy_with_a_deed():
            return
        now, here = self._view.monotonic(), self._boot()
        heard = max((order.heard for order in orders if order.boot == here), default=0.0)
        if now >= self._due.get("check", 0.0):
            self._begin("check", orders[-1])
        elif now - heard >= ABSENT and now >= GRACE:
            self._judge(orders, heard, now)

    def _judge(self, orders: Sequence[Order], heard: float, now: float) -> None:
        verdicts = [self._verdict(order, heard, now) for order in orders]
        busy = [verdict for verdict in verdicts if verdict.busy]
        if not busy:
            if now >= self._due.get("deallocate", 0.0):
                self._report(verdicts[0])
                self._begin("deallocate", orders[-1])
            return
        if now < self._due.get("renew", 0.0) or not any(is_sign_of_life(verdict) for verdict in busy):
            return
        longest = max(
            (order for order in orders if order.lease), key=lambda one: one.lease or 0.0, default=None
        )
        if longest is not None:
            self._begin("renew", longest)

    def _verdict(self, order: Order, heard: float, now: float) -> Verdict:
        """As the laptop would judge; the time in which it was there counts as work."""
        newer = Ring(self._place).newer(self._boot(), self._read_to.get(order.project, -1.0))
        if newer:
            self._read_to[order.project] = newer[-1].at
        samples = [Sample(one.at, one.observations) for one in newer]
        tracks = follow(self._tracks.get(order.project, {}), samples, order.thresholds)
        self._tracks[order.project] = tracks
        seen = [*signals(tracks, order.thresholds, now), *order.signals(self._view)]
        return judge(_counted(seen, order.modes), order.policy, heard, now)

    # ------------------------------------------------------------ deeds

    def _begin(self, kind: str, order: Order) -> None:
        place, environ = os.path.join(self._place, "deed"), self._view.environ

        def body() -> None:
            write(place, perform(kind, order, environ))

        if os.path.exists(place):
            os.unlink(place)
        self._deed = (kind, self._launch(body), self._view.monotonic() + LONGEST_DEED)
        self._busy_with_a_deed()

    def _busy_with_a_deed(self) -> bool:
        """Whether one is under way; one that has ended is judged."""
        if self._deed is None:
            return False
        kind, child, until = self._deed
        if child is not None and os.waitpid(child, os.WNOHANG)[0] == 0:
            if self._view.monotonic() < until:
                return True
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        self._deed = None
        told = read(os.path.join(self._place, "deed")) or {"ok": False, "why": "it did not end in time"}
        self._ended(kind, told)
        return False

    def _ended(self, kind: str, told: Mapping[str, Any]) -> None:
        usual = {"check": CHECK, "renew": RENEW, "deallocate": FIRST_RETRY}[kind]
        # A deallocation that was accepted ends this process soon; if it does not, it was not done.
        fine = bool(told["ok"]) and kind != "deallocate"
        pause = usual if fine else min(2 * self._pause.get(kind, FIRST_RETRY / 2), LONGEST_RETRY)
        self._pause[kind] = FIRST_RETRY / 2 if fine else pause
        self._due[kind] = self._view.monotonic() + pause
        self._note({**told, "kind": kind})

    def _note(self, told: Mapping[str, Any]) -> None:
        """Write down how it went, for whoever asks."""
        path = os.path.join(self._place, "report")
        report = read(path) or {}
        report[str(told["kind"])] = {"ok": told["ok"], "why": told["why"], "at": self._view.wall()}
        _try_to_write(path, report)

    def _report(self, verdict: Verdict) -> None:
        """Before it is done: afterwards there may be nobody left to say it."""
        path = os.path.join(self._place, "report")
        report = read(path) or {}
        report["idle"] = {"ok": True, "why": verdict.reason, "at": self._view.wall()}
        _try_to_write(path, report)


def _counted(seen: Sequence[Signal], modes: Mapping[str, str]) -> list[Signal]:
    return [
        replace(one, counts=modes.get(one.name, "on") == "on") for one in seen if modes.get(one.name) != "off"
    ]


def _try_to_write(path: str, value: Any) -> None:
    try:
        write(path, value)
    except OSError:
        pass  # a full disk keeps nobody from deallocating
