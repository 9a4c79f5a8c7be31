"""No more passes in a second than was allowed, and nothing waits longer for it than it must."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.ports import Unavailable
from devsync.ssh.bandwidth import BURST, PIECE, Bucket, Limited
from devsync.ssh.sftp import SftpClient
from tests.contract.replicas import SFTP_SERVER
from tests.fakes.pipes import PipeStream


class Hand:
    """A clock that is wound by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    clock = Hand()
    bucket = Bucket(1000, clock)
    assert bucket.take(int(1000 * BURST)) == 0
    assert bucket.take(500) == pytest.approx(0.5)
    assert bucket.take(500) == pytest.approx(1.0)
    clock.now += 1.0
    assert bucket.take(100) == pytest.approx(0.1)
    clock.now += 3600
    assert bucket.take(int(1000 * BURST)) == 0
    assert bucket.take(1000) == pytest.approx(1.0)


@given(
    sizes=st.lists(st.integers(0, 100_000), min_size=1, max_size=50),
    rests=st.lists(st.floats(0, 3), min_size=50, max_size=50),
    rate=st.integers(1000, 10_000_000),
)
def test_whoever_waits_as_told_is_never_faster(sizes: list[int], rests: list[float], rate: int) -> None:
    clock = Hand()
    bucket, begun, passed = Bucket(rate, clock), clock(), 0
    for size, rest in zip(sizes, rests, strict=False):
        clock.now += bucket.take(size)
        passed += size
        assert passed <= rate * (clock() - begun + BURST) * 1.000001 + 1
        clock.now += rest


def test_files_go_and_come_no_faster(tmp_path: Path) -> None:
    data = hashlib.sha256(b"seed").digest() * 10_000
    client = SftpClient(Limited(PipeStream([SFTP_SERVER]), Bucket(640_000, time.monotonic)))
    path = str(tmp_path / "file").encode()
    begun = time.monotonic()
    assert client.write_file(path, [data], 0o600).result() == len(data)
    assert b"".join(client.read_file(path, len(data))) == data
    assert time.monotonic() - begun > (2 * len(data) / 640_000 - BURST) * 0.95
    client.close()


class Line:
    """A stream that takes everything."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.first = threading.Event()
        self.closed = False

    def send(self, data: bytes | memoryview) -> None:
        if self.closed:
            raise Unavailable("closed")
        self.sent.append(len(data))
        self.first.set()

    def recv(self, size: int) -> bytes:
        return b"x" * size

    def pending(self) -> bool:
        return True

    def shutdown_write(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def test_closing_ends_a_wait() -> None:
    line = Line()
    limited = Limited(line, Bucket(4 * PIECE / 3600, time.monotonic))  # a quarter of an hour for each piece
    ended: list[str] = []

    def send() -> None:
        line.first.set()
        with pytest.raises(Unavailable):
            limited.send(bytes(10 * PIECE))
        ended.append("closed")

    sender = threading.Thread(target=send)
    sender.start()
    assert line.first.wait(10)
    limited.close()
    sender.join(10)
    assert ended == ["closed"]


def test_no_more_is_taken_than_may_pass_at_once() -> None:
    assert len(Limited(Line(), Bucket(1e9, Hand())).recv(1 << 20)) == PIECE
