"""What Azure announces that it will do with this VM: its Scheduled Events. Travels (Python 3.8).

The metadata service's part for them sleeps until somebody asks, and may take two minutes to wake: what it
does not answer in time is asked again later, by whoever wants to know.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from devsync.probe.view import View
from devsync.probe.watchdog_azure import Refused, ask_metadata

DOCUMENT = "/metadata/scheduledevents?api-version=2020-07-01"

PAUSE = 1.0
"""Seconds between two questions: the notice may be as short as thirty."""

_VIEW = View()


def announced(environ: Mapping[str, str]) -> list[Any]:
    """The events as they are written. Raises Refused where there are none to be had."""
    events = ask_metadata(environ, DOCUMENT).get("Events")
    if not isinstance(events, list) or not all(isinstance(one, dict) for one in events):
        raise Refused("the VM's metadata service gives no scheduled events")
    return events


def wait(request: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Wait until the events are others than those with the ids `known`, at most `within` seconds.

    `events` is all of them; None, with a `why`, where nobody knows of any.
    """
    known, deadline = set(request["known"]), time.monotonic() + float(request["within"])
    try:
        while True:
            events = announced(environ)
            if {one.get("EventId") for one in events} != known or time.monotonic() >= deadline:
                return {"events": events}
            time.sleep(PAUSE)
    except Refused as error:
        return {"events": None, "why": str(error)}


VERBS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "events": lambda _helper, request: wait(request, _VIEW.environ),
}
