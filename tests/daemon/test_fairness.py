"""A save goes before what is left of a large plan; a barrier ends when its own part of it is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, Outcome
from devsync.daemon import inbox, slices, supervisor
from devsync.daemon.engine import REMOTE
from devsync.daemon.inbox import Inbox
from devsync.daemon.transfer import SLICE, Turns
from devsync.ports import Unavailable
from tests.daemon.loop import Loop
from tests.daemon.rig import PATIENCE, Pair, until

write, texts = Pair.write, Pair.texts

FILES = 20


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """Two files are a slice; nothing has been mirrored."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(slices, "FILES", 2)
    made = Loop(tmp_path)
    for number in range(FILES):
        write(made.local, f"data/{number:02}", "x" * (number + 1))
    yield made
    made.close()


class Batches:
    """What is applied to the machine; `during` is called in the middle of a batch, by its number."""

    def __init__(self, loop: Loop) -> None:
        self.paths: list[set[str]] = []
        self.during: dict[int, object] = {}
        apply = loop.remote.apply

        def watched(changes: Sequence[Change]) -> list[Outcome]:
            action = self.during.pop(len(self.paths), None)
            if action is not None:
                action()  # type: ignore[operator]  # a test's
            self.paths.append({change.path for change in changes})
            return apply(changes)

        loop.remote.apply = watched  # type: ignore[method-assign]  # it is listened to

    def of(self, path: str) -> int:
        return next(number for number, paths in enumerate(self.paths) if path in paths)


def save(loop: Loop, path: str, text: str) -> None:
    """As an editor does; returns when the hint has settled."""
    write(loop.local, path, text)
    loop.inbox.local.add([path])
    until(lambda: loop.inbox.urgent(requests=False))


def test_a_save_goes_before_what_is_left(loop: Loop) -> None:
    batches = Batches(loop)
    batches.during[2] = lambda: save(loop, "save.py", "saved")
    loop.start()
    assert batches.of("save.py") == 3
    assert len(batches.paths) == FILES // 2 + 1
    assert texts(loop.remote) == texts(loop.local)
    facts = loop.until(lambda facts: facts.sync.activity == "watching").sync
    assert (facts.files, facts.pending, facts.in_flight, facts.synchronised) == (FILES + 1, 0, 0, 1)


def test_a_barrier_waits_for_all_of_its_part(loop: Loop) -> None:
    loop.remote.entries.update(loop.local.entries)
    loop.start()
    for number in range(FILES):
        write(loop.local, f"data/{number:02}", "changed" * (number + 1))
    batches = Batches(loop)
    batches.during[2] = lambda: save(loop, "save.py", "saved")
    assert loop.flush() == {}
    assert texts(loop.remote) == texts(loop.local)
    assert batches.of("save.py") == 3


def test_what_is_saved_again_while_it_waits_is_carried_over_once(loop: Loop) -> None:
    batches = Batches(loop)
    batches.during[1] = lambda: save(loop, "data/19", "newer than the plan, and shorter")
    loop.start()
    assert batches.of("data/19") == 2
    assert sum("data/19" in paths for paths in batches.paths) == 1
    assert texts(loop.remote) == texts(loop.local)


def test_a_barrier_ends_though_a_file_changes_faster_than_it_travels(loop: Loop) -> None:
    loop.start()
    write(loop.local, "data/19", "changed")
    write(loop.local, "data/18", "changed as well, so that there are several slices")
    write(loop.local, "data/17", "and this")
    batches = Batches(loop)

    enough = threading.Event()

    def again() -> None:
        if enough.is_set():
            return
        save(loop, "data/19", "y" * (len(batches.paths) % 7 + 30))
        batches.during[len(batches.paths) + 1] = again

    batches.during[0] = again
    loop.inbox.request().result(PATIENCE)
    enough.set()
    assert loop.flush() == {}
    assert texts(loop.remote) == texts(loop.local)


