"""Odd names, links, kinds, sizes and modes, both ways, with the real daemon and OpenSSH's server."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.replica.atomic import exchange
from tests.system.pair import Pair, started_pair
from tests.system.project import wait_for

pytestmark = pytest.mark.timeout(120)

NAMES = [
    b"new\nline",
    b"tab\there",
    b"escape\x1b[31mred",
    b"quote'and\"quote",
    b"$(touch pwned)",
    b"`touch pwned`",
    b"; touch pwned",
    b"-rf",
    b"--help",
    b"trailing space ",
    b" leading",
    b"trailing dot.",
    b"...",
    b"*?[a-z]{a,b}",
    b"back\\slash\\n",
    b"percent %s %n",
    b"~",
    b"#hash#",
    b"a:b",
    b"bell\x07\x7f",
    b"x" * 255,
    "\u00fc".encode() * 127,
    b"latin-\xe9",
    b"\xff\xfe\xfd",
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    b"Twin",
    b"twin",
    b"TWIN",
    "\u202eabc".encode(),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One pair for all tests, each in a folder of its own."""
    with started_pair(tmp_path_factory.mktemp("odd")) as pair:
        yield pair


@pytest.fixture
def pair(shared: Pair) -> Pair:
    answer = shared.barrier()
    assert not answer["conflicts"]
    return shared


def contents(root: Path) -> dict[bytes, bytes]:
    """Every file below, by its bytes."""
    found = {}
    for folder, _, files in os.walk(os.fsencode(root)):
        for name in files:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, os.fsencode(root))] = file.read()
    return found


@pytest.mark.parametrize("side", ["here", "far"])
def test_91_92_94_95_any_name_that_the_disk_allows(pair: Pair, side: str) -> None:
    source, target = (pair.here, pair.far) if side == "here" else (pair.far, pair.here)
    top = source / f"names-{side}"
    top.mkdir()
    for number, name in enumerate(NAMES):
        with open(os.path.join(os.fsencode(top), name), "wb") as file:
            file.write(b"n" * number)
        folder = os.path.join(os.fsencode(top), b"below " + name[:200])
        os.mkdir(folder)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"b" * number)
    assert pair.barrier() == {"conflicts": [], "unsettled": {}}
    wanted = contents(top)
    assert len(wanted) == 2 * len(NAMES)
    assert contents(target / top.name) == wanted
    assert not list(pair.far.rglob("pwned"))
    said = pair.project.devsync("status").stdout + pair.project.log()
    assert "\x1b" not in said
    for name in NAMES:
        os.unlink(os.path.join(os.fsencode(top), name))
    assert pair.barrier() == {"conflicts": [], "unsettled": {}}
    assert contents(target / top.name) == contents(top)


def test_96_links_are_carried_as_links_or_not_at_all(pair: Pair, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "secret.txt").write_text("not of this project\n")
    here, far = pair.here / "links", pair.far / "links"
    (here / "folder").mkdir(parents=True)
    (here / "folder" / "file.txt").write_text("inside\n")
    inside = {"to-file": "folder/file.txt", "to-folder": "folder", "dangling": "nowhere", "self": "self",
              "round": "folder/../to-folder", "odd\nname": "$(x)\t'"}  # fmt: skip
    outside = {"absolute": str(canary), "leaving": "../../canary", "far-out": "../../../../../etc/passwd"}
    for name, target in {**inside, **outside}.items():
        os.symlink(target, here / name)
    pair.barrier()
    assert {name: os.readlink(far / name) for name in inside} == inside
    assert not [name for name in outside if os.path.lexists(far / name)]
    problems = pair.project.status()["sync"]["problems"]
    assert all("leaves the project" in problems[f"links/{name}"] for name in outside)

    # A link to a folder becomes a folder, and a link again.
    os.unlink(here / "to-folder")
    (here / "to-folder").mkdir()
    (here / "to-folder" / "now.txt").write_text("a folder\n")
    pair.barrier()
    assert (far / "to-folder" / "now.txt").read_text() == "a folder\n"
    assert sorted(os.listdir(far / "folder")) == ["file.txt"], "it was written through the link"
    os.unlink(here / "to-folder" / "now.txt")
    os.rmdir(here / "to-folder")
    os.symlink("folder", here / "to-folder")
    pair.barrier()
    assert os.readlink(far / "to-folder") == "folder"
    for name in outside:
        os.unlink(here / name)
    pair.settle()


