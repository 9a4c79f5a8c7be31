"""Parcels: what comes out is what went in, in whatever pieces it arrives, and never anything else."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devsync.core.snapshot import File
from devsync.ports import ContentChanged
from devsync.replica import codec, parcel
from devsync.replica.arrival import Cut
from devsync.replica.commit import no_step
from devsync.replica.home import Home
from devsync.replica.parcels import Parcel, Parcels

NAME = parcel.NUMBER
CODECS = sorted(codec.openers())


class Written:
    """A ports.Writing that keeps what it is given."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return 0

    def close(self) -> Written:
        return self

    def result(self) -> None: ...


class Nothing:
    """An SFTP client and a helper that are not there."""

    def __init__(self) -> None:
        self.written = Written()

    def begin_file(self, path: bytes, mode: int) -> Written:
        return self.written

    def hurry(self) -> None: ...

    def ask(self, verb: str, **arguments: object) -> Nothing:
        return self

    def result(self) -> dict[str, str]:
        return {}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """The `.devsync` of an empty project."""
    (tmp_path / "project").mkdir()
    root = os.open(tmp_path / "project", os.O_RDONLY | os.O_DIRECTORY)
    with Home(root, no_step) as opened:
        yield opened
    os.close(root)


def content(data: bytes) -> File:
    return File(hashlib.sha256(data).hexdigest(), len(data))


def packed(name: str, put: Callable[[Parcel], None], where: dict[str, str] | None = None) -> bytes:
    """What a parcel holds into which `put` has put something."""
    line = Nothing()
    parcels = Parcels(line, line, b"tmp/", [name])  # type: ignore[arg-type]  # as far as parcels go
    made = parcels.parcel(lambda file: (where or {}).get(file.digest))
    put(made)
    made.finish()
    return line.written.data


def unpack(home: Home, name: str, data: bytes, *, gone: bool = True) -> dict[str, str]:
    descriptor = os.open("parcel-x", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=home.tmp)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return parcel.unpack(home, "parcel-x", codec.openers()[name], lambda: gone)


def staged(home: Home, file: File) -> bytes:
    with open(os.open(file.digest, os.O_RDONLY, dir_fd=home.tmp), "rb") as found:
        return found.read()


@pytest.mark.parametrize("name", CODECS)
def test_what_went_in_comes_out(home: Home, name: str) -> None:
    contents = [b"", b"x", b"text " * 1000, os.urandom(3_000_000), bytes(5_000_001)]

    def put(made: Parcel) -> None:
        for data in contents:
            made.put(content(data), [data[:7], b"", data[7:]])
            made.put(content(data), [b"the same again, which is not looked at"])

    data = packed(name, put)
    assert unpack(home, name, data) == {}
    assert [staged(home, content(each)) for each in contents] == contents
    assert not any(left.startswith("parcel") for left in os.listdir(home.tmp))
    if name != codec.RAW:
        assert len(data) < 3_400_000


def test_both_ways_to_zstd_agree() -> None:
    pack = codec.packer([codec.ZSTD])[1]
    assert pack is not None
    block = b"so it goes " * 999
    for opener in (codec._zstd_module(), codec._zstd_library()):
        assert opener is not None
        assert opener(pack(block), len(block)) == block
        for lie in (pack(block)[:-3], b"nonsense", b""):
            with pytest.raises(ValueError):
                opener(lie, len(block))
        with pytest.raises(ValueError):
            opener(pack(block), len(block) - 1)


def test_it_is_unpacked_while_it_arrives(home: Home) -> None:
    data = b"piece by piece " * 100_000
    whole = packed(codec.RAW, lambda made: made.put(content(data), [data]))
    path = f"/proc/self/fd/{home.tmp}/parcel-x"
    begun = threading.Event()

    def write() -> None:
        begun.wait(5)
        for start in range(0, len(whole), 400_000):
            with open(path, "ab") as file:
                file.write(whole[start : start + 400_000])

    writer = threading.Thread(target=write)
    writer.start()

    def gone() -> bool:
        begun.set()  # it has looked, and found nothing yet
        return False

    assert parcel.unpack(home, "parcel-x", codec.openers()[codec.RAW], gone) == {}
    writer.join()
    assert staged(home, content(data)) == data


