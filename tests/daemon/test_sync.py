"""The sync loop in its thread: hints and requests in, equal sides out, whatever breaks in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, Link, Outcome
from devsync.daemon import supervisor
from devsync.daemon.engine import Permission
from devsync.daemon.steady import GIT_LOCK
from devsync.daemon.sync import FULL_LOOK
from devsync.ports import Halted, NeedsUser, Unavailable
from tests.daemon.loop import DATA_IS_IGNORED, Gate, Loop
from tests.daemon.rig import PATIENCE, Pair, until

write, texts = Pair.write, Pair.texts


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    made = Loop(tmp_path)
    write(made.local, "a", "a")
    write(made.local, "b", "bb")
    yield made
    made.close()


def test_the_first_cycle_and_what_is_told_of_it(loop: Loop) -> None:
    write(loop.remote, "result", "from there")
    loop.start()
    facts = loop.until(lambda facts: facts.sync.activity == "watching").sync
    assert texts(loop.local) == texts(loop.remote) == {"a": "a", "b": "bb", "result": "from there"}
    assert (facts.files, facts.pending, facts.conflicts, facts.synchronised) == (3, 0, 0, 1)
    assert (facts.uploaded_bytes, facts.downloaded_bytes) == (3, 10)
    assert facts.last_sync == "2026-01-01T00:00:00Z"
    assert loop.activity == {"local-edits": 1, "remote-edits": 1}


def test_hints_carry_over_from_both_sides(loop: Loop) -> None:
    loop.start()
    write(loop.local, "a", "changed here")
    loop.inbox.local.add(["a"])
    until(lambda: texts(loop.remote)["a"] == "changed here")
    loop.flush()
    del loop.remote.entries["b"]
    loop.inbox.remote.add(["b"])
    until(lambda: "b" not in loop.local.entries)


def test_a_lost_hint_is_healed_by_the_full_look(loop: Loop) -> None:
    loop.start()
    write(loop.remote, "a", "nobody told")
    write(loop.local, "b", "seen")
    loop.inbox.local.add(["b"])
    until(lambda: texts(loop.remote)["b"] == "seen")
    assert texts(loop.local)["a"] == "a"
    loop.clock.advance(FULL_LOOK)
    loop.inbox.wake()
    until(lambda: texts(loop.local)["a"] == "nobody told")


@pytest.mark.parametrize("told_by", ["fingerprint", "hint"])
def test_new_rules_forget_and_delete_nothing(loop: Loop, told_by: str) -> None:
    write(loop.local, "data/x", "a checkpoint")
    loop.start()
    assert texts(loop.remote)["data/x"] == "a checkpoint"
    loop.rules.rules = DATA_IS_IGNORED
    loop.rules.stamp = 1 if told_by == "fingerprint" else 0
    loop.inbox.local.add([".gitignore" if told_by == "hint" else "a"])
    loop.until(lambda facts: facts.sync.files == 2)
    assert texts(loop.remote)["data/x"] == texts(loop.local)["data/x"] == "a checkpoint"
    assert loop.follower.rules == [type(DATA_IS_IGNORED)(), DATA_IS_IGNORED]
    del loop.local.entries["data/x"]
    loop.inbox.local.add(["data/x"])
    loop.flush()
    assert texts(loop.remote)["data/x"] == "a checkpoint"


def test_a_cycle_waits_for_git_but_not_for_a_lock_that_was_left(loop: Loop) -> None:
    loop.start()
    loop.rules.git_is_busy = True
    write(loop.local, "a", "half of a checkout")
    loop.inbox.local.add(["a"])
    asked = loop.rules.asked_busy
    until(lambda: loop.rules.asked_busy >= asked + 3)
    assert texts(loop.remote)["a"] == "a"
    loop.clock.advance(GIT_LOCK)
    until(lambda: texts(loop.remote)["a"] == "half of a checkout")
    write(loop.local, "b", "with the old lock still there")
    loop.inbox.local.add(["b"])
    until(lambda: texts(loop.remote)["b"] == "with the old lock still there")


def test_git_that_lets_go_is_not_kept_waiting(loop: Loop) -> None:
    loop.start()
    loop.rules.git_is_busy = True
    write(loop.local, "a", "a checkout")
    reply = loop.inbox.request()
    until(lambda: loop.rules.asked_busy > 3)
    assert not reply.done()
    loop.rules.git_is_busy = False
    assert reply.result(PATIENCE).unsettled == {}
    assert texts(loop.remote)["a"] == "a checkout"


def test_a_request_is_answered_by_a_cycle_that_began_after_it(loop: Loop) -> None:
    loop.start()
    gate = Gate(loop.local)
    first = loop.inbox.request()
    assert gate.reached.wait(PATIENCE)
    write(loop.local, "a", "written while the look was under way")
    second = loop.inbox.request()
    gate.open()
    first.result(PATIENCE)
    second.result(PATIENCE)
    assert texts(loop.remote)["a"] == "written while the look was under way"


def test_a_stop_in_the_middle_of_a_barrier_does_not_say_that_it_is_done(loop: Loop) -> None:
    loop.start()
    gate = Gate(loop.local)
    apply = loop.remote.apply

    def refuse(changes: Sequence[Change]) -> list[Outcome]:
        stopper.start()
        loop.supervisor.stopping.wait(PATIENCE)
        loop.remote.apply = apply  # type: ignore[method-assign]
        return [Outcome(change.path, False, None) for change in changes]

    def stop() -> None:
        loop.service.interrupt = loop.inbox.wake  # type: ignore[method-assign]  # the link is fine
        loop.supervisor._runners[0].halt()
        loop.supervisor.end()

    stopper = threading.Thread(target=stop)
    loop.remote.apply = refuse  # type: ignore[method-assign]  # so that there must be another round
    write(loop.local, "a", "on its way")
    reply = loop.inbox.request()
    gate.open()
    loop.supervisor._runners[0].thread.join(PATIENCE)
    stopper.join(PATIENCE)
    assert not reply.done()


def test_a_stop_halts_requests_and_permission_goes_on(loop: Loop) -> None:
    for number in range(100):
        write(loop.local, f"src/{number}", "x" * number)
    loop.start()
    for number in range(60):
        del loop.remote.entries[f"src/{number}"]
    with pytest.raises(Halted, match="60 of 102 files"):
        loop.flush()
    facts = loop.until(lambda facts: facts.troubles)
    assert facts.sync.halted is not None
    assert "60 of 102" in facts.sync.halted
    assert (facts.sync.activity, facts.troubles["sync"].exit_status) == ("halted", 4)
    with pytest.raises(Halted):
        loop.flush()
    loop.supervisor.retry()
    until(lambda: loop.opened == 2)
    loop.until(lambda facts: facts.sync.activity == "halted")
    assert len(loop.local.entries) == 102, "a retry is no permission"
    allowed = loop.inbox.request(Permission(deletions=True))
    loop.supervisor.retry()
    allowed.result(PATIENCE)
    assert len(loop.local.entries) == 42
    assert loop.until(lambda facts: not facts.troubles).sync.halted is None
    assert loop.flush() == {}


def test_a_side_that_is_not_the_known_one_halts_the_next_start(loop: Loop) -> None:
    loop.start()
    loop.remote._marker = None
    loop.remote.away = True
    loop.inbox.local.add(["a"])
    write(loop.local, "a", "for another machine")
    assert "has no mark" in str(loop.until(lambda facts: facts.sync.halted).sync.halted)
    assert texts(loop.remote)["a"] == "a"
    joined = loop.inbox.request(Permission(rejoin=True))
    loop.supervisor.retry()
    assert joined.result(PATIENCE).conflicts == ("a",)


def test_a_link_that_breaks_in_mid_cycle_loses_nothing(loop: Loop) -> None:
    loop.start()

    def broken() -> None:
        raise Unavailable("the connection was lost")

    loop.reading = [broken]
    loop.opening = [Unavailable("no route"), Unavailable("no route")]
    write(loop.local, "a", "on its way")
    loop.flush()
    assert texts(loop.remote)["a"] == "on its way"
    assert loop.opened == 2
    assert not loop.until(lambda facts: not facts.troubles).sync.halted


def test_a_machine_that_needs_the_user_refuses_whoever_waits(loop: Loop) -> None:
    loop.opening = [NeedsUser("the folder is on the temporary disk", hint="another [sync] path")]
    reply = loop.inbox.request()
    loop.supervisor.add(loop.service, reports=True)
    with pytest.raises(NeedsUser, match="temporary disk"):
        reply.result(PATIENCE)
    facts = loop.until(lambda facts: facts.troubles)
    assert (facts.sync.activity, facts.sync.halted) == ("halted", None)


def test_a_file_that_kept_still_in_the_end_is_settled(loop: Loop) -> None:
    loop.start()
    write(loop.local, "a", "torn")
    loop.reading = [lambda: write(loop.local, "a", "torn no more")]
    assert loop.flush() == {}
    assert texts(loop.remote)["a"] == "torn no more"


def test_problems_stay_until_they_are_gone_and_are_told_at_each_barrier(loop: Loop) -> None:
    write(loop.local, "secret/key", "k")
    loop.start()
    loop.local.entries["out"] = Link("/etc/passwd")
    loop.local.unreadable["secret"] = "permission denied"
    for _ in range(2):
        assert loop.flush() == {"secret": "permission denied"}, "a link that never was mirrored is no news"
    assert set(loop.board.read().sync.problems) == {"out", "secret"}
    write(loop.local, "a", "another file")
    loop.inbox.local.add(["a"])
    until(lambda: texts(loop.remote)["a"] == "another file")
    assert set(loop.board.read().sync.problems) == {"out", "secret"}
    loop.local.unreadable.clear()
    assert loop.flush() == {}
    assert set(loop.board.read().sync.problems) == {"out"}


def test_what_can_never_be_carried_over_is_no_sign_of_work(loop: Loop) -> None:
    loop.start()
    loop.remote.unreadable["a"] = "busy"
    loop.flush()
    apply = loop.remote.apply
    loop.remote.unreadable.clear()
    loop.remote.apply = lambda changes: [  # type: ignore[method-assign]  # a name that it cannot hold
        Outcome(change.path, False, None, "no such name there") for change in changes
    ]
    write(loop.local, "CON", "reserved")
    assert loop.flush() == {"CON": "no such name there"}
    before = loop.activity.copy()
    assert loop.flush() == {"CON": "no such name there"}
    assert loop.activity == before
    loop.remote.apply = apply  # type: ignore[method-assign]
    assert loop.flush() == {}
    assert loop.activity["local-edits"] == before["local-edits"] + 1