def test_a_death_in_the_middle_keeps_what_is_done_and_goes_on(loop: Loop) -> None:
    batches = Batches(loop)

    def dies() -> None:
        raise Unavailable("the connection was lost")

    batches.during[4] = dies
    loop.start()
    assert loop.opened == 2
    assert len(batches.paths) == FILES // 2, "each was done once"
    assert texts(loop.remote) == texts(loop.local)


def test_a_request_is_heard_between_two_slices(loop: Loop) -> None:
    loop.start()
    for number in range(FILES):
        write(loop.local, f"data/{number:02}", "changed" * (number + 1))
    batches = Batches(loop)
    asked = []
    batches.during[1] = lambda: asked.append(loop.inbox.request())
    loop.inbox.local.add(["data"])
    until(lambda: asked)
    assert asked[0].result(PATIENCE).unsettled == {}
    assert texts(loop.remote) == texts(loop.local)


def test_progress_counts_down(loop: Loop) -> None:
    batches = Batches(loop)
    seen: list[tuple[int, int]] = []
    for number in range(FILES // 2):
        batches.during[number] = lambda: seen.append(
            (loop.board.read().sync.in_flight, loop.board.read().sync.planned_bytes)
        )
    loop.start()
    assert [files for files, _ in seen] == list(range(FILES, 0, -2))
    assert {size for _, size in seen} == {FILES * (FILES + 1) // 2}


def test_what_has_come_waits_for_the_rest_and_does_not_come_twice(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "FILES", FILES)
    for number in range(FILES + 1):
        pair.write(pair.local, f"data/{number:02}", "x" * (number + 1))
    now = [0.0]

    def clock() -> float:
        now[0] += SLICE / 4
        return now[0]

    pair.engine._carrier._turns = Turns(lambda: True, clock)
    engine = pair.engine
    result = engine.begin(None, None)
    assert (result.complete, result.plan.quiet) == (True, True)
    assert pair.remote.entries == {}, "nothing is applied before what is urgent"
    assert engine.waiting == FILES + 1
    assert 0 < pair.meter.bytes[REMOTE] < FILES
    pair.write(pair.local, "save.py", "saved")
    engine.begin({"save.py"}, set())
    assert pair.texts(pair.remote) == {"save.py": "saved"}
    turns = 0
    while engine.waiting:
        assert engine.go_on().complete
        turns += 1
    assert turns > 3
    assert pair.texts(pair.remote) == pair.texts(pair.local)
    assert pair.meter.bytes[REMOTE] == sum(range(1, FILES + 2)) + len("saved")
    assert engine._carrier.moved() == (0, 0)


# ------------------------------------------------------------ the inbox


def test_an_echo_can_wait_and_nothing_else() -> None:
    box = Inbox(0.0)
    box.expect("remote", ["a"])
    box.remote.add(["a"])
    assert not box.urgent(requests=True)
    box.local.add(["a"])
    assert box.urgent(requests=False)
    work = box.take_urgent(requests=False)
    assert (work.local, work.remote) == ({"a"}, set())
    assert box.take(0).remote == {"a"}, "it is looked at in the end"


def test_an_echo_that_waits_for_long_is_as_good_as_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "ECHO", 0.0)
    box = Inbox(0.0)
    box.expect("remote", ["a"])
    box.remote.add(["a"])
    assert box.take_urgent(requests=True).remote == {"a"}


def test_hints_that_have_not_settled_interrupt_nothing() -> None:
    box = Inbox(PATIENCE)
    box.local.add(["a"])
    assert not box.urgent(requests=True)
    box.request()
    assert not box.urgent(requests=False)
    assert box.urgent(requests=True)
    assert box.take_urgent(requests=False).local == set()
    work = box.take_urgent(requests=True)
    assert (work.local, len(work.requests)) == ({"a"}, 1)


def test_a_hint_of_long_ago_interrupts_however_busily_more_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "LONGEST_SETTLE", 0.05)
    box, enough = Inbox(PATIENCE), threading.Event()

    def keep_adding() -> None:
        while not enough.wait(0.001):
            box.remote.add(["log"])

    writer = threading.Thread(target=keep_adding)
    writer.start()
    try:
        until(lambda: box.urgent(requests=False))
    finally:
        enough.set()
        writer.join()
