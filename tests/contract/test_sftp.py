"""What `ports.Sftp` promises, kept by the client against each server that can be had."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devsync.machine.embedded import EmbeddedMachine
from devsync.ports import ByteStream, ContentChanged, Unavailable
from devsync.ssh.connect import connect
from devsync.ssh.sftp import SftpClient
from devsync.ssh.target import Target
from tests.fakes.pipes import PipeStream
from tests.fakes.sftp_peer import SftpPeer
from tests.fakes.sshd import SSHD, Sshd

SERVER = "/usr/lib/openssh/sftp-server"
EXTENSIONS = [
    (b"posix-rename@openssh.com", b"1"),
    (b"limits@openssh.com", b"1"),
    (b"statvfs@openssh.com", b"2"),
    (b"fsync@openssh.com", b"1"),
    (b"hardlink@openssh.com", b"1"),
]


@dataclass
class Place:
    """A client and a folder of its server's to work in."""

    sftp: SftpClient
    root: bytes

    def path(self, name: bytes) -> bytes:
        return self.root + b"/" + name

    def write(self, name: bytes, content: bytes) -> bytes:
        self.sftp.write_file(self.path(name), [content], 0o644).result()
        return self.path(name)

    def read(self, name: bytes) -> bytes:
        return b"".join(self.sftp.read_file(self.path(name), 5))


Opener = Callable[[Path], tuple[ByteStream, bytes]]
"""Opens a stream to a running server, and names a folder to work in as that server does."""


@contextmanager
def _memory(_: Path, **said: Any) -> Iterator[Opener]:
    def opener(_: Path) -> tuple[ByteStream, bytes]:
        peer = SftpPeer(**said)
        peer.folders.add(b"/work")
        return peer, b"/work"

    yield opener


@contextmanager
def _pipe(_: Path) -> Iterator[Opener]:
    assert os.access(SERVER, os.X_OK), "the tests need OpenSSH's sftp-server: .ci/packages installs it"
    yield lambda folder: (PipeStream([SERVER]), os.fsencode(folder))


@contextmanager
def _connected(target: Target) -> Iterator[Opener]:
    link = connect(target)
    try:
        yield lambda folder: (link.subsystem("sftp"), os.fsencode(folder))
    finally:
        link.close()


@contextmanager
def _sshd(home: Path) -> Iterator[Opener]:
    assert SSHD is not None, "the tests need OpenSSH's sshd: .ci/packages installs it"
    server = Sshd(home)
    server.trust()
    server.start()
    try:
        with _connected(server.target) as opener:
            yield opener
    finally:
        server.stop()


@contextmanager
def _embedded(home: Path) -> Iterator[Opener]:
    machine, never = EmbeddedMachine(home / "machine"), threading.Event()
    machine.start(never, lambda _: None)
    address = machine.address()
    target = Target(
        address.host,
        port=address.port,
        user=machine.user,
        identity_file=machine.identity_file,
        known_hosts=machine.known_hosts,
        alias=address.alias,
        config_file=None,
    )
    try:
        with _connected(target) as opener:
            yield opener
    finally:
        machine.deallocate(never, lambda _: None)


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Opener]]] = {
    "openssh": _pipe,
    "openssh over ssh": _sshd,
    "embedded": _embedded,
    "memory": partial(_memory, extensions=EXTENSIONS),
    "memory without extensions": _memory,
    "memory in disorder": partial(_memory, extensions=EXTENSIONS, disorder=True),
}


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    with SERVERS[request.param](tmp_path_factory.mktemp("server")) as opener:
        yield opener


