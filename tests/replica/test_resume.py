"""A large content that was cut off goes on where it stopped, in both directions, and only if it is ours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.snapshot import File
from devsync.ports import DevsyncError, Sftp, Unavailable
from devsync.replica.arrival import KEPT_FROM
from devsync.replica.commit import no_step
from devsync.replica.home import PART, PART_KEPT, Home
from devsync.replica.local import LocalReplica
from devsync.replica.sftp_only import SftpOnlyReplica
from devsync.ssh.sftp import SftpClient
from tests.replica.test_delta import NEW, OLDER, Counted, Pair, file_at, lie

DATA = OLDER
"""20 MB of which nothing can be compressed."""


class CutAfter(Counted):
    """A line that breaks when so many bytes have passed."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def send(self, data: bytes | memoryview) -> None:
        self._break()
        super().send(data)

    def recv(self, size: int) -> bytes:
        self._break()
        return super().recv(size)

    def _break(self) -> None:
        if self.sent + self.received > self._most:
            self.close()
            raise Unavailable("the line was cut")


def put_at(folder: Path, data: bytes) -> File:
    (folder / "model.bin").write_bytes(data)
    found = file_at(folder / "model.bin")
    assert found is not None
    return found


def cut(folder: Path, *, up: bool, most: int) -> None:
    """Bring the file over a line that breaks."""
    pair = Pair(folder, CutAfter(most))
    try:
        with pytest.raises(Unavailable):
            pair.bring("model.bin", up=up)
    finally:
        pair.remote.interrupt()
        pair.close()


def part_of(folder: Path, file: File) -> Path:
    return folder / ".devsync/tmp" / (file.digest + PART)


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_what_was_cut_off_goes_on(tmp_path: Path, up: bool) -> None:
    source, target = ("here", "there") if up else ("there", "here")
    for name in (source, target):
        (tmp_path / name).mkdir()
    file = put_at(tmp_path / source, DATA)
    cut(tmp_path, up=up, most=12_000_000)
    part = part_of(tmp_path / target, file)
    arrived = part.stat().st_size
    assert 6_000_000 < arrived < 12_000_000
    assert part.stat().st_mode & 0o777 == 0o600
    assert part.read_bytes() == DATA[:arrived]
    assert not (tmp_path / target / "model.bin").exists()

    pair = Pair(tmp_path)
    try:
        assert pair.bring("model.bin", up=up) == {}
        assert pair.line.sent + pair.line.received < len(DATA) - arrived + 100_000
    finally:
        pair.close()
    assert not part.exists()


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_what_was_cut_off_of_an_edited_file_goes_on_as_well(tmp_path: Path, up: bool) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        put_at(tmp_path / name, DATA[:8_000_000])
    source = tmp_path / ("here" if up else "there")
    put_at(source, NEW + DATA[:4_000_000] + NEW[::-1] + DATA[4_000_000:8_000_000])
    cut(tmp_path, up=up, most=1_500_000)
    pair = Pair(tmp_path)
    try:
        assert pair.bring("model.bin", up=up) == {}
        assert pair.line.sent + pair.line.received < 1_900_000
    finally:
        pair.close()


@pytest.mark.parametrize("up", [True, False], ids=["push", "pull"])
def test_a_part_that_is_no_beginning_costs_one_more_try(tmp_path: Path, up: bool) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    source, target = (tmp_path / name for name in (("here", "there") if up else ("there", "here")))
    file = put_at(source, DATA[:5_000_000])
    plant(target, file, b"?" * 3_000_000)
    pair = Pair(tmp_path)
    try:
        assert list(pair.bring("model.bin", up=up)) == [file.digest]
        assert not part_of(target, file).exists()
        assert pair.bring("model.bin", up=up) == {}
    finally:
        pair.close()


def plant(target: Path, file: File, data: bytes) -> Path:
    (target / ".devsync/tmp").mkdir(parents=True)
    part = part_of(target, file)
    part.write_bytes(data)
    part.chmod(0o600)
    return part


def of_others(part: Path, tmp_path: Path) -> None:
    part.chmod(0o644)


