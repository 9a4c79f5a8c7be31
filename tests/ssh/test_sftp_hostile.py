"""The SFTP client against servers that lie, fail in the middle or are far away."""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.ports import Unavailable
from devsync.ssh import sftp_wire as wire
from devsync.ssh.sftp import SftpClient
from devsync.ssh.sftp_lane import BATCH, PIPE
from tests.fakes.sftp_peer import DENIED, FAILURE, OK, Request, SftpPeer, reply, status

LIMITS = (b"limits@openssh.com", b"1")
STATVFS = (b"statvfs@openssh.com", b"2")


def once(kind: int, lie: Callable[[int], bytes], after: int = 0) -> Callable[[Request], bytes | None]:
    """A fault of one reply to a request of `kind`, after so many good ones."""
    left = [after]

    def fault(request: Request) -> bytes | None:
        if request.kind != kind:
            return None
        left[0] -= 1
        return lie(request.number) if left[0] == -1 else None

    return fault


# ---------------------------------------------------------------- a failure of one file


@pytest.mark.parametrize("after", [0, 3, 9, 31])
@pytest.mark.parametrize("disorder", [False, True])
def test_one_failed_write_is_never_a_success(after: int, disorder: bool) -> None:
    fault = once(wire.WRITE, lambda number: status(number, FAILURE, b"Failure"), after)
    peer = SftpPeer(fault=fault, disorder=disorder)
    sftp = SftpClient(peer)
    writing = sftp.write_file(b"/f", [bytes(32 * 1024)] * 32, 0o644)
    other = sftp.write_file(b"/g", [b"whole"], 0o644)
    with pytest.raises(OSError, match="Failure"):
        writing.result()
    assert other.result() == 5
    assert peer.files == {b"/g": b"whole"}


@pytest.mark.parametrize("kind", [wire.CLOSE, wire.EXTENDED])
def test_a_failed_close_or_fsync_is_no_success(kind: int) -> None:
    fault = once(kind, lambda number: status(number, FAILURE, b"quota"))
    peer = SftpPeer(fault=fault, extensions=[(b"fsync@openssh.com", b"1")])
    with pytest.raises(OSError, match="quota"):
        SftpClient(peer).write_file(b"/f", [b"some text"], 0o644, durable=True).result()
    assert peer.files == {}


def test_a_full_disk_is_named() -> None:
    def fault(request: Request) -> bytes | None:
        if request.kind == wire.WRITE:
            return status(request.number, FAILURE, b"Failure")
        if request.kind == wire.EXTENDED:
            return reply(
                wire.EXTENDED_REPLY,
                request.number,
                struct.pack(">11Q", 4096, 4096, 9, 0, 0, 9, 9, 9, 1, 0, 9),
            )
        return None

    peer = SftpPeer(fault=fault, extensions=[STATVFS])
    with pytest.raises(OSError, match="no space left") as caught:
        SftpClient(peer).write_file(b"/f", [b"some text"], 0o644).result()
    assert caught.value.errno == errno.ENOSPC
    assert peer.files == {}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, FileNotFoundError),
        (DENIED, PermissionError),
        (11, FileExistsError),
        (FAILURE, OSError),
        (77, OSError),
    ],
)
def test_refusals_become_the_usual_errors(code: int, kind: type[OSError]) -> None:
    peer = SftpPeer(fault=once(wire.LSTAT, lambda number: status(number, code, b"because")))
    with pytest.raises(kind):
        SftpClient(peer).lstat(b"/x").result()


# ---------------------------------------------------------------- lies


