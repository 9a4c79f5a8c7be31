"""A large content makes room for what is urgent, in both directions, and goes on where it was left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devsync.core.snapshot import File
from devsync.daemon.transfer import LARGE, LONGEST_SLICE, SLICE, Metered, Turns
from devsync.ports import PutOff, Replica
from devsync.replica.arrival import KEPT_FROM, Arrival
from devsync.replica.local import LocalReplica
from devsync.replica.sftp_only import SftpOnlyReplica
from devsync.ssh.sftp import SftpClient
from tests.replica.test_delta import NEW, OLDER, Counted, NoMeter, Pair, file_at

SIZE = len(OLDER)


class Ticking:
    """A clock on which every look takes a while."""

    def __init__(self, step: float = SLICE / 4) -> None:
        self.now, self._step = 100.0, step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


class Transfer:
    """Contents from one side to the other, in turns, each of which ends as soon as it may."""

    def __init__(self, source: Replica, target: Replica, *, free: bool = False) -> None:
        self.source, self.target, self.free = source, target, free
        self.turns = Turns(lambda: True, Ticking())
        self.begun: dict[str, int] = {}
        self.moved = NoMeter()

    def turn(self, *wanted: tuple[str, File]) -> tuple[set[str], dict[str, str]]:
        """One turn: what has arrived, and what failed."""
        self.turns.begin()
        staging = Metered(
            self.target.staging(),
            self.moved,
            "side",
            lambda: None,
            self.turns,
            free=self.free,
            begun=self.begun,
        )
        try:
            self.source.supply(wanted, staging)
        except PutOff:
            pass
        return set(staging.arrived), dict(staging.finish())

    def all_of(self, *wanted: tuple[str, File]) -> int:
        """How many turns it took."""
        for number in range(1, 200):
            arrived, failed = self.turn(*wanted)
            assert failed == {}
            wanted = tuple(each for each in wanted if each[1].digest not in arrived)
            if not wanted:
                return number
        raise AssertionError("it never ends")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def ends(pair: Pair, up: bool) -> tuple[Replica, Replica, Path, Path]:
    if up:
        return pair.local, pair.remote, pair.here, pair.there
    return pair.remote, pair.local, pair.there, pair.here


def written(path: Path, data: bytes) -> File:
    path.write_bytes(data)
    found = file_at(path)
    assert found is not None
    return found


@pytest.fixture
def no_reading_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has arrived here is hashed already."""
    go_on = Arrival._go_on

    def checked(arrival: Arrival, start: int) -> None:
        if start:
            assert arrival._home.begun._size == start
        go_on(arrival, start)

    monkeypatch.setattr(Arrival, "_go_on", checked)


@pytest.mark.usefixtures("no_reading_again")
@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_every_turn_goes_on_and_nothing_travels_twice(pair: Pair, up: bool) -> None:
    source, target, here, there = ends(pair, up)
    file = written(here / "model.bin", OLDER)
    before = pair.line.sent + pair.line.received
    transfer = Transfer(source, target)
    assert transfer.turn(("model.bin", file)) == (set(), {})
    part = there / ".devsync/tmp" / f"{file.digest}.part"
    assert 0 < part.stat().st_size == transfer.begun[file.digest] < SIZE
    # Meanwhile something else, which has nothing to do with it.
    small = written(here / "save.py", b"saved\n")
    other = target.staging()
    source.supply([("save.py", small)], other)
    assert other.finish() == {}
    assert transfer.all_of(("model.bin", file)) > 1
    assert (there / ".devsync/tmp" / file.digest).read_bytes() == OLDER
    assert not part.exists()
    assert pair.line.sent + pair.line.received - before < SIZE + 200_000


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_an_edit_that_is_put_off_stays_an_edit(pair: Pair, up: bool) -> None:
    source, target, here, there = ends(pair, up)
    (there / "model.bin").write_bytes(OLDER)
    file = written(here / "model.bin", NEW[:1000] + OLDER[: SIZE // 2] + NEW[:2000] + OLDER[SIZE // 2 :])
    before = pair.line.sent + pair.line.received
    assert Transfer(source, target).all_of(("model.bin", file)) > 1
    assert (there / ".devsync/tmp" / file.digest).stat().st_size == file.size
    assert pair.line.sent + pair.line.received - before < 400_000


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_what_changes_while_it_waits_is_nobody_s_content(pair: Pair, up: bool) -> None:
    source, target, here, there = ends(pair, up)
    file = written(here / "model.bin", OLDER)
    transfer = Transfer(source, target)
    transfer.turn(("model.bin", file))
    (here / "model.bin").write_bytes(OLDER[: SIZE // 2] + NEW)
    failed: dict[str, str] = {}
    while not failed:
        arrived, failed = transfer.turn(("model.bin", file))
        assert not arrived or failed
    assert list(failed) == [file.digest]
    assert not (there / ".devsync/tmp" / file.digest).exists()
    (here / "model.bin").write_bytes(OLDER)
    transfer.all_of(("model.bin", file))
    assert (there / ".devsync/tmp" / file.digest).read_bytes() == OLDER


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
@pytest.mark.parametrize("free", [True, False])
def test_small_ones_are_put_off_only_where_they_may(pair: Pair, up: bool, free: bool) -> None:
    source, target, here, _ = ends(pair, up)
    wanted = [(f"{n}.py", written(here / f"{n}.py", b"x" * (n + 1))) for n in range(20)]
    turns = Transfer(source, target, free=free).all_of(*wanted)
    assert turns > 1 if free else turns == 1


def test_where_no_part_is_kept_a_content_is_not_left_in_its_middle(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    file = written(tmp_path / "here" / "model.bin", OLDER[:12_000_000])
    local, remote = (
        LocalReplica(tmp_path / "here"),
        SftpOnlyReplica(SftpClient(Counted()), str(tmp_path / "there")),
    )
    try:
        remote.claim("me", "me", take_over=False)
        assert Transfer(local, remote).all_of(("model.bin", file)) == 1
        (tmp_path / "here" / "model.bin").rename(tmp_path / "there" / "model.bin")
        assert Transfer(remote, local).all_of(("model.bin", file)) > 1, "this side keeps what has come"
    finally:
        remote.close()
        local.close()


def test_what_is_large_is_kept() -> None:
    assert LARGE >= KEPT_FROM


@pytest.mark.parametrize(("between", "least"), [(0.0, SLICE), (1.0, 1.0), (99.0, LONGEST_SLICE)])
def test_a_turn_is_as_long_as_what_came_between(between: float, least: float) -> None:
    now = [0.0]
    over: Callable[[], bool] = (turns := Turns(lambda: True, lambda: now[0])).over
    turns.begin()
    assert not over(), "its first byte"
    now[0] = SLICE
    assert over()
    now[0] += between
    turns.begin()
    now[0] += 50.0  # until its first byte, which is not counted
    assert not over()
    now[0] += least - 0.01
    assert not over()
    now[0] += 0.02
    assert over()


def test_nothing_urgent_ends_no_turn() -> None:
    turns = Turns(lambda: False, Ticking(1000.0))
    turns.begin()
    assert not any(turns.over() for _ in range(3))