@pytest.mark.parametrize("side", ["here", "far"])
def test_96_a_parent_that_turns_into_a_link_leads_nowhere(pair: Pair, tmp_path: Path, side: str) -> None:
    """On one side a racer flips a folder and a link to a canary, while files go to and from that folder."""
    racing, other = (pair.here, pair.far) if side == "here" else (pair.far, pair.here)
    canary = tmp_path / "canary"
    canary.mkdir()
    for number in range(20):
        (canary / f"{number}.txt").write_text("CANARY\n")
    parent, spare = racing / f"flip-{side}" / "parent", tmp_path / "spare"
    parent.mkdir(parents=True)
    for number in range(20):
        (parent / f"{number}.txt").write_text("agreed on\n")
    pair.barrier()
    os.symlink(canary, spare)
    above, beside = os.open(parent.parent, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    over, flips = threading.Event(), 0

    def flip() -> None:
        nonlocal flips
        while flips < 2000 or flips % 2 or not over.is_set():
            exchange(above, "parent", beside, "spare")  # one step: it is always there, as one or the other
            flips += 1
            time.sleep(0.0007)

    racer = threading.Thread(target=flip, name="racer")
    racer.start()
    beyond = other / f"flip-{side}" / "parent"
    for number in range(100):
        (beyond / f"{number % 20}.txt").write_text(f"{number}\n" * (1 + number % 5))
        (beyond / f"new-{number}.txt").write_text("n" * number)
        time.sleep(0.02)
    over.set()
    racer.join()
    os.close(above)
    os.close(beside)
    assert flips >= 2000
    pair.settle()
    after = {path.name: path.read_text() for path in canary.iterdir()}
    assert after == {f"{number}.txt": "CANARY\n" for number in range(20)}, "it was written through the link"
    assert not [path for path in other.rglob("*.txt") if path.is_file() and path.read_text() == "CANARY\n"]


@pytest.mark.parametrize("side", ["here", "far"])
def test_97_what_is_no_file_is_never_opened(pair: Pair, side: str) -> None:
    source, target = (pair.here, pair.far) if side == "here" else (pair.far, pair.here)
    top = source / f"special-{side}"
    top.mkdir()
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        at = os.getcwd()
        os.chdir(top)  # the path of a socket must be short
        listening.bind("socket")
        os.chdir(at)
    if os.getuid() == 0:
        os.mknod(top / "device", stat.S_IFCHR | 0o600, os.makedev(1, 7))  # /dev/full
    (top / "file.txt").write_text("beside them\n")
    assert pair.barrier() == {"conflicts": [], "unsettled": {}}
    for _ in range(20):
        with pytest.raises(OSError, match="No such device or address"):  # nobody has it open for reading
            os.open(top / "fifo", os.O_WRONLY | os.O_NONBLOCK)
        (top / "file.txt").write_text("beside them\n" * 2)
    assert pair.barrier() == {"conflicts": [], "unsettled": {}}
    assert os.listdir(target / top.name) == ["file.txt"]
    kinds = {"fifo": "FIFO", "socket": "socket", **({"device": "device"} if os.getuid() == 0 else {})}
    assert pair.project.status()["sync"]["skipped"] == len(kinds), "counted"
    place = "here" if side == "here" else "on the machine"
    said = pair.project.devsync("diff").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in said if line.startswith("skipped")] == [
        ["skipped", f"{top.name}/{name}: a {kinds[name]} {place}"] for name in sorted(kinds)
    ]
    shutil.rmtree(top)
    assert pair.barrier() == {"conflicts": [], "unsettled": {}}
    assert pair.project.status()["sync"]["skipped"] == 0


# ---------------------------------------------------------------- what cannot be read

BLIND = "-dac_override,-dac_read_search"
"""What root must do without, so that modes count for it too."""


@pytest.mark.skipif(os.getuid() != 0, reason="drops capabilities that only root has")
def test_37_81_what_cannot_be_read_is_unknown_and_not_deleted(tmp_path: Path) -> None:
    """On both sides: a folder and a file of mode 000; the rest goes on."""
    with started_pair(tmp_path, drop=BLIND) as pair:
        for root, name in ((pair.here, "far"), (pair.far, "here")):
            (root / f"closed-{name}").mkdir()
            (root / f"closed-{name}" / "kept.txt").write_text("to be kept\n")
            (root / f"closed-{name}.txt").write_text("to be kept too\n")
        pair.settle()
        for name, root in (("here", pair.here), ("far", pair.far)):
            (root / f"closed-{name}").chmod(0)
            (root / f"closed-{name}.txt").chmod(0)
            (root / f"open-{name}.txt").write_text("goes on\n")
        answer = pair.barrier()
        assert set(answer["unsettled"]) == {"closed-here", "closed-here.txt", "closed-far", "closed-far.txt"}
        assert (pair.far / "open-here.txt").read_text() == (pair.here / "open-far.txt").read_text()
        for root in (pair.here, pair.far):
            for name in ("here", "far"):
                assert (root / f"closed-{name}" / "kept.txt").read_text() == "to be kept\n"
        (pair.far / "closed-here.txt").write_text("changed there, not to be written here\n")
        pair.barrier()
        assert (pair.here / "closed-here.txt").read_text() == "to be kept too\n"
        for name, root in (("here", pair.here), ("far", pair.far)):
            (root / f"closed-{name}").chmod(0o755)
            (root / f"closed-{name}.txt").chmod(0o644)
        pair.settle()


