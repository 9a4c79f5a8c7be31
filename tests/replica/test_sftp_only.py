"""A replica by SFTP alone: somebody edits in the worst moment, a commit dies, the machine is far away."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, File, Leaf, Outcome
from devsync.ports import Halted, Pending, Unavailable
from devsync.replica.sftp_only import SftpOnlyReplica
from devsync.ssh import sftp_wire as wire
from devsync.ssh.sftp import SftpClient
from tests.fakes.pipes import PipeStream
from tests.fakes.sftp_peer import FAILURE, Request, SftpPeer, status

SERVER = "/usr/lib/openssh/sftp-server"
LIMITS = (b"limits@openssh.com", b"1")
POSIX_RENAME = (b"posix-rename@openssh.com", b"1")

pytestmark = pytest.mark.skipif(not os.access(SERVER, os.X_OK), reason="no OpenSSH sftp-server here")


class Meddled(SftpClient):
    """A client that lets somebody act right before a request of one kind leaves."""

    meddle: Callable[[str, bytes], None] | None = None

    def _moment(self, name: str, path: bytes) -> None:
        meddle = self.meddle
        if meddle is not None:
            meddle(name, path)

    def replace(self, old: bytes, new: bytes) -> Pending[None]:
        self._moment("aside", old)
        return super().replace(old, new)

    def rename(self, old: bytes, new: bytes) -> Pending[None]:
        self._moment("appear", new)
        return super().rename(old, new)


class Scene:
    """A folder, a replica of it, and a user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.client = Meddled(PipeStream([SERVER]))
        self.replica = SftpOnlyReplica(self.client, str(root))

    def write(self, name: str, content: bytes) -> Leaf:
        (self.root / name).write_bytes(content)
        return leaf(content)

    def once(self, moment: str, name: str, act: Callable[[], object]) -> None:
        """Have `act` happen right before the request."""
        left = [act]

        def meddle(kind: str, path: bytes) -> None:
            if kind == moment and path == os.fsencode(self.root / name) and left:
                left.pop()()

        self.client.meddle = meddle

    def apply(self, name: str, old: Leaf | None, new: bytes | None) -> Outcome:
        if new is not None:
            staging = self.replica.staging()
            staging.put(leaf(new), [new])
            assert not staging.finish()
        # What a request of before is answered to must not be what the user's act changes.
        (outcome,) = self.replica.apply([Change(name, old, leaf(new) if new is not None else None)])
        return outcome

    def kept(self) -> set[bytes]:
        return {slot.read_bytes() for slot in (self.root / ".devsync/trash").glob("*/[0-9]*")}


def leaf(content: bytes) -> File:
    return File(hashlib.sha256(content).hexdigest(), len(content))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.replica.close()


# ---------------------------------------------------------------- somebody else at work


@pytest.mark.parametrize("new", [b"from the other side", None])
def test_2_an_edit_in_the_last_moment_stays(scene: Scene, new: bytes | None) -> None:
    old = scene.write("f", b"as it was seen")
    scene.once("aside", "f", lambda: scene.write("f", b"the user's unseen edit"))
    outcome = scene.apply("f", old, new)
    assert outcome == Outcome("f", False, leaf(b"the user's unseen edit"))
    assert (scene.root / "f").read_bytes() == b"the user's unseen edit"


def test_2_an_edit_in_the_gap_stays_and_the_old_version_is_kept(scene: Scene) -> None:
    old = scene.write("f", b"as it was seen")

    def save() -> None:
        scene.client.lstat(b"/").result()  # so that the old version is aside
        scene.write("f", b"saved in the gap")

    scene.once("appear", "f", save)
    outcome = scene.apply("f", old, b"from the other side")
    assert outcome == Outcome("f", False, leaf(b"saved in the gap"))
    assert (scene.root / "f").read_bytes() == b"saved in the gap"
    assert b"as it was seen" in scene.kept()


def test_a_deletion_in_the_last_moment_stands(scene: Scene) -> None:
    old = scene.write("f", b"as it was seen")
    scene.once("aside", "f", (scene.root / "f").unlink)
    assert scene.apply("f", old, b"from the other side") == Outcome("f", False, None)
    assert not (scene.root / "f").exists()


def test_a_name_that_is_taken_in_the_last_moment_is_not_clobbered(scene: Scene) -> None:
    scene.once("appear", "f", lambda: scene.write("f", b"the user's own"))
    assert scene.apply("f", None, b"from the other side") == Outcome("f", False, leaf(b"the user's own"))
    assert (scene.root / "f").read_bytes() == b"the user's own"


def test_33_an_edit_of_equal_size_within_the_second_is_seen(scene: Scene) -> None:
    for content in (b"one", b"two", b"six"):
        seen = scene.write("f", content)
        assert scene.replica.scan().leaves == {"f": seen}


def test_an_old_file_is_read_once(scene: Scene) -> None:
    seen = scene.write("f", b"old enough")
    os.utime(scene.root / "f", (1_700_000_000, 1_700_000_000))
    assert scene.replica.scan().leaves == {"f": seen}
    scene.client.read_file = None  # type: ignore[method-assign, assignment]
    assert scene.replica.scan().leaves == {"f": seen}
    assert scene.replica.scan(["f"]).leaves == {"f": seen}


