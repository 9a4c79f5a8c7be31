"""What Azure announces, from its metadata service on the VM to what is done about it here."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from devsync.core.scheduled import Scheduled
from devsync.daemon.announced import Announcements
from devsync.daemon.board import Board
from devsync.daemon.inbox import Inbox
from devsync.ports import Unavailable
from devsync.probe import scheduled_events, watchdog_azure
from devsync.probe.scheduled_events import wait
from devsync.probe.watchdog_azure import METADATA_AT
from devsync.replica import remote_events
from devsync.replica.remote_events import RemoteEvents
from tests.fakes.imds import Imds
from tests.fakes.jobs import FakeNotifier
from tests.fakes.process import LocalProcess

NAME = "dev-vm"
VM = f"/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/{NAME}"
TEXTS = ("EventId", "EventStatus", "EventType", "ResourceType", "NotBefore", "Description", "EventSource")
FIELDS = {**dict.fromkeys(TEXTS, str), "Resources": list, "DurationInSeconds": int}
"""Of an event in a document of version 2020-07-01."""


@pytest.fixture
def imds() -> Iterator[Imds]:
    with Imds(
        f"/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/{NAME}"
    ) as made:
        yield made


def ask(imds: Imds, *known: str, within: float = 0.0) -> dict[str, Any]:
    return wait({"known": known, "within": within}, {METADATA_AT: imds.url})


# ---------------------------------------------------------------- on the machine


def test_the_stand_in_says_what_azure_says(imds: Imds) -> None:
    path = scheduled_events.DOCUMENT
    assert imds.answer(path, "true") == (200, {"DocumentIncarnation": 1, "Events": []})
    assert imds.answer(path, None)[0] == 400
    imds.announce("Freeze", "one", "another")
    _, document = imds.answer(path, "true")
    assert document["DocumentIncarnation"] == 2
    [event] = document["Events"]
    assert {name: type(value) for name, value in event.items()} == FIELDS


def test_nothing_is_announced(imds: Imds) -> None:
    assert ask(imds) == {"events": []}


def test_an_event_is_told_at_once_and_waited_for_when_it_is_known(
    imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = imds.announce("Preempt", NAME)
    assert ask(imds, within=20.0) == {"events": [event]}
    assert ask(imds, event["EventId"]) == {"events": [event]}
    monkeypatch.setattr(scheduled_events, "PAUSE", 0.01)
    timer = threading.Timer(0.05, imds.events.clear)
    timer.start()
    assert ask(imds, event["EventId"], within=20.0) == {"events": []}, "that it is over is news as well"
    timer.join()


@pytest.mark.parametrize("said", [b"<html>", b"[]", b"{}", b'{"Events": 7}', b'{"Events": ["x"]}'])
def test_what_makes_no_sense_is_no_event(imds: Imds, said: bytes) -> None:
    imds.malformed = said
    assert ask(imds)["events"] is None


def test_a_service_that_hangs_or_is_not_there_is_said_so(imds: Imds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog_azure, "NEAR", 0.2)
    imds.hangs = True
    assert "does not answer" in ask(imds, within=20.0)["why"]
    nobody = wait({"known": [], "within": 20.0}, {METADATA_AT: "http://127.0.0.1:1"})
    assert nobody["events"] is None
    assert "refused" in nobody["why"].lower()


# ---------------------------------------------------------------- the way here


class Listening:
    """A RemoteEvents in a thread."""

    def __init__(self, url: str) -> None:
        self.heard: queue.Queue[Sequence[Scheduled]] = queue.Queue()
        self.service = RemoteEvents(
            lambda line: LocalProcess(line, {"PATH": "/usr/bin:/bin", METADATA_AT: url}), self.heard.put, 0.05
        )
        self.stop = threading.Event()
        self.error: Unavailable | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.service.run(self.stop)
        except Unavailable as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self.service.interrupt()
        self.thread.join(20)
        assert not self.thread.is_alive()


def test_a_helper_tells_of_each_event_once_after_a_service_that_made_no_sense(imds: Imds) -> None:
    imds.malformed = b"soon"
    listening = Listening(imds.url)
    try:
        imds.announce("Preempt", NAME)
        imds.malformed = None
        [event] = listening.heard.get(timeout=20)
        assert (event.kind, event.resources) == ("Preempt", (NAME,))
        imds.announce("Reboot", NAME)
        assert [one.kind for one in listening.heard.get(timeout=20)] == ["Preempt", "Reboot"]
    finally:
        listening.end()
    assert listening.error is None
    assert listening.heard.empty()


def test_a_helper_that_is_new_tells_that_nothing_is_announced_any_more(
    imds: Imds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_events, "WITHIN", 0.0)
    listening = Listening(imds.url)
    try:
        assert listening.heard.get(timeout=20) == []
    finally:
        listening.end()


def test_an_event_of_another_form_is_nonsense_and_the_next_helper_may_not_talk_it(imds: Imds) -> None:
    imds.announce("Preempt", NAME, EventId=7)
    listening = Listening(imds.url)
    listening.thread.join(20)
    listening.end()
    assert listening.error is not None
    assert "makes no sense" in listening.error.message


# ---------------------------------------------------------------- what is done


class Desk:
    """Announcements for the VM, with what they made of them."""

    def __init__(self) -> None:
        self.inbox, self.board, self.notifier = Inbox(0.0), Board(), FakeNotifier()
        self.announcements = Announcements(NAME, self.inbox, self.board, self.notifier)

    def take(self, *events: dict[str, Any]) -> None:
        self.announcements.take([Scheduled.from_json(one) for one in events])

    @property
    def notice(self) -> str:
        return self.board.read().notices.get("events", "")


def test_a_preemption_is_flushed_and_told_once_and_stands_until_it_is_over(imds: Imds) -> None:
    desk, event = Desk(), imds.announce("Preempt", NAME.upper())
    desk.take(event)
    desk.take({**event, "EventStatus": "Started", "NotBefore": ""})
    assert len(desk.inbox.take(0.0).requests) == 1
    assert len(desk.notifier.heard) == 1
    assert "takes the spot VM back at 22:26:58 UTC; what changed there" in str(desk.notifier.heard)
    assert "takes the spot VM back now" in desk.notice
    desk.take()
    assert desk.notice == ""


@pytest.mark.parametrize(("kind", "name"), [("Freeze", NAME), ("Preempt", "another")])
def test_what_ends_nothing_here_is_left_alone(imds: Imds, kind: str, name: str) -> None:
    desk = Desk()
    desk.take(imds.announce(kind, name))
    assert (desk.inbox.take(0.0).requests, desk.notice, desk.notifier.heard) == ([], "", [])
