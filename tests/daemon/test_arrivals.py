"""What arrives in such a size or number that it waits for a word; everything else goes on."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from devsync.core.safety import WINDOW
from devsync.core.snapshot import RelPath
from devsync.daemon.arrivals import FREE_REWRITES, Arrivals, Limits
from devsync.daemon.engine import Permission
from devsync.daemon.guard import summed
from tests.daemon.rig import Pair
from tests.fakes.memory import Content, MemoryReplica

ACCEPTED = Permission(arrivals=True)


class Kept:
    """What git keeps; how often it was asked."""

    def __init__(self) -> None:
        self.paths: Collection[RelPath] = ()
        self.asked = 0

    def __call__(self) -> Collection[RelPath]:
        self.asked += 1
        return self.paths


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def met(pair: Pair, kept: Kept) -> Pair:
    """Two sides that have met, and may get 100 bytes a file, 400 bytes or 20 files within the window."""
    pair.engine._holding.arrivals = Arrivals(Limits(100, 400, 20), kept)  # a Pair makes its engine itself
    pair.agree(code="pass")
    return pair


def both(pair: Pair) -> list[tuple[MemoryReplica, MemoryReplica]]:
    return [(pair.local, pair.remote), (pair.remote, pair.local)]


def fill(side: MemoryReplica, folder: str, count: int, size: int = 1) -> None:
    for number in range(count):
        side.entries[f"{folder}/{number}"] = Content(f"{folder}{number}".encode().ljust(size, b"."))


@pytest.mark.parametrize("way", [0, 1])
def test_43_88_a_giant_waits_for_a_word_and_nothing_waits_for_it(met: Pair, way: int) -> None:
    source, target = both(met)[way]
    met.write(source, "last.ckpt", "x" * 101)
    met.write(source, "notes.md", "short")
    met.write(target, "code", "pass  # edited")
    assert met.cycle().complete
    assert set(met.texts(target)) == {"code", "notes.md"}
    assert met.texts(source)["code"] == "pass  # edited"
    assert "101B" in met.engine.held["last.ckpt"]
    assert "devsync start --accept-arrivals" in met.engine.held["last.ckpt"]
    assert met.cycle(permission=ACCEPTED).complete
    assert "last.ckpt" in met.texts(target)
    met.write(source, "last.ckpt", "y" * 300)
    met.cycle()
    assert met.texts(target)["last.ckpt"] == "y" * 300, "what was allowed stays mirrored"
    assert met.engine.held == {}


def test_43_a_giant_waits_at_the_first_meeting_too_and_a_flood_does_not(pair: Pair, kept: Kept) -> None:
    pair.engine._holding.arrivals = Arrivals(Limits(100, 400, 20), kept)
    fill(pair.local, "data", 50, 20)
    pair.write(pair.local, "giant", "x" * 101)
    assert pair.cycle().complete
    assert set(pair.engine.held) == {"giant"}
    assert len(pair.texts(pair.remote)) == 50


def test_43_a_first_meeting_that_did_not_end_goes_on(pair: Pair, kept: Kept) -> None:
    pair.engine._holding.arrivals = Arrivals(Limits(100, 400, 20), kept)
    pair.write(pair.local, "first", "1")
    pair.cycle(["first"], [])
    fill(pair.local, "data", 50)
    assert pair.cycle().complete
    assert pair.engine.held == {}


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize(("count", "size"), [(21, 1), (5, 90)])
def test_43_88_a_flood_waits_as_one_and_what_comes_after_it_goes_on(
    met: Pair, way: int, count: int, size: int
) -> None:
    source, target = both(met)[way]
    fill(source, "data", count, size)
    met.write(source, "code", "pass  # edited")
    assert met.cycle().complete
    assert met.texts(target) == {"code": "pass  # edited"}
    assert list(summed(met.engine.held)) == (["data/"] if count > 10 else list(met.engine.held))
    assert len(set(met.engine.held.values())) == 1, "one line for all of them"
    assert f"{count} new files" in met.engine.held["data/0"]
    met.write(source, "new.md", "a new file")
    met.cycle()
    assert "new.md" in met.texts(target)
    source.entries["data/0"] = Content(b"a part of it is looked at alone")
    met.cycle(["data/0"], ["data/0"])
    assert "data/0" not in met.texts(target)
    assert len(met.engine.held) == count
    met.cycle(permission=ACCEPTED)
    assert len(met.texts(target)) == count + 2
    assert met.engine.held == {}


def test_88_what_comes_drop_by_drop_is_a_flood_too_until_the_window_has_passed(met: Pair) -> None:
    for number in range(4):
        fill(met.remote, f"run{number}", 6)
        met.cycle()
    assert len(met.texts(met.local)) == 1 + 18
    assert len(met.engine.held) == 6, "24 within ten minutes"
    met.clock.advance(WINDOW + 1)
    met.cycle()
    assert len(met.texts(met.local)) == 1 + 24
    assert met.engine.held == {}


def test_43_a_part_that_is_ignored_again_lets_the_rest_come(met: Pair) -> None:
    fill(met.remote, "data", 30)
    met.cycle()
    assert len(met.engine.held) == 30
    for number in range(15):
        del met.remote.entries[f"data/{number}"]  # ignored, or gone
    met.cycle()
    assert met.engine.held == {}
    assert len(met.texts(met.local)) == 1 + 15


def test_43_what_git_keeps_or_was_moved_needs_no_word(met: Pair, kept: Kept) -> None:
    kept.paths = [f"branch/{number}" for number in range(30)]
    fill(met.local, "branch", 30)
    met.cycle()
    assert len(met.texts(met.remote)) == 1 + 30
    for path in kept.paths:
        met.local.entries[path.replace("branch", "moved")] = met.local.entries.pop(path)
    met.engine._storms._share = 1.0  # a move is no deletion, but git does not say so here
    met.cycle()
    assert set(met.texts(met.remote)) == {"code", *(path.replace("branch", "moved") for path in kept.paths)}
    assert met.engine.held == {}


def test_a_save_does_not_ask_git(met: Pair, kept: Kept) -> None:
    met.write(met.local, "new", "a file")
    met.cycle(["new"], [])
    assert kept.asked == 0


def test_110_a_mass_rewrite_on_the_machine_waits_for_a_word(met: Pair, kept: Kept) -> None:
    kept.paths = [f"src/{number}" for number in range(2 * FREE_REWRITES)]
    fill(met.local, "src", 2 * FREE_REWRITES)
    met.cycle(permission=ACCEPTED)
    before = met.texts(met.local)
    for path in kept.paths[: FREE_REWRITES + 1]:
        met.write(met.remote, path, "malware")
    met.write(met.local, "code", "goes on")
    met.cycle()
    assert met.texts(met.local) == {**before, "code": "goes on"}
    assert met.texts(met.remote)["code"] == "goes on"
    assert "101 files that git keeps were rewritten" in met.engine.held["src/0"]
    met.write(met.remote, "src/150", "another one")
    met.cycle(set(), {"src/150"})
    assert met.texts(met.local)["src/150"] == "another one"
    met.cycle(permission=ACCEPTED)
    assert met.texts(met.local) == met.texts(met.remote)
    assert met.engine.held == {}


def test_110_results_that_are_rewritten_again_and_again_come(met: Pair) -> None:
    fill(met.remote, "out", 2 * FREE_REWRITES)
    met.cycle(permission=ACCEPTED)
    for path in list(met.remote.entries)[1:]:
        met.write(met.remote, path, "next epoch")
    met.cycle()
    assert met.texts(met.local) == met.texts(met.remote)