def test_100_a_path_deeper_than_anybody_looks(pair: Pair) -> None:
    """What is below is unknown, and said to be; beside it everything goes on."""
    top = pair.here / "depths"
    top.mkdir()
    at = os.getcwd()
    os.chdir(top)
    try:
        for _ in range(300):
            os.mkdir("d")
            os.chdir("d")
        Path("bottom.txt").write_text("nobody sees this\n")
    finally:
        os.chdir(at)
    (top / "beside.txt").write_text("goes on\n")
    pair.barrier()
    assert (pair.far / "depths" / "beside.txt").read_text() == "goes on\n"
    problems = pair.project.status()["sync"]["problems"]
    assert any("folders deep" in why for why in problems.values())
    os.chdir(top)
    try:
        for _ in range(300):
            os.chdir("d")
        os.unlink("bottom.txt")
    finally:
        os.chdir(at)
    subprocess.run(["rm", "-rf", top / "d"], check=True)
    pair.settle()


# ---------------------------------------------------------------- sizes and modes


def test_99_sizes(pair: Pair) -> None:
    sizes = [0, 1, 4095, 4096, 32768, 32769, 1 << 20, (1 << 20) + 1]
    (pair.here / "sizes").mkdir()
    for size in sizes:
        (pair.here / "sizes" / str(size)).write_bytes(b"s" * size)
    with (pair.here / "sizes" / "sparse").open("wb") as file:
        file.seek(200_000_000)
        file.write(b"the end")
    pair.barrier()
    far = pair.far / "sizes"
    assert [(far / str(size)).read_bytes() == b"s" * size for size in sizes] == [True] * len(sizes)
    assert (far / "sparse").stat().st_size == 200_000_007
    with (far / "sparse").open("rb") as file:
        assert not any(any(block) for block in iter(lambda: file.read(1 << 20)[:-7], b""))
        file.seek(200_000_000)
        assert file.read() == b"the end"
    peak = Path(f"/proc/{pair.project.pid()}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) < 400_000, "KiB of memory"
    (pair.here / "sizes" / "sparse").unlink()


def test_100_wide_and_deep(pair: Pair) -> None:
    wide = pair.here / "wide"
    wide.mkdir()
    for number in range(20_000):
        (wide / f"{number}").write_bytes(b"w" * (number % 31))
    deep = pair.here / "deep"
    deep.joinpath(*["d"] * 100).mkdir(parents=True)
    deep.joinpath(*["d"] * 100, "bottom.txt").write_text("down here\n")
    assert pair.barrier() == {"conflicts": [], "unsettled": {}}
    assert len(os.listdir(pair.far / "wide")) == 20_000
    assert (pair.far / "wide" / "19999").read_bytes() == b"w" * (19_999 % 31)
    assert pair.far.joinpath("deep", *["d"] * 100, "bottom.txt").read_text() == "down here\n"


def test_11_101_modes(pair: Pair) -> None:
    here, far = pair.here / "modes", pair.far / "modes"
    here.mkdir()
    (here / "tool").write_text("#!/bin/sh\n")
    (here / "tool").chmod(0o755)
    (here / "dangerous").write_text("s")
    (here / "dangerous").chmod(0o6755)
    (here / "private").write_text("0")
    (here / "private").chmod(0o600)
    pair.barrier()
    assert (far / "tool").stat().st_mode & 0o111 == 0o111
    assert stat.S_IMODE((far / "dangerous").stat().st_mode) & 0o7000 == 0
    assert stat.S_IMODE((far / "private").stat().st_mode) == 0o600, "what is private stays private"
    (far / "born-there").write_text("a key, born there")
    (far / "born-there").chmod(0o700)
    pair.barrier()
    assert stat.S_IMODE((here / "born-there").stat().st_mode) == 0o700

    # The bit from one side, the content from the other.
    (here / "tool").chmod(0o644)
    (far / "tool").write_text("#!/bin/sh\nexit 3\n")
    pair.barrier()
    for root in (here, far):
        assert (root / "tool").read_text() == "#!/bin/sh\nexit 3\n"
        assert not (root / "tool").stat().st_mode & 0o111

    # What is closed there stays closed, through every save from here.
    (far / "private").chmod(0o600)
    modes: set[int] = set()
    over = threading.Event()

    def observe() -> None:
        while not over.is_set():
            modes.add(stat.S_IMODE((far / "private").stat().st_mode))

    observer = threading.Thread(target=observe, name="observer of modes")
    observer.start()
    for number in range(1, 30):
        (here / "private").write_text("p" * number)
        wait_for("the save", lambda n=number: (far / "private").stat().st_size == n)  # type: ignore[misc]  # bound now
    over.set()
    observer.join()
    assert modes == {0o600}
    pair.settle()
