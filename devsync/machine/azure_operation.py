"""Waits for what Azure has begun: one operation to its end, with a deadline and a way out of our own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from devsync.machine.azure_client import AzureClient, Reply
from devsync.machine.azure_errors import Problem, Trouble
from devsync.ports import Unavailable


@dataclass(frozen=True)
class Pace:
    """How to wait: seconds between two looks, seconds in all, and what ends it before."""

    stop: threading.Event = field(default_factory=threading.Event)
    interval: float = 5.0
    deadline: float = 1800.0
    monotonic: Callable[[], float] = time.monotonic

    def until(self) -> float:
        """When the time will be up, if it begins now."""
        return self.monotonic() + self.deadline

    def wait(self, seconds: float, until: float, what: str) -> None:
        """Wait; Unavailable if `stop` ends it or the time is up. What Azure has begun goes on."""
        if self.monotonic() + seconds > until:
            raise Unavailable(
                f"{what} is not over after {self.deadline / 60:.0f} min",
                hint="it goes on at Azure; run the same command again to see how it went",
            )
        if self.stop.wait(seconds):
            raise Unavailable(f"{what} was interrupted; what Azure has begun goes on")


def finish(client: AzureClient, begun: Reply, pace: Pace, *, doing: str) -> Reply:
    """Wait for the operation that `begun` opened; the last answer, or `begun` if it opened none.

    Raises DevsyncError: its failure, or Unavailable when `pace` ended the wait.
    """
    if begun.operation is None or (begun.status == 200 and "azure-asyncoperation" not in begun.headers):
        return begun
    until, pause, what = pace.until(), begun.pause, f"to {doing} {client.settings.subject}"
    while True:
        pace.wait(pace.interval if pause is None else pause, until, what)
        try:
            reply = client.send("GET", begun.operation, doing=doing)
        except Trouble as trouble:
            if not trouble.kind.passing:
                raise trouble.error from None
            pause = trouble.retry_after
            continue
        status = reply.body.get("status")
        if status in ("Failed", "Canceled"):
            raise failure(client, reply, doing).error
        if status == "Succeeded" or (reply.status != 202 and status is None):
            return reply
        pause = reply.pause


def failure(client: AzureClient, reply: Reply, doing: str) -> Trouble:
    """The trouble of an operation that was accepted and then failed: the innermost of its errors."""
    error = reply.body.get("error") or {}
    while error.get("details"):
        error = error["details"][0]
    code = error.get("code") or reply.body.get("status") or "Failed"
    return Trouble(Problem(200, code, error.get("message") or ""), client.settings, doing, ended=True)
