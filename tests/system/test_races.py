"""Saves of every kind, on both sides, at the worst moments: the real daemon, OpenSSH's server, real git."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from devsync.replica.digests import QUIET
from tests.system import editors
from tests.system.editors import EDITORS, LEFTOVERS
from tests.system.pair import Observer, Pair, started_pair
from tests.system.project import wait_for

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One pair for all tests that work in a folder of their own."""
    with started_pair(tmp_path_factory.mktemp("races")) as pair:
        yield pair


@pytest.fixture
def pair(shared: Pair) -> Pair:
    shared.settle()
    return shared


def whole(number: int, size: int = 30_000) -> bytes:
    """A content that no part of it, and no mix of two, could be taken for."""
    line = b"version %06d\n" % number
    return b"{" + line * ((size + 37 * number) // len(line)) + b"}"


def torn(seen: Iterable[bytes], last: int) -> list[tuple[int, bytes, bytes]]:
    """What was seen and never saved: its length, beginning and end.

    On a busy computer a save may rest in the middle, for longer than any save does: then nobody can tell.
    """
    if max(editors.pauses, default=0.0) > QUIET / 2e9:
        return []
    saved = {whole(number) for number in range(last + 1)}
    return [(len(content), content[:20], content[-20:]) for content in seen if content not in saved]


# ---------------------------------------------------------------- editors


@pytest.mark.parametrize("editor", EDITORS)
def test_45_47_48_a_save_arrives_whole_and_alone(pair: Pair, editor: str) -> None:
    save, here, far = EDITORS[editor], pair.here / editor / "model.py", pair.far / editor / "model.py"
    here.parent.mkdir()
    here.write_bytes(whole(0))
    pair.settle()
    editors.pauses.clear()
    with Observer(far) as observer:
        for number in range(1, 16):
            save(here, whole(number))
            time.sleep(random.Random(number).uniform(0.0, 0.08))  # how people are: one save after another
        wait_for("the last save", lambda: far.read_bytes() == whole(15))
    pair.settle()
    assert not torn(observer.seen, 15)
    if editor != "pycharm":  # which takes the file away itself before it puts the new one there
        assert observer.missing == 0, "for a moment it was not there"
    names = os.listdir(far.parent)
    assert not [name for name in names if any(part in name for part in LEFTOVERS)]
    assert sorted(names) == sorted(os.listdir(here.parent))


@pytest.mark.parametrize("editor", ["vim", "vs_code", "jupyter"])
def test_48_nor_is_anything_torn_when_somebody_asks_for_everything_at_once(pair: Pair, editor: str) -> None:
    save, here, far = EDITORS[editor], pair.here / editor / "asked.py", pair.far / editor / "asked.py"
    here.parent.mkdir(exist_ok=True)
    here.write_bytes(whole(0))
    pair.settle()
    editors.pauses.clear()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            pair.barrier()

    asking = threading.Thread(target=ask, name="asking")
    with Observer(far) as observer:
        asking.start()
        for number in range(1, 21):
            save(here, whole(number))
            time.sleep(random.Random(number).uniform(0.0, 0.03))
        over.set()
        asking.join()
    pair.settle()
    assert not torn(observer.seen, 20)
    assert far.read_bytes() == whole(20)


def test_48_a_notebook_that_is_saved_on_the_machine_arrives_whole(pair: Pair) -> None:
    here, far = pair.here / "work.ipynb", pair.far / "work.ipynb"
    far.write_bytes(whole(0))
    pair.settle()
    editors.pauses.clear()
    with Observer(here) as observer:
        for number in range(1, 16):
            editors.jupyter(far, whole(number))
            time.sleep(0.03)
        wait_for("the last save", lambda: here.read_bytes() == whole(15))
    pair.settle()
    assert not torn(observer.seen, 15)
    assert not list(pair.here.glob(".~*"))


def test_47_a_formatter_on_save_is_no_conflict(pair: Pair) -> None:
    here, far = pair.here / "formatted.py", pair.far / "formatted.py"
    for number in range(0, 30, 3):
        for step in range(3):  # the save, the formatter, the imports in order: within 50 ms
            here.write_bytes(whole(number + step, 500))
            time.sleep(0.015)
        wait_for("the last of three", lambda n=number: far.exists() and far.read_bytes() == whole(n + 2, 500))  # type: ignore[misc]  # bound now
    pair.settle()


def test_51_a_hundred_saves_a_second(pair: Pair) -> None:
    here, far = pair.here / "hundred.py", pair.far / "hundred.py"
    here.write_bytes(whole(0))
    pair.settle()
    began = time.monotonic()
    editors.pauses.clear()
    with Observer(far) as observer:
        for number in range(1, 151):
            editors.gedit(here, whole(number))
            time.sleep(max(0.0, began + number / 100 - time.monotonic()))
        took = wait_for("the last save", lambda: far.read_bytes() == whole(150))
    assert not torn(observer.seen, 150)
    assert took < 2.0
    pair.settle()


def test_52_a_file_that_grows_arrives_when_it_is_done(pair: Pair) -> None:
    here, far = pair.here / "download.csv", pair.far / "download.csv"
    row = b"a row of a table that somebody downloads\n" * 25
    cycles = pair.cycles()
    with Observer(far) as observer, here.open("wb", buffering=0) as file:
        for _ in range(300):
            file.write(row)
            time.sleep(0.005)
    pair.settle()
    assert far.read_bytes() == row * 300
    assert pair.cycles() - cycles < 5, "it was sent again and again"
    assert all(len(content) % len(row) == 0 for content in observer.seen), "cut in the middle of a write"


def test_52_a_file_that_is_replaced_while_it_is_read(pair: Pair) -> None:
    here, far = pair.here / "replaced.bin", pair.far / "replaced.bin"
    beside = pair.project.home / "replaced.new"
    versions = [bytes([65 + number]) * (3_000_000 + number) for number in range(25)]
    here.write_bytes(versions[0])
    pair.settle()
    with Observer(far) as observer:
        for number, content in enumerate(versions[1:]):
            beside.write_bytes(content)
            os.replace(beside, here)
            time.sleep(random.Random(number).uniform(0.02, 0.1))
    pair.settle()
    assert observer.seen <= set(versions)
    assert far.read_bytes() == versions[-1]


# ---------------------------------------------------------------- both sides


def test_1_both_sides_save_the_same_path_at_the_same_moment(pair: Pair) -> None:
    """Of two hundred races, each of the four hundred versions is in place or in a trash afterwards."""
    rounds = 200
    moments = random.Random(4711)
    for root in (pair.here, pair.far):
        (root / "both").mkdir(exist_ok=True)
    for number in range(rounds):
        (pair.here / "both" / f"{number}.txt").write_bytes(b"agreed on\n")
    pair.settle()
    plans: list[list[tuple[float, editors.Save]]] = [
        [
            (moments.uniform(0.0, 0.06), moments.choice((editors.gedit, editors.vs_code)))
            for _ in range(rounds)
        ]
        for _ in range(2)
    ]
    meeting = threading.Barrier(2)

    def save_all(root: Path, mark: bytes, plan: list[tuple[float, editors.Save]]) -> None:
        for number, (delay, save) in enumerate(plan):
            meeting.wait()
            time.sleep(delay)
            save(root / "both" / f"{number}.txt", mark * (number + 1))

    other = threading.Thread(target=save_all, args=(pair.far, b"far ", plans[1]), name="the other side")
    other.start()
    save_all(pair.here, b"here ", plans[0])
    other.join()

    answer = pair.barrier()
    assert not answer["unsettled"]
    kept = pair.versions()
    lost = [
        mark for n in range(rounds) for mark in (b"here " * (n + 1), b"far " * (n + 1)) if mark not in kept
    ]
    assert not lost
    for number in range(rounds):
        path = f"both/{number}.txt"
        here, far = (pair.here / path).read_bytes(), (pair.far / path).read_bytes()
        assert (here != far) == (path in answer["conflicts"])
        if here != far:
            assert (here, far) == (b"here " * (number + 1), b"far " * (number + 1))
            (pair.far / path).write_bytes(here)
    assert 10 < len(answer["conflicts"]) < rounds, "the moments were no race"


# ---------------------------------------------------------------- the barrier


def test_117_a_barrier_right_after_a_save_a_thousand_times(pair: Pair) -> None:
    """Four at a time, so that each is asked for while others are under way."""
    failures: list[str] = []

    def save_and_ask(name: str) -> None:
        here, far = pair.here / name, pair.far / name
        with pair.client() as client:
            for number in range(250):
                text = f"{name} {number}\n" * (number + 1)
                here.write_text(text)
                answer = client.call("flush", timeout=30.0)
                if answer != {"conflicts": [], "unsettled": {}} or far.read_text() != text:
                    failures.append(f"{name} {number}: {answer}")

    names = [f"asked{number}.txt" for number in range(4)]
    threads = [threading.Thread(target=save_and_ask, args=(name,), name=name) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    pair.settle()


# ---------------------------------------------------------------- git


def test_54_a_checkout_of_another_branch_is_one_batch(pair: Pair) -> None:
    git = pair.project.git
    (pair.here / "tree").mkdir()
    for branch in ("main", "other"):
        if branch == "other":
            git("checkout", "-q", "-b", "other")
        for number in range(3000):
            (pair.here / "tree" / f"{number}.txt").write_text(f"{branch} {number}\n" * (1 + number % 5))
        git("add", "tree")
        git("commit", "-qm", branch)
    pair.settle()
    for branch in ("main", "other"):
        cycles = pair.cycles()
        git("checkout", "-q", branch)
        pair.barrier()
        texts = {path.read_text().split()[0] for path in (pair.far / "tree").iterdir()}
        assert texts == {branch}, "a mix of two branches"
        carried = [line.partition("synchronised: ")[2] for line in pair.project.log().splitlines()]
        assert [line for line in carried if line][cycles:] == ["0 here, 3000 on the machine, 0 conflicts"]
    pair.settle()

    (pair.here / "tree" / "7.txt").write_text("not committed\n")
    (pair.here / "tree" / "8.txt").unlink()
    git("stash", "-q")
    pair.settle()
    assert (pair.far / "tree" / "7.txt").read_text().startswith("other 7")
    git("stash", "pop", "-q")
    pair.settle()
    assert (pair.far / "tree" / "7.txt").read_text() == "not committed\n"
    git("checkout", "-q", "tree")

    git("checkout", "-q", "-b", "topic", "main")
    for number in range(5):
        (pair.here / f"topic{number}.txt").write_text(f"topic {number}\n")
        git("add", f"topic{number}.txt")
        git("commit", "-qm", f"topic {number}")
    pair.barrier()
    git("rebase", "-q", "other")
    pair.settle()
    assert (pair.far / "tree" / "9.txt").read_text().startswith("other 9")
    assert (pair.far / "topic4.txt").read_text() == "topic 4\n"
    assert not pair.far.joinpath(".git").exists()
