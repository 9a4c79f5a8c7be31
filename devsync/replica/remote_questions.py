"""What the machine is asked now and then about its work: its history, and to tell its user something.

Each question has a helper of its own, which ends with the answer. Any thread may ask.
"""

from __future__ import annotations

from collections.abc import Callable

from devsync import ports
from devsync.core.observation import Sample
from devsync.replica import remote_probe
from devsync.replica.channel import nonsense
from devsync.replica.luggage import command_line, start_helper

TELLING = (
    "devsync.core.idle",
    "devsync.core.observation",
    "devsync.probe.processes",
    "devsync.probe.view",
    "devsync.probe.sessions",
    "devsync.probe.terminals",
)
"""What travels besides to a helper that writes in terminals; the last one has the verbs."""

VERBS = ((TELLING[-1], TELLING[:-1]),)

OpenHelper = Callable[[str], ports.Process]


def recorded(open_helper: OpenHelper, within: float) -> list[Sample]:
    """What the machine wrote down in the last `within` seconds; times are ages below zero.

    Raises Unavailable, or another DevsyncError.
    """
    channel = start_helper(open_helper(command_line()), remote_probe.VERBS)
    try:
        rows = channel.call("recorded", within=within)
        return list(remote_probe.samples_from_json(rows, 0.0))
    except (ValueError, TypeError) as error:
        raise nonsense(str(error)) from error
    finally:
        channel.close()


def tell(open_helper: OpenHelper, text: str) -> int:
    """Write a line in the user's terminals there: in how many. Raises DevsyncError."""
    channel = start_helper(open_helper(command_line()), VERBS)
    try:
        told = channel.call("tell", text=text)
    finally:
        channel.close()
    if not isinstance(told, int):
        raise nonsense("no number of terminals")
    return told