def test_35_a_root_that_is_gone_halts(scene: Scene) -> None:
    scene.write("f", b"content")
    scene.root.rename(scene.root.with_name("elsewhere"))
    with pytest.raises(Halted):
        scene.replica.scan()
    with pytest.raises(Halted):
        scene.replica.apply([])


# ---------------------------------------------------------------- a commit that dies


@pytest.mark.parametrize("moment", ["aside", "appear"])
@pytest.mark.parametrize("sent", [False, True])
def test_18_a_commit_that_died_is_healed(scene: Scene, moment: str, sent: bool) -> None:
    old = scene.write("f", b"as it was seen")

    def die() -> None:
        if sent:
            scene.client.lstat(b"/").result()
        scene.client.interrupt()

    scene.once(moment, "f", die)
    with pytest.raises(Unavailable):
        scene.apply("f", old, b"from the other side")
    again = Scene(scene.root)
    try:
        again.replica.claim("the next start", "here:/p", take_over=False)
        assert again.replica.scan().leaves == {"f": old}
        assert not list((scene.root / ".devsync/tmp").iterdir())
    finally:
        again.replica.close()


# ---------------------------------------------------------------- a server of our own making


def over(peer: SftpPeer) -> SftpOnlyReplica:
    return SftpOnlyReplica(SftpClient(peer), "/p", create=True)


def stage(replica: SftpOnlyReplica, contents: list[bytes]) -> dict[str, str]:
    staging = replica.staging()
    for content in contents:
        staging.put(leaf(content), [content])
    return dict(staging.finish())


def round_trips(number: int, extensions: list[tuple[bytes, bytes]]) -> float:
    """What it takes to replace so many files and to look at them again."""
    peer = SftpPeer(round_trip=1.0, extensions=extensions)
    replica = over(peer)
    old = [b"%d is old" % n for n in range(number)]
    new = [b"%d is newer" % n for n in range(number)]
    for n, content in enumerate(old):
        peer.files[b"/p/f%d" % n] = bytearray(content)
    assert not stage(replica, new)
    peer.now = 0.0
    changes = [Change(f"f{n}", leaf(old[n]), leaf(new[n])) for n in range(number)]
    assert all(outcome.done for outcome in replica.apply(changes))
    assert replica.scan().leaves == {f"f{n}": leaf(new[n]) for n in range(number)}
    return peer.now


@pytest.mark.parametrize("extensions", [[LIMITS], [LIMITS, POSIX_RENAME]])
def test_a_batch_costs_few_round_trips(extensions: list[tuple[bytes, bytes]]) -> None:
    one, many = round_trips(1, extensions), round_trips(300, extensions)
    assert one <= 34
    assert many <= one + 10


def test_71_wrong_bytes_on_the_disk_are_found_by_reading_back() -> None:
    def corrupt(request: Request) -> bytes | None:
        if request.kind != wire.WRITE or b"precious" not in request.body:
            return None
        return status(request.number, 0)  # says that it is done, and has done nothing

    peer = SftpPeer(fault=corrupt)
    replica = over(peer)
    assert stage(replica, [b"precious", b"other"]) == {leaf(b"precious").digest: "it arrived damaged"}
    outcomes = replica.apply([Change("f", None, leaf(b"precious")), Change("g", None, leaf(b"other"))])
    assert [outcome.done for outcome in outcomes] == [False, True]
    assert b"/p/f" not in peer.files


def test_77_a_failing_write_leaves_the_target_alone() -> None:
    def full(request: Request) -> bytes | None:
        return status(request.number, FAILURE, b"Failure") if request.kind == wire.WRITE else None

    peer = SftpPeer()
    peer.files[b"/p/f"] = bytearray(b"old one")
    replica = over(peer)
    replica.staging()
    peer.fault = full
    problems = stage(replica, [b"the new one"])
    assert "Failure" in problems[leaf(b"the new one").digest]
    (outcome,) = replica.apply([Change("f", leaf(b"old one"), leaf(b"the new one"))])
    assert not outcome.done and outcome.problem
    assert peer.files[b"/p/f"] == b"old one"


def test_38_a_listing_that_fails_is_unknown_and_not_empty() -> None:
    def fails(request: Request) -> bytes | None:
        refused = request.kind == wire.OPENDIR and request.fields.string() == b"/p/a"
        return status(request.number, FAILURE, b"stale handle") if refused else None

    peer = SftpPeer(fault=fails)
    peer.folders |= {b"/p", b"/p/a", b"/p/b"}
    peer.files |= {b"/p/a/f": bytearray(b"unseen"), b"/p/b/f": bytearray(b"seen by us")}
    snapshot = over(peer).scan()
    assert snapshot.leaves == {"b/f": leaf(b"seen by us")}
    assert list(snapshot.problems) == ["a"]


def test_10_a_folder_that_vanishes_while_it_is_listed_is_unknown() -> None:
    peer = SftpPeer()
    peer.folders |= {b"/p", b"/p/a"}
    peer.files |= {b"/p/a/%d" % n: bytearray(b"x") for n in range(150)}

    def vanish(request: Request) -> bytes | None:
        if request.kind == wire.READDIR and len(peer.requests) > 3 and b"/p/a" in peer.folders:
            peer.files = {path: text for path, text in peer.files.items() if not path.startswith(b"/p/a/")}
            peer.folders.remove(b"/p/a")
            return status(request.number, 1)
        return None

    replica = over(peer)
    replica.scan()
    peer.requests.clear()
    peer.fault = vanish
    assert "a" in replica.scan(["a"]).problems
