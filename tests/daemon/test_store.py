"""The store: what it is given comes back, whole, in the next life; what it cannot read, it says."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.core.snapshot import Change, File, Link
from devsync.ports import DevsyncError
from devsync.store import SCHEMA, Store

FILE, RUN, LINK = File("a" * 64, 1), File("b" * 64, 22, True), Link("../else where")
NAMES = ["a", "ü/ñ.py", "tab\there", "new\nline", "quote'\"", "\udcff\udcfe", "data \udc80/x", "-", "a" * 255]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "project.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store(path)
    yield made
    made.close()
    made.close()


def test_everything_comes_back_under_any_name(store: Store, path: Path) -> None:
    leaves = {name: (FILE, RUN, LINK)[number % 3] for number, name in enumerate(NAMES)}
    changes = [Change(name, None if number % 2 else FILE, leaves[name]) for number, name in enumerate(NAMES)]
    store.settle(list(leaves.items()))
    store.begin("local", changes[:4])
    store.begin("remote", changes[2:])
    store.remember_digests({name: (name, File("c" * 64, 1), 2**62, 3, 4) for name in NAMES})
    store.set_fact("pair", "p\udc80q".encode("utf-8", "replace").decode())
    again = Store(path)
    assert again.ancestor().leaves == leaves
    assert sorted(again.intents(), key=repr) == sorted(
        [("local", change) for change in changes[:4]] + [("remote", change) for change in changes[2:]],
        key=repr,
    )
    assert again.digests() == {name: (name, File("c" * 64, 1), 2**62, 3, 4) for name in NAMES}
    assert again.fact("pair") == "p?q"
    assert again.fact("unheard of") is None
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_settled_replaces_and_ends(store: Store) -> None:
    store.settle([("a", FILE), ("b", RUN), ("c", LINK)])
    store.begin("local", [Change("a", FILE, RUN), Change("b", RUN, None)])
    store.begin("remote", [Change("a", FILE, RUN)])
    store.begin("remote", [Change("a", LINK, RUN)])  # once more replaces it
    store.settle([("a", RUN), ("b", None), ("never there", None)], [("local", "a"), ("local", "b")])
    assert store.ancestor().leaves == {"a": RUN, "c": LINK}
    assert store.intents() == [("remote", Change("a", LINK, RUN))]


def test_to_forget_is_to_start_from_nothing(store: Store) -> None:
    store.settle([("a", FILE)])
    store.begin("local", [Change("a", FILE, None)])
    store.remember_digests({"a": ("a", File("c" * 64, 1), 2, 3, 4)})
    store.set_fact("pair", "p")
    store.forget()
    assert len(store.ancestor()) == 0
    assert store.intents() == []
    assert store.digests() != {}, "digests are of this side alone"
    store.remember_digests({}, ["a"])
    assert store.digests() == {}


def test_a_transaction_is_whole_or_not_at_all(store: Store, path: Path) -> None:
    store.settle([("a", FILE)])
    with pytest.raises(TypeError):
        store.settle([("a", RUN), ("b", FILE)], [("local", 5)])  # type: ignore[list-item]  # fails at the end
    assert store.ancestor().leaves == {"a": FILE}
    store.settle([("a", RUN)])
    assert store.ancestor().leaves == {"a": RUN}, "and the next one works"


def test_a_full_disk_is_one_clear_error_and_no_end(store: Store) -> None:
    store.settle([("a", FILE)])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DevsyncError, match="cannot write the project's memory") as caught:
        store.settle([(f"{number}" * 200, FILE) for number in range(1000)])
    assert "disk full" in caught.value.hint
    store._db.execute("PRAGMA max_page_count = 100000")
    assert store.ancestor().leaves == {"a": FILE}
    store.settle([("b", FILE)])


def test_a_newer_file_is_refused(store: Store, path: Path) -> None:
    store._db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(DevsyncError, match=f"newer devsync .schema {SCHEMA + 1}") as caught:
        Store(path)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("content", [b"no database at all" * 99, b"SQLite format 3\0" + bytes(500)])
def test_garbage_is_one_clear_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DevsyncError, match="memory cannot be read") as caught:
        Store(path)
    assert f"move {path} away" in caught.value.hint
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DevsyncError, match="memory cannot be read"):
        Store(tmp_path / "missing" / "project.db")


@pytest.mark.parametrize("text", ["no json", '["f", "short", 1, false]', "5"])
def test_a_leaf_that_is_none_is_one_clear_error(store: Store, path: Path, text: str) -> None:
    store.settle([("a", FILE)])
    store.begin("local", [Change("a", FILE, None)])
    db = sqlite3.connect(path)
    db.execute("UPDATE ancestor SET leaf = ?", (text,))
    db.execute("UPDATE intent SET old = ?", (text,))
    db.commit()
    db.close()
    for read in (store.ancestor, store.intents):
        with pytest.raises(DevsyncError, match="memory cannot be read"):
            read()


def test_a_page_that_was_damaged_is_one_clear_error(store: Store, path: Path) -> None:
    store.settle([(f"{number:050}", FILE) for number in range(500)])
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(DevsyncError, match="memory cannot be read"):
        damaged = Store(path)
        try:
            damaged.ancestor()
        finally:
            damaged.close()