LIES: dict[str, Callable[[int], bytes]] = {
    "a packet of 4 GB": lambda _: b"\xff\xff\xff\xff" + b"x" * 100,
    "a packet of nothing": lambda _: bytes(4),
    "a packet without a number": lambda _: wire.number(2) + b"ee",
    "an unknown number": lambda number: status(number + 4711, OK),
    "a second greeting": lambda _: wire.number(5) + bytes([wire.SERVER_VERSION]) + wire.number(3),
    "text": lambda _: b"Welcome to the machine!\r\n",
    "a handle where attributes are due": lambda number: reply(wire.HANDLE, number, wire.string(b"h")),
    "success where attributes are due": lambda number: status(number, OK),
    "a string that is too long": lambda number: reply(
        wire.STATUS, number, wire.number(4) + wire.number(1 << 31)
    ),
    "attributes without end": lambda number: reply(
        wire.ATTRS, number, wire.number(0x80000000) + wire.number(0xFFFFFFFF)
    ),
    "cut attributes": lambda number: reply(wire.ATTRS, number, wire.number(0xF) + b"123"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_nonsense_ends_the_client_and_nothing_else_is_believed(lie: Callable[[int], bytes]) -> None:
    peer = SftpPeer(fault=once(wire.LSTAT, lie), round_trip=1)
    sftp = SftpClient(peer)
    writing = sftp.write_file(b"/f", [b"on its way"], 0o644)
    with pytest.raises(Unavailable):
        sftp.lstat(b"/").result()
    with pytest.raises(Unavailable):
        writing.result()
    with pytest.raises(Unavailable):
        sftp.lstat(b"/")
    assert peer.closed


@pytest.mark.parametrize("size", [0, 6])
def test_a_block_of_the_wrong_size_is_nonsense(size: int) -> None:
    peer = SftpPeer(fault=once(wire.READ, lambda number: reply(wire.DATA, number, wire.string(bytes(size)))))
    peer.files[b"/f"] = bytearray(b"truth")
    with pytest.raises(Unavailable):
        b"".join(SftpClient(peer).read_file(b"/f", 5))


@pytest.mark.parametrize("name", [b"", b"a/b", b"../evil", b"nul\0", b"x" * 1025])
def test_what_is_no_name_spoils_its_folder_alone(name: bytes) -> None:
    listing = wire.number(1) + wire.string(name) + wire.string(b"") + wire.number(0)
    peer = SftpPeer(fault=once(wire.READDIR, lambda number: reply(wire.NAME, number, listing)))
    sftp = SftpClient(peer)
    with pytest.raises(OSError):
        sftp.list_folder(b"/").result()
    assert sftp.list_folder(b"/").result() == {}


def test_a_folder_without_end_is_given_up() -> None:
    numbers = iter(range(10**9))

    def endless(request: Request) -> bytes | None:
        if request.kind != wire.READDIR:
            return None
        entry = wire.string(b"%d" % next(numbers)) + wire.string(b"") + wire.number(0)
        return reply(wire.NAME, request.number, wire.number(1) + entry)

    sftp = SftpClient(SftpPeer(fault=endless), max_entries=1000)
    with pytest.raises(OSError) as caught:
        sftp.list_folder(b"/").result()
    assert caught.value.errno == errno.EOVERFLOW


def test_an_early_end_fails_everything_that_waits() -> None:
    peer = SftpPeer(fault=lambda request: b"" if request.kind != wire.INIT else None)
    sftp = SftpClient(peer)
    waiting = [sftp.lstat(b"/"), sftp.write_file(b"/f", [b"x"], 0o644), sftp.list_folder(b"/")]
    reading = sftp.read_file(b"/f", 10)
    peer.end()
    for each in waiting:
        with pytest.raises(Unavailable, match="ended the connection"):
            each.result()
    with pytest.raises(Unavailable):
        b"".join(reading)


def test_the_second_thread_is_refused() -> None:
    refused: list[Exception] = []

    def source() -> Iterator[bytes]:
        def use() -> None:
            try:
                sftp.close()  # from elsewhere it only interrupts
                SftpClient.lstat(sftp, b"/").result()
            except (RuntimeError, Unavailable) as error:
                refused.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(10)
        yield b"x"

    sftp = SftpClient(SftpPeer())
    with pytest.raises(Unavailable):
        sftp.write_file(b"/f", source(), 0o644).result()
    assert [type(each) for each in refused] == [RuntimeError]


# ---------------------------------------------------------------- distance and measure


def test_many_small_files_cost_few_round_trips() -> None:
    peer = SftpPeer(extensions=[LIMITS], round_trip=1.0)
    sftp = SftpClient(peer)
    peer.now, peer.sends = 0.0, []
    writing = [sftp.write_file(b"/f%d" % n, [b"%d" % n * 300], 0o644) for n in range(2000)]
    assert [each.result() for each in writing] == [len(b"%d" % n) * 300 for n in range(2000)]
    assert peer.now <= 20, "round trips for 2,000 files"
    assert len(peer.sends) < 200 and max(peer.sends) <= BATCH
    peer.now, peer.sends = 0.0, []
    reading = [sftp.read_file(b"/f%d" % n, len(b"%d" % n) * 300) for n in range(2000)]
    assert [b"".join(each) for each in reading] == [b"%d" % n * 300 for n in range(2000)]
    assert peer.now <= 24, "round trips back"
    assert peer.most_opened <= 500


def test_one_small_file_costs_two_round_trips() -> None:
    peer = SftpPeer(round_trip=1.0)
    sftp = SftpClient(peer)
    peer.now = 0.0
    sftp.write_file(b"/f", [b"saved"], 0o644).result()
    assert peer.now == 2.0
    assert b"".join(sftp.read_file(b"/f", 5)) == b"saved"
    assert peer.now == 4.0


def test_a_large_file_streams_in_bounded_memory() -> None:
    taken = []
    peer = SftpPeer(extensions=[LIMITS], round_trip=1.0)
    sftp = SftpClient(peer, max_outstanding_bytes=1024 * 1024)

    def chunks() -> Iterator[bytes]:
        for n in range(200):
            taken.append(n)
            assert len(taken) * 100_000 - len(peer.files.get(b"/f", b"")) <= 2 * 1024 * 1024
            yield bytes([n]) * 100_000

    assert sftp.write_file(b"/f", chunks(), 0o644).result() == 20_000_000
    assert max(peer.sends) <= BATCH
    read = 0
    for block in sftp.read_file(b"/f", 20_000_000):
        asked = sum(request.kind == wire.READ for request in peer.requests) * BATCH
        assert asked - read <= 1024 * 1024 + 2 * BATCH
        read += len(block)
    assert read == 20_000_000


def test_the_contents_are_taken_one_file_after_the_other() -> None:
    order: list[int] = []

    def chunks(number: int) -> Iterator[bytes]:
        for _ in range(40):
            order.append(number)
            yield bytes(32 * 1024)

    sftp = SftpClient(SftpPeer(), max_outstanding_bytes=256 * 1024)
    for each in [sftp.write_file(b"/f%d" % n, chunks(n), 0o644) for n in range(5)]:
        each.result()
    assert order == sorted(order), "so that only one source is open at a time"


class NarrowPeer(SftpPeer):
    """A server that does one thing after the other, between two pipes that take in 64 KiB and no more."""

    def __init__(self) -> None:
        super().__init__(extensions=[LIMITS])
        self._unread = b""

    def send(self, data: bytes | memoryview) -> None:
        self._unread += bytes(data)
        self._work()
        assert len(self._unread) <= PIPE, "both sides wait for each other"

    def recv(self, size: int) -> bytes:
        data = super().recv(min(size, 32 * 1024))
        self._work()
        return data

    def _work(self) -> None:
        while self._unread and self.unsent() < PIPE:
            length = 4 + int.from_bytes(self._unread[:4], "big")
            length = min(length, len(self._unread))
            super().send(self._unread[:length])
            self._unread = self._unread[length:]

    def pending(self) -> bool:
        return False  # the news always comes too late


def test_neither_side_waits_for_the_other_for_ever() -> None:
    peer = NarrowPeer()
    sftp = SftpClient(peer)
    content = bytes(range(256)) * 8000
    peer.files |= {b"/r%d" % n: bytearray(content) for n in range(3)}
    reading = [sftp.read_file(b"/r%d" % n, len(content)) for n in range(3)]
    writing = [sftp.write_file(b"/w%d" % n, [content, content], 0o644) for n in range(3)]
    listing = [sftp.list_folder(b"/") for _ in range(50)]
    assert [each.result() for each in writing] == [2 * len(content)] * 3
    assert [b"".join(each) for each in reading] == [content] * 3
    assert all(b"r0" in each.result() for each in listing)


# ---------------------------------------------------------------- framing


@given(st.lists(st.binary(min_size=1, max_size=300)), st.data())
def test_packets_survive_any_cut(packets: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(wire.string(packet) for packet in packets)
    framer, at = wire.Framer(), 0
    found: list[bytes] = []
    while at < len(stream):
        size = data.draw(st.integers(1, 64))
        found += framer.feed(stream[at : at + size])
        at += size
    assert found == packets


@given(st.binary(max_size=200))
def test_no_bytes_harm_the_parser(noise: bytes) -> None:
    """Whatever arrives, a field is read or refused as `Malformed`; nothing else comes out."""
    parsers: list[Callable[[wire.Reply], object]] = [
        wire.Reply.attributes,
        wire.Reply.extensions,
        wire.Reply.limits,
        wire.Reply.space,
        lambda each: each.entries(b"p"),
        lambda each: each.done(b"p"),
        lambda each: each.expect(wire.HANDLE, b"p").string(),
    ]
    for parse in parsers:
        try:
            parse(wire.Reply(noise or b"\0"))
        except (wire.Malformed, wire.EndOfFile, OSError):
            pass


@given(
    st.binary(max_size=400), st.sampled_from([wire.INIT, wire.LSTAT, wire.OPENDIR, wire.READDIR, wire.OPEN])
)
def test_no_peer_gets_more_than_an_error_out_of_the_client(noise: bytes, kind: int) -> None:
    peer = SftpPeer(fault=once(kind, lambda _: noise + b"\0"))
    peer.end()
    try:
        sftp = SftpClient(peer)
        writing, listing = sftp.write_file(b"/f", [b"text"], 0o644), sftp.list_folder(b"/")
        for each in (writing, listing, sftp.lstat(b"/")):
            try:
                each.result()
            except OSError:
                pass
    except Unavailable:
        assert peer.closed