@pytest.fixture
def place(server: Opener, tmp_path: Path) -> Iterator[Place]:
    stream, root = server(tmp_path)
    sftp = SftpClient(stream)
    yield Place(sftp, root)
    sftp.close()


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 300_000, 5_000_001])
def test_what_is_written_is_read(place: Place, size: int) -> None:
    content = os.urandom(size)
    chunks = [content[at : at + 70_000] for at in range(0, size, 70_000)]
    assert place.sftp.write_file(place.path(b"f"), chunks, 0o644).result() == size
    for expected in (size, 0, size // 2, size + 9):
        assert b"".join(place.sftp.read_file(place.path(b"f"), expected)) == content


def test_writing_truncates(place: Place) -> None:
    place.write(b"f", b"a long content")
    place.write(b"f", b"short")
    assert place.read(b"f") == b"short"


def test_hundreds_of_files_go_together(place: Place) -> None:
    contents = {b"f%d" % n: b"x" * n for n in range(700)}
    writing = [place.sftp.write_file(place.path(name), [text], 0o644) for name, text in contents.items()]
    assert [each.result() for each in writing] == list(range(700))
    assert {name: entry.size for name, entry in place.sftp.list_folder(place.root).result().items()} == {
        name: len(text) for name, text in contents.items()
    }
    reading = {name: place.sftp.read_file(place.path(name), len(text)) for name, text in contents.items()}
    assert {name: b"".join(chunks) for name, chunks in reading.items()} == contents


def test_reading_ahead_needs_no_order(place: Place) -> None:
    big = os.urandom(6_000_000)
    place.write(b"big", big)
    readings = [place.sftp.read_file(place.path(b"big"), len(big)) for _ in range(4)]
    for reading in reversed(readings):
        assert b"".join(reading) == big


def test_a_reading_that_is_dropped_holds_nothing(place: Place) -> None:
    place.write(b"big", os.urandom(3_000_000))
    for _ in range(40):
        reading = iter(place.sftp.read_file(place.path(b"big"), 3_000_000))
        assert len(next(reading)) > 0
    del reading
    assert place.write(b"after", b"all is well") and place.read(b"after") == b"all is well"


def test_a_refusal_belongs_to_its_file_alone(place: Place) -> None:
    good = place.sftp.write_file(place.path(b"good"), [b"fine"], 0o644)
    bad = place.sftp.write_file(place.path(b"no/such/folder"), [b"lost"], 0o644)
    good_too = place.sftp.write_file(place.path(b"good too"), [b"also fine"], 0o644)
    missing = place.sftp.read_file(place.path(b"missing"), 3)
    assert (good.result(), good_too.result()) == (4, 9)
    with pytest.raises(FileNotFoundError):
        bad.result()
    with pytest.raises(FileNotFoundError):
        b"".join(missing)


@pytest.mark.parametrize("failure", [ContentChanged("f"), PermissionError("no")])
def test_a_source_that_fails_leaves_no_file(place: Place, failure: Exception) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"the beginning"
        raise failure

    writing = place.sftp.write_file(place.path(b"f"), chunks(), 0o644)
    other = place.sftp.write_file(place.path(b"g"), [b"whole"], 0o644)
    with pytest.raises(type(failure)):
        writing.result()
    assert other.result() == 5
    assert set(place.sftp.list_folder(place.root).result()) == {b"g"}


def test_names_are_bytes(place: Place) -> None:
    names = [b"\xff\xfe", b" ", b"new\nline", b"-rf", "é".encode(), b"x" * 255]
    for name in names:
        place.write(name, name)
    assert set(place.sftp.list_folder(place.root).result()) == set(names)
    assert [place.read(name) for name in names] == names


def test_a_folder_is_listed_to_its_end(place: Place) -> None:
    place.sftp.mkdir(place.path(b"d"), 0o755).result()
    made = [place.sftp.mkdir(place.path(b"d/%d" % n), 0o755) for n in range(1050)]
    for each in made:
        each.result()
    found = place.sftp.list_folder(place.path(b"d")).result()
    assert set(found) == {b"%d" % n for n in range(1050)}
    assert all(entry.mode & 0o170000 == 0o040000 for entry in found.values())
    with pytest.raises(FileNotFoundError):
        place.sftp.list_folder(place.path(b"none")).result()


def test_small_operations_keep_their_order(place: Place) -> None:
    sftp, path = place.sftp, place.path
    place.write(b"f", b"moved along")
    steps = [
        sftp.mkdir(path(b"a"), 0o755),
        sftp.mkdir(path(b"a/b"), 0o755),
        sftp.rename(path(b"f"), path(b"a/b/f")),
        sftp.symlink(b"b/f", path(b"a/link")),
        sftp.set_mode(path(b"a/b/f"), 0o600),
    ]
    for step in steps:
        step.result()
    assert place.read(b"a/b/f") == b"moved along"
    assert sftp.readlink(path(b"a/link")).result() == b"b/f"
    assert sftp.lstat(path(b"a/link")).result().mode & 0o170000 == 0o120000
    assert sftp.lstat(path(b"a/b/f")).result().mode == 0o100600
    for step in [sftp.remove(path(b"a/b/f")), sftp.remove(path(b"a/link")), sftp.rmdir(path(b"a/b"))]:
        step.result()
    assert set(sftp.list_folder(path(b"a")).result()) == set()


def test_rename_replaces_nothing_and_replace_does(place: Place) -> None:
    place.write(b"old", b"old one")
    place.write(b"new", b"newer one")
    with pytest.raises(OSError):
        place.sftp.rename(place.path(b"new"), place.path(b"old")).result()
    assert place.read(b"old") == b"old one"
    if "posix-rename@openssh.com" in place.sftp.extensions:
        place.sftp.replace(place.path(b"new"), place.path(b"old")).result()
        assert place.read(b"old") == b"newer one"
    else:
        with pytest.raises(OSError, match="posix-rename"):
            place.sftp.replace(place.path(b"new"), place.path(b"old")).result()
        assert place.read(b"old") == b"old one"


def test_the_extensions(place: Place) -> None:
    place.write(b"f", b"content")
    if "hardlink@openssh.com" not in place.sftp.extensions:
        with pytest.raises(OSError, match="no hardlink"):
            place.sftp.hardlink(place.path(b"f"), place.path(b"g")).result()
        return
    place.sftp.hardlink(place.path(b"f"), place.path(b"g")).result()
    assert place.read(b"g") == b"content"
    space = place.sftp.statvfs(place.root).result()
    assert space.total >= space.free > 0
    assert place.sftp.write_file(place.path(b"h"), [b"durable"], 0o644, durable=True).result() == 7


def test_interrupt_ends_every_wait(place: Place) -> None:
    place.sftp.interrupt()
    with pytest.raises(Unavailable):
        place.sftp.lstat(place.root).result()
    with pytest.raises(Unavailable):
        place.sftp.lstat(place.root).result()
    place.sftp.close()


def test_a_wait_in_another_thread_is_interrupted() -> None:
    stream = PipeStream(["cat"])  # says back what it hears, and after that nothing
    waits = threading.Event()
    told: list[Exception] = []

    class Waiting(PipeStream):
        def __init__(self) -> None:
            super().__init__(["sleep", "60"])

        def recv(self, size: int) -> bytes:
            waits.set()
            return super().recv(size)

    silent = Waiting()

    def wait() -> None:
        try:
            SftpClient(silent)
        except Unavailable as lost:
            told.append(lost)

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(10)
    silent.close()
    thread.join(10)
    assert len(told) == 1
    with pytest.raises(Unavailable, match="nonsense"):
        SftpClient(stream)