def a_link(part: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(part.read_bytes())
    part.unlink()
    part.symlink_to(tmp_path / "outside")


def a_second_name(part: Path, tmp_path: Path) -> None:
    os.link(part, tmp_path / "outside")


def too_old(part: Path, tmp_path: Path) -> None:
    os.utime(part, (0, part.stat().st_mtime - PART_KEPT - 60))


@pytest.mark.parametrize("change", [of_others, a_link, a_second_name, too_old])
def test_only_what_is_surely_ours_is_gone_on_with(tmp_path: Path, change: object) -> None:
    target = tmp_path / "target"
    target.mkdir()
    data = DATA[:5_000_000]
    file = File(hashlib.sha256(data).hexdigest(), len(data))
    part = plant(target, file, data[:3_000_000])
    change(part, tmp_path)  # type: ignore[operator]  # one of the above
    outside = tmp_path / "outside"
    before = outside.read_bytes() if outside.exists() else b""
    local = LocalReplica(target)
    assert local.staging().basis("model.bin", file) is None
    local.claim("me", "me", take_over=False)
    assert not os.path.lexists(part)
    assert (outside.read_bytes() if outside.exists() else b"") == before
    local.close()


def test_a_claim_leaves_what_may_be_gone_on_with_and_nothing_else(tmp_path: Path) -> None:
    file = File(hashlib.sha256(DATA).hexdigest(), len(DATA))
    part = plant(tmp_path, file, DATA[:KEPT_FROM])
    for name in (file.digest, "b" * 64, "parcel-x"):
        (part.parent / name).write_bytes(b"left over")
    local = LocalReplica(tmp_path)
    local.claim("me", "me", take_over=False)
    assert list(part.parent.iterdir()) == [part]
    local.close()
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    with Home(root, no_step) as home:
        home.clear_parts()
    os.close(root)
    assert not part.exists()


def test_a_disk_that_is_full_keeps_nothing(tmp_path: Path) -> None:
    file = File(hashlib.sha256(DATA).hexdigest(), len(DATA))

    def full() -> Iterator[bytes]:
        yield DATA[:2_000_000]
        raise OSError(28, "No space left on device")

    def gone() -> Iterator[bytes]:
        yield DATA[:2_000_000]
        raise Unavailable("the line was cut")

    local = LocalReplica(tmp_path)
    staging = local.staging()
    staging.put(file, full())
    assert list(staging.finish()) == [file.digest]
    assert not list((tmp_path / ".devsync/tmp").iterdir())
    with pytest.raises(Unavailable):
        staging.put(file, gone())
    assert part_of(tmp_path, file).stat().st_size == 2_000_000


@pytest.mark.parametrize("answer", [None, [], {"x": "5"}, {"x": -1}, {"x": True}, 5])
def test_parts_that_cannot_be_are_refused(
    tmp_path: Path, answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = Pair(tmp_path)
    try:
        lie(pair, monkeypatch, "claim", answer)
        with pytest.raises(DevsyncError, match="makes no sense"):
            pair.remote.claim("me", "me", take_over=True)
    finally:
        pair.close()


def test_more_than_there_is_to_come_has_not_arrived(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    try:
        file = put_at(tmp_path / "here", DATA[:2_000_000])
        pair.remote._parcels.parts = {file.digest: 1 << 60}
        assert list(pair.bring("model.bin", up=True)) == [file.digest]
        assert pair.bring("model.bin", up=True) == {}
    finally:
        pair.close()


def test_without_a_helper_a_pull_goes_on_too(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    file = put_at(tmp_path / "there", DATA[:5_000_000])
    plant(tmp_path / "here", file, DATA[:4_000_000])
    line = Counted()
    client: Sftp = SftpClient(line)
    remote = SftpOnlyReplica(client, str(tmp_path / "there"))
    try:
        staging = LocalReplica(tmp_path / "here").staging()
        remote.supply([("model.bin", file)], staging)
        assert staging.finish() == {}
        assert line.received < 1_100_000
    finally:
        remote.close()


def test_a_beginning_may_end_anywhere(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    try:
        file = File(hashlib.sha256(DATA[:2_000_000]).hexdigest(), 2_000_000)
        plant_there = part_of(pair.there, file)
        plant_there.write_bytes(DATA[:1_234_567])
        plant_there.chmod(0o600)
        pair.remote._parcels.parts = {file.digest: 1_234_567}
        staging = pair.remote.staging()
        assert staging.begun(file) == 1_234_567
        staging.put(file, [DATA[1_234_567:2_000_000]])
        assert staging.finish() == {}
        assert (pair.there / ".devsync/tmp" / file.digest).read_bytes() == DATA[:2_000_000]
    finally:
        pair.close()