def test_a_part_is_taken_from_what_is_there(home: Home, tmp_path: Path) -> None:
    old = b"0123456789" * 1000
    (tmp_path / "project" / "moved.bin").write_bytes(old)
    data = packed(codec.RAW, lambda made: made.put(content(old), []), {content(old).digest: "moved.bin"})
    assert len(data) < 300
    assert unpack(home, codec.RAW, data) == {}
    assert staged(home, content(old)) == old


@pytest.mark.parametrize(
    "source", ["gone.bin", "../outside", "/etc/passwd", ".git/config", "link", "short.bin"]
)
def test_a_part_of_something_else_is_that_contents_problem_alone(
    home: Home, tmp_path: Path, source: str
) -> None:
    (tmp_path / "outside").write_bytes(b"o" * 10)
    (tmp_path / "project" / "link").symlink_to("../outside")
    (tmp_path / "project" / "short.bin").write_bytes(b"abc")
    wanted, other = b"o" * 10, b"the next one"

    def put(made: Parcel) -> None:
        made.put(content(wanted), [])
        made.put(content(other), [other])

    problems = unpack(home, codec.RAW, packed(codec.RAW, put, {content(wanted).digest: source}))
    assert list(problems) == [content(wanted).digest]
    assert staged(home, content(other)) == other
    assert content(wanted).digest not in os.listdir(home.tmp)


def test_a_content_that_changes_is_given_up_alone(home: Home) -> None:
    def broken() -> Iterator[bytes]:
        yield b"the beginning"
        raise ContentChanged("it was saved again")

    wanted, other = File("a" * 64, 100), b"another"
    line = Nothing()
    made = Parcels(line, line, b"", [codec.RAW]).parcel(lambda _: None)  # type: ignore[arg-type]  # as above
    made.put(wanted, broken())
    made.put(content(other), [other])
    assert made.finish() == {wanted.digest: "it was saved again"}
    assert list(unpack(home, codec.RAW, line.written.data)) == [wanted.digest]
    assert staged(home, content(other)) == other


@pytest.mark.parametrize("short", [1, 3, 4, 5, 40, 2000])
def test_one_that_is_cut_off_leaves_nothing(home: Home, short: int) -> None:
    data = os.urandom(5000)
    whole = packed(codec.RAW, lambda made: made.put(content(data), [data]))
    with pytest.raises(Cut):
        unpack(home, codec.RAW, whole[:-short])
    assert "parcel-x" not in os.listdir(home.tmp)


def block(data: bytes) -> bytes:
    return parcel.HEAD.pack(len(data), 0) + data + NAME.pack(0)


@pytest.mark.parametrize(
    "lie",
    [
        parcel.HEAD.pack(parcel.LONGEST_BLOCK + 1, 0),
        parcel.HEAD.pack(4, parcel.LONGEST_BLOCK + 1) + b"1234",
        block(NAME.pack(parcel.LONGEST_HEADER + 1)),
        block(NAME.pack(2) + b"[]"),
        block(NAME.pack(3) + b"{}}"),
        block(NAME.pack(len(b'{"digest": "../../x", "size": 1}')) + b'{"digest": "../../x", "size": 1}'),
        block(NAME.pack(9) + b"too short"[:4]),
        parcel.HEAD.pack(9, 100) + zlib.compress(b"x") + NAME.pack(0),
    ],
)
def test_what_no_sender_packs_is_refused(home: Home, lie: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, Cut)):
        unpack(home, codec.ZLIB, lie)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300))
def test_no_bytes_make_it_write_what_is_not_a_content(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    with Home(root, no_step) as home:
        try:
            unpack(home, codec.ZLIB, block(data))
        except (ValueError, KeyError, TypeError, Cut):
            pass
        for name in os.listdir(home.tmp):
            found = home.tmp, name
            with open(os.open(name, os.O_RDONLY, dir_fd=found[0]), "rb") as file:
                assert hashlib.sha256(file.read()).hexdigest() == name
    os.close(root)


def test_a_header_is_json() -> None:
    whole = packed(codec.RAW, lambda made: made.put(content(b"abc"), [b"abc"]))
    length = NAME.unpack(whole[8:12])[0]
    assert json.loads(whole[12 : 12 + length]) == {"digest": content(b"abc").digest, "size": 3}
