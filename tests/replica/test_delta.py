"""Only what is new of a large file travels, in both directions, and whatever happens the result is right."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devsync.core.snapshot import Change, File
from devsync.daemon.transfer import Metered
from devsync.ports import DevsyncError, Replica
from devsync.replica.delta import FROM, SMALLEST, Blocks, Copy, block_size, difference
from devsync.replica.local import LocalReplica
from devsync.replica.remote import RemoteReplica
from devsync.ssh.sftp import SftpClient
from tests.contract.replicas import SFTP_SERVER
from tests.fakes.pipes import PipeStream
from tests.fakes.process import LocalProcess


def blocks_of(data: bytes) -> Blocks:
    descriptor = os.memfd_create("older")
    try:
        os.write(descriptor, data)
        return Blocks.of(descriptor, len(data))
    finally:
        os.close(descriptor)


def rebuilt(older: bytes, newer: bytes) -> tuple[bytes, int]:
    """The new version as it comes out, and how many of its bytes have travelled."""
    told = Blocks.from_json(blocks_of(older).to_json())
    chunks = (newer[start : start + 100_000] for start in range(0, len(newer), 100_000))
    made, new = [], 0
    for piece in difference(chunks, told):
        if isinstance(piece, Copy):
            made.append(older[piece.start : piece.start + piece.size])
            assert len(made[-1]) == piece.size > 0
        else:
            made.append(piece)
            new += len(piece)
    return b"".join(made), new


def random_bytes(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# ------------------------------------------------------------ the difference


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 3_000_000),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40_000), st.binary(max_size=2000)), max_size=6),
)
def test_edits_anywhere_cost_a_few_blocks_each(size: int, edits: list[tuple[float, int, bytes]]) -> None:
    older = random_bytes(size)
    newer = bytearray(older)
    for place, gone, put in edits:
        at = int(place * len(newer))
        newer[at : at + gone] = put
    made, new = rebuilt(older, bytes(newer))
    assert made == newer
    # An edit spoils the block it is in, and the one where the versions run together again.
    assert new <= sum(len(put) + 3 * block_size(size) for _, _, put in edits)


LARGE = 20_000_000
OLDER = random_bytes(LARGE)
NEW = random_bytes(1_000_000, 2)


@pytest.mark.parametrize(
    ("newer", "most"),
    [
        (OLDER, 0),
        (OLDER[: LARGE // 2] + NEW[:1024] + OLDER[LARGE // 2 + 1024 :], 70_000),
        (NEW[:1024] + OLDER, 1024),
        (OLDER + NEW, 1_000_000),
        (OLDER[: LARGE // 3] + NEW + OLDER[LARGE // 3 :], 1_070_000),
        (OLDER[: LARGE // 3] + OLDER[LARGE // 2 :], 140_000),
        (OLDER[5_000_000:], 140_000),
        (OLDER[LARGE // 2 :] + OLDER[: LARGE // 2], 3_000_000),
        (NEW, 1_000_000),
    ],
    ids=[
        "same",
        "written over",
        "put in front",
        "appended",
        "put in",
        "taken out",
        "cut",
        "swapped",
        "other",
    ],
)
def test_each_kind_of_edit(newer: bytes, most: int) -> None:
    made, new = rebuilt(OLDER, newer)
    assert made == newer
    assert new <= most


@pytest.mark.parametrize("fill", [b"\0", b"ab", b"0.0,1.0\n" * 8])
def test_what_repeats_itself_takes_no_longer(fill: bytes) -> None:
    plain = (fill * (4_000_000 // len(fill)))[:4_000_000]
    for newer in (plain[:2_000_000] + b"x" + plain[2_000_000:], NEW + plain, plain[: 3 * SMALLEST]):
        assert rebuilt(plain, newer)[0] == newer
    assert rebuilt(plain, plain) == (plain, 0)


@pytest.mark.parametrize(
    "lie",
    [None, [], [5], [5, 5], ["5", ""], [-1, ""], [0, ""], [5, "AAAA"], [5, "?"], [1 << 62, ""], [True, ""]],
)
def test_blocks_that_are_none(lie: Any) -> None:
    with pytest.raises(ValueError):
        Blocks.from_json(lie)


# ------------------------------------------------------------ between two replicas


class Counted(PipeStream):
    """A stream that counts what goes and comes."""

    def __init__(self) -> None:
        super().__init__([SFTP_SERVER])
        self.sent = self.received = 0

    def send(self, data: bytes | memoryview) -> None:
        self.sent += len(data)
        super().send(data)

    def recv(self, size: int) -> bytes:
        found = super().recv(size)
        self.received += len(found)
        return found


class NoMeter:
    def planned(self, files: int, size: int) -> None: ...
    def moved(self, side: str, size: int) -> None: ...
    def came(self) -> None: ...


class Hearing(LocalProcess):
    """A process that ends by itself when its input does, as one whose connection is lost."""

    def close(self) -> None:
        assert self.program.stdin is not None
        self.program.stdin.close()
        self.program.wait(timeout=20)
        super().close()


class Pair:
    """A folder here and one on the machine."""

    def __init__(self, folder: Path, line: Counted | None = None) -> None:
        self.here, self.there = folder / "here", folder / "there"
        for each in (self.here, self.there):
            each.mkdir(exist_ok=True)
        self.line = line or Counted()
        self.local = LocalReplica(self.here)
        self.remote = RemoteReplica(Hearing, lambda: SftpClient(self.line), str(self.there))
        self.local.claim("me", "me", take_over=False)
        self.remote.claim("me", "me", take_over=True)

    def bring(self, path: str, *, up: bool) -> dict[str, str]:
        """Bring the file to the other side as the engine does; what did not arrive, and why."""
        source, target = (self.local, self.remote) if up else (self.remote, self.local)
        old, new = (file_at(side / path) for side in ((self.there, self.here)[:: 1 if up else -1]))
        assert new is not None
        failed = self.stage(source, target, [(path, new)])
        if not failed:
            (outcome,) = target.apply([Change(path, old, new)])
            assert outcome.done, outcome.problem
            assert (self.there / path).read_bytes() == (self.here / path).read_bytes()
        return failed

    @staticmethod
    def stage(source: Replica, target: Replica, wanted: Sequence[tuple[str, File]]) -> dict[str, str]:
        staging = Metered(target.staging(), NoMeter(), "side", lambda: None)
        source.supply(wanted, staging)
        return dict(staging.finish())

    def close(self) -> None:
        self.local.close()
        self.remote.close()


def file_at(path: Path) -> File | None:
    if not path.exists():
        return None
    data = path.read_bytes()
    return File(hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def both(pair: Pair, path: str, data: bytes) -> None:
    (pair.here / path).write_bytes(data)
    (pair.there / path).write_bytes(data)


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
@pytest.mark.parametrize(
    ("edit", "most"),
    [
        (lambda data: data[:2_000_000] + b"new" * 300 + data[2_000_900:], 60_000),
        (lambda data: b"put in front" * 80 + data, 30_000),
        (lambda data: data + NEW[:1000], 30_000),
        (lambda data: data[1_000_001:], 90_000),
        (lambda data: random_bytes(len(data) - 1, 3), 4_500_000),
    ],
    ids=["changed", "in front", "appended", "taken out", "all new"],
)
def test_only_what_is_new_travels(pair: Pair, up: bool, edit: Callable[[bytes], bytes], most: int) -> None:
    both(pair, "model.bin", OLDER[:4_000_000])
    (pair.here if up else pair.there).joinpath("model.bin").write_bytes(edit(OLDER[:4_000_000]))
    before = pair.line.sent + pair.line.received
    assert pair.bring("model.bin", up=up) == {}
    assert pair.line.sent + pair.line.received - before < most
    assert not list((pair.there / ".devsync/tmp").glob("parcel-*/"))
    pair.remote._sftp.realpath(b".").result()  # behind the removal, for which nobody waits
    assert not [path for path in (pair.there / ".devsync/tmp").iterdir() if path.stat().st_size]


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_a_small_file_and_a_new_one_are_not_compared(pair: Pair, up: bool) -> None:
    source = pair.here if up else pair.there
    both(pair, "small.bin", NEW[: FROM // 2])
    (source / "small.bin").write_bytes(NEW[: FROM // 2] + b"more")
    (source / "new.bin").write_bytes(NEW)
    assert pair.bring("small.bin", up=up) == {}
    assert pair.bring("new.bin", up=up) == {}


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_an_older_version_that_changes_meanwhile_costs_one_more_try(
    pair: Pair, up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = (pair.here, pair.there) if up else (pair.there, pair.here)
    both(pair, "model.bin", OLDER[:4_000_000])
    (source / "model.bin").write_bytes(b"!" + OLDER[:4_000_000])
    wanted = file_at(source / "model.bin")
    assert wanted is not None
    ends = (pair.local, pair.remote) if up else (pair.remote, pair.local)
    staging = ends[1].staging()
    put = staging.put

    def spoil_and_put(file: File, chunks: Iterable[bytes]) -> None:
        iterator = iter(chunks)
        first = next(iterator)  # by now it was told what is there
        with (target / "model.bin").open("r+b") as spoilt:
            for place in range(0, 4_000_000, 1000):
                spoilt.seek(place)
                spoilt.write(b"?")
        put(file, (piece for part in ([first], iterator) for piece in part))

    monkeypatch.setattr(staging, "put", spoil_and_put)
    ends[0].supply([("model.bin", wanted)], staging)
    assert list(staging.finish()) == [wanted.digest]
    assert pair.stage(ends[0], ends[1], [("model.bin", wanted)]) == {}
    assert (target / ".devsync/tmp" / wanted.digest).read_bytes() == b"!" + OLDER[:4_000_000]


def test_a_link_is_no_older_version(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(OLDER[:4_000_000])
    (pair.there / "model.bin").symlink_to(tmp_path / "outside.bin")
    (pair.here / "model.bin").symlink_to(tmp_path / "outside.bin")
    assert pair.remote.helper.call("blocks", path="model.bin") is None
    assert pair.remote.helper.call("blocks", path="../outside.bin") is None
    staging = pair.local.staging()
    assert staging.basis("model.bin", File("0" * 64, 5_000_000)) is None
    assert staging.basis("../outside.bin", File("0" * 64, 5_000_000)) is None


# ------------------------------------------------------------ a helper that lies


@pytest.mark.parametrize(
    "answer",
    [
        5,
        ["../owner.json", "raw", 100],
        ["parcel-/../../owner.json", "raw", 100],
        ["parcel-x", "unheard of", 100],
        ["parcel-x", "raw", -1],
        ["parcel-x", "raw", 1 << 60],
        ["parcel-x", "raw", True],
    ],
)
def test_a_parcel_that_cannot_be_is_refused(pair: Pair, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(pair, monkeypatch, "pack", answer)
    with pytest.raises(DevsyncError, match="makes no sense"):
        pair.bring("model.bin", up=False)


@pytest.mark.parametrize("answer", [5, [5], [4_000_000, "AAAA"], [1 << 61, ""], {"size": 5}])
def test_blocks_that_cannot_be_are_refused(pair: Pair, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lie(pair, monkeypatch, "blocks", answer)
    with pytest.raises(DevsyncError, match="makes no sense"):
        pair.bring("model.bin", up=True)


def lie(pair: Pair, monkeypatch: pytest.MonkeyPatch, verb: str, answer: object) -> None:
    """Both sides hold something else, and the helper answers `verb` with `answer`."""
    both(pair, "model.bin", OLDER[:4_000_000])
    for each in (pair.here, pair.there):
        (each / "model.bin").write_bytes(OLDER[:4_000_000] + str(each).encode())
    ask = pair.remote.helper.ask

    class Lie:
        def result(self) -> object:
            return answer

    def answered(wanted: str, **more: Any) -> Any:
        return Lie() if wanted == verb else ask(wanted, **more)

    monkeypatch.setattr(pair.remote.helper, "ask", answered)
