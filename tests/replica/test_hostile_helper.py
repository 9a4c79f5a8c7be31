"""A machine that lies: an error for the user, never a path that nobody asked for."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from typing import Any

import pytest

from devsync.core.snapshot import Change, File
from devsync.ports import DevsyncError, Halted, Unavailable
from devsync.replica import frames
from devsync.replica.luggage import SYNC
from devsync.replica.remote import RemoteReplica

GREETING = {
    "python": [3, 8, 0],
    "platform": "linux",
    "home": "/home/x",
    "root": "/home/x/project",
    "euid": 1000,
    "free": 5,
    "exists": False,
    "temporary_disk": False,
    "inside": "",
    "codecs": ["raw"],
}
NAMING = [False, False, False, 255]
LEAF = ["f", hashlib.sha256(b"").hexdigest(), 0, False]


class Scripted:
    """A `ports.Process` that answers what it was told to, whatever it is asked."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = b"".join([b"motd\n", SYNC, *answers])
        self.closed = False

    def send(self, data: bytes | memoryview) -> None:
        """Nobody listens."""

    def recv(self, size: int) -> bytes:
        data, self.answers = self.answers[:size], self.answers[size:]
        return data

    def recv_stderr(self, size: int) -> bytes:
        return b""

    def pending(self) -> bool:
        return True

    def shutdown_write(self) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    def wait(self) -> int:
        return 1

    def close(self) -> None:
        self.closed = True


class NoSftp:
    """Nothing is asked of it."""

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


def lying(*answers: Any) -> RemoteReplica:
    script = [frames.encode({"ok": GREETING}), frames.encode({"ok": NAMING})]  # asked for from the start
    script += [a if isinstance(a, bytes) else frames.encode(a) for a in answers]
    return RemoteReplica(lambda _: Scripted(script), NoSftp, "~/project")  # type: ignore[arg-type]  # never asked


def snapshot(**parts: Any) -> Any:
    return {"ok": {"leaves": [], "problems": [], "skipped": [], "differing": [0], **parts}}


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        ".git/hooks/x",
        "a/.GIT/x",
        "git~1",
        "",
        "a//b",
        "a\0b",
        5,
        None,
        ["a"],
    ],
)
def test_149_improper_paths_are_an_error(path: Any) -> None:
    with pytest.raises(DevsyncError, match="makes no sense"):
        lying(snapshot(leaves=[[path, LEAF]])).scan()


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": None},
        {"ok": []},
        ["ok"],
        snapshot(leaves=[["a", None]]),
        snapshot(leaves=[["a", ["f", "xx", 0, False]]]),
        snapshot(leaves=[["a", ["f", LEAF[1], -1, False]]]),
        snapshot(leaves=[["a", ["l", ""]]]),
        snapshot(leaves=[["other", LEAF]]),
        snapshot(leaves={"a": LEAF}),
        snapshot(problems=[["a", 5]]),
        snapshot(differing=[1]),
        snapshot(differing=[-1]),
        snapshot(differing=["0"]),
        snapshot(differing=None),
        snapshot(leaves=[["a", LEAF]], differing=[]),
        b"\xff\xff\xff\xffj",
        b"\x00\x00\x00\x05x12345",
        b"\x00\x00\x00\x05z12345",
        b"\x00\x00\x00\x05j[[[[[",
    ],
)
def test_answers_that_make_no_sense(answer: Any) -> None:
    scoped = "other" in str(answer)
    with pytest.raises(DevsyncError, match="makes no sense"):
        lying(answer).scan(["a"] if scoped else None)


def test_151_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "INFLATED_LIMIT", 1 << 20)
    bomb = zlib.compress(b" " * (1 << 22))
    with pytest.raises(DevsyncError, match="longer than allowed"):
        lying(struct.pack("!Ic", len(bomb), b"z") + bomb).scan()


@pytest.mark.parametrize(
    "outcomes",
    [
        [],
        True,
        [False],
        [1],
        [True, True],
        [["b", None, ""]],
        [["a", None]],
        [["a", "x", ""]],
        [["a", None, 5]],
    ],
)
def test_outcomes_of_something_else(outcomes: Any) -> None:
    old = File("0" * 64, 1)
    with pytest.raises(DevsyncError, match="makes no sense"):
        lying({"ok": outcomes}).apply([Change("a", old, None)])


def test_an_end_is_unavailable_and_a_lost_root_halts() -> None:
    with pytest.raises(Unavailable):
        lying().scan()
    with pytest.raises(Unavailable, match="mid-sentence"):
        lying(b"\x00\x00").scan()
    with pytest.raises(Halted):
        lying({"error": "the project folder is gone: /x", "kind": "gone"}).scan()


def test_153_what_it_says_moves_no_cursor() -> None:
    with pytest.raises(DevsyncError) as told:
        lying({"error": "\x1b[2Jcleared\u202e" + "x" * 9000, "kind": "failed"}).scan()
    assert told.value.message.isprintable() and len(told.value.message) < 600
    found = lying(snapshot(problems=[["a", "\x1b]0;title\x07"]])).scan()
    assert found.problems["a"].isprintable()


@pytest.mark.parametrize(
    "lie", [{"root": "relative"}, {"root": "/a/../b"}, {"euid": "0"}, {"exists": 1}, {"python": "3"}]
)
def test_a_greeting_that_is_none(lie: dict[str, Any]) -> None:
    script = [frames.encode({"ok": {**GREETING, **lie}})]
    process = Scripted(script)
    with pytest.raises(DevsyncError, match="makes no sense"):
        RemoteReplica(lambda _: process, NoSftp, "~")  # type: ignore[arg-type]  # never asked
    assert process.closed


def test_frames_there_and_back() -> None:
    messages: list[Any] = [{}, {"a": ["\udcff", "é😀", None, 1.5]}, ["x" * 100_000], list(range(5000))]
    for message in messages:
        assert frames.read(io.BytesIO(frames.encode(message)).read) == message
