"""What is asked of the machine while its helper comes to life, and what becomes of it if nobody wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from devsync.app.reach import Reach
from devsync.config import Config
from devsync.core.ignore import Rules
from devsync.ports import Machine, Owned, Power, Unavailable
from devsync.replica.channel import Answer
from devsync.replica.remote import RemoteReplica
from devsync.ssh.sftp import SftpClient
from tests.contract.replicas import SFTP_SERVER
from tests.fakes.pipes import PipeStream
from tests.fakes.process import LocalProcess

OWNER, NAME = "one", "laptop:/home/u/project"


def opened(root: Path, ahead: Callable[[RemoteReplica], None]) -> RemoteReplica:
    return RemoteReplica(LocalProcess, lambda: SftpClient(PipeStream([SFTP_SERVER])), str(root), ahead=ahead)


def test_what_was_asked_ahead_is_not_asked_again(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"one\n")
    rules = Rules()

    def ahead(remote: RemoteReplica) -> None:
        remote.set_rules(rules)
        remote.ask_claim(OWNER, NAME, take_over=False)
        remote.presume({})

    with closing(opened(tmp_path, ahead)) as replica:
        asked: list[str] = []
        ask = replica.helper.ask

        def noted(verb: str, **arguments: object) -> Answer:
            asked.append(verb)
            return ask(verb, **arguments)

        replica.helper.ask = noted  # type: ignore[method-assign]  # each question is noted
        replica.set_rules(rules)
        replica.claim(OWNER, NAME, take_over=False)
        assert replica.marker() is None
        replica.write_marker({"pair": "p"})
        replica.presume({})
        assert set(replica.scan().leaves) == {"a.py"}
        assert replica.marker() == {"pair": "p"}
        assert asked == ["write-marker", "marker"]


def test_a_claim_that_was_asked_ahead_is_refused_where_it_is_awaited(tmp_path: Path) -> None:
    with closing(opened(tmp_path, lambda _: None)) as first:
        first.claim("another", "desktop:/home/u/project", take_over=False)
        with closing(opened(tmp_path, lambda r: r.ask_claim(OWNER, NAME, take_over=False))) as second:
            with pytest.raises(Owned, match="desktop"):
                second.claim(OWNER, NAME, take_over=False)
            second.claim(OWNER, NAME, take_over=True)


def test_in_a_place_that_is_refused_nothing_is_done(tmp_path: Path) -> None:
    (tmp_path / ".devsync").mkdir()
    (tmp_path / ".devsync/replica.json").write_text("{}")
    inside = tmp_path / "part"
    inside.mkdir()
    with closing(opened(inside, lambda r: r.ask_claim(OWNER, NAME, take_over=False))) as replica:
        assert replica.greeting.inside == str(tmp_path)
    assert list(inside.iterdir()) == []


class Switch:
    """A machine that tells its state when it is let."""

    def __init__(self) -> None:
        self.asked, self.may = threading.Event(), threading.Event()

    def power(self) -> Power:
        self.asked.set()
        assert self.may.wait(10)
        return Power.DEALLOCATED


def reach(switch: Switch) -> Reach:
    return Reach(cast(Config, None), Path(), cast(Machine, switch), None)


def test_what_fails_in_the_thread_is_raised_where_it_is_awaited() -> None:
    switch = Switch()
    with closing(reach(switch)) as way:
        assert switch.asked.wait(10)
        switch.may.set()
        way.prepare(lambda _: None)
        with pytest.raises(Unavailable, match="the machine is deallocated"):
            way.replica()


def test_nobody_waits_for_a_machine_that_nobody_wants() -> None:
    switch = Switch()
    way = reach(switch)
    assert switch.asked.wait(10)
    switch.may.set()
    way.close()
