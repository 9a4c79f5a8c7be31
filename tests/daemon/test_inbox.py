"""The inbox: what other threads put in is taken out once, whole, and not too early."""

from __future__ import annotations

import threading
import time

import pytest

from devsync.core.snapshot import ROOT
from devsync.daemon import inbox as module
from devsync.daemon.engine import Permission
from devsync.daemon.inbox import Inbox, Synchronised, Work
from devsync.ports import Halted, Hints
from tests.daemon.rig import PATIENCE

DONE = Synchronised((), {})


def test_hints_wait_until_they_have_settled() -> None:
    inbox = Inbox(0.05)
    inbox.local.add(["a"])
    before = time.monotonic()
    work = inbox.take(PATIENCE)
    assert time.monotonic() - before >= 0.03
    assert (work.local, work.remote, work.requests) == ({"a"}, set(), [])
    assert inbox.take(0) == Work(), "taken out once"


def test_hints_that_never_settle_are_acted_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_SETTLE", 0.1)
    inbox = Inbox(PATIENCE)
    enough = threading.Event()

    def keep_adding() -> None:
        number = 0
        while not enough.wait(0.001):
            number += 1
            inbox.remote.add([f"log/{number}"])

    writer = threading.Thread(target=keep_adding)
    writer.start()
    started = time.monotonic()
    work = inbox.take(PATIENCE)
    enough.set()
    writer.join()
    assert len(work.remote) > 1
    assert time.monotonic() - started < PATIENCE / 2


def test_a_request_does_not_wait_for_hints_to_settle() -> None:
    inbox = Inbox(PATIENCE)
    inbox.local.add([ROOT])
    inbox.request()
    started = time.monotonic()
    work = inbox.take(PATIENCE)
    assert time.monotonic() - started < PATIENCE / 2
    assert work.local == {ROOT}
    assert len(work.requests) == 1


def test_nothing_comes_after_the_time_and_a_wake_comes_at_once() -> None:
    inbox = Inbox(PATIENCE)
    assert inbox.take(0.001) == Work()
    inbox.local.add(["a"])
    inbox.wake()
    assert inbox.take(PATIENCE).local == {"a"}
    inbox.wake()  # before anybody waits
    assert inbox.take(PATIENCE) == Work()


def test_what_is_given_back_comes_first_and_only_unanswered() -> None:
    inbox = Inbox(0)
    answered, open_one = inbox.request(), inbox.request()
    inbox.local.add(["a"])
    work = inbox.take(0)
    answered.set_result(DONE)
    later = inbox.request()
    inbox.give_back(work)
    again = inbox.take(0)
    assert again.local == {"a"}
    assert [request.reply for request in again.requests] == [open_one, later]


def test_a_block_refuses_whoever_waits_and_whoever_comes() -> None:
    inbox = Inbox(0)
    waiting = inbox.request()
    error = Halted("too many deletions")
    inbox.block(error)
    assert waiting.exception(0) is error
    assert inbox.request().exception(0) is error
    allowed = inbox.request(Permission(deletions=True))
    assert not allowed.done()
    assert inbox.permissions() == Permission(deletions=True)
    inbox.block(None)
    assert not inbox.request().done()
    assert len(inbox.take(0).requests) == 2


def test_permissions_add_up() -> None:
    inbox = Inbox(0)
    assert inbox.permissions() == Permission()
    inbox.request(Permission(rejoin=True))
    inbox.request(Permission(deletions=True))
    assert inbox.permissions() == Permission(deletions=True, rejoin=True)


def test_many_threads_lose_nothing() -> None:
    inbox = Inbox(0)
    sides: dict[str, Hints] = {"local": inbox.local, "remote": inbox.remote}

    def hint(side: str, worker: int) -> None:
        for number in range(200):
            sides[side].add([f"{worker}/{number}"])
            if number % 20 == 0:
                inbox.request()

    threads = [threading.Thread(target=hint, args=(side, n)) for side in sides for n in range(4)]
    for thread in threads:
        thread.start()
    local, remote, requests = set[str](), set[str](), 0
    while len(local) < 800 or len(remote) < 800 or requests < 80:
        work = inbox.take(PATIENCE)
        assert work != Work(), "something was lost"
        local |= work.local
        remote |= work.remote
        requests += len(work.requests)
    for thread in threads:
        thread.join()
    assert (len(local), len(remote), requests) == (800, 800, 80)
    assert inbox.take(0) == Work()
