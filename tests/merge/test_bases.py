"""The bases of merges: kept, bounded, and never worth more trouble than a conflict."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.merge.bases import Bases


def named(*contents: bytes) -> dict[str, bytes | None]:
    return {hashlib.sha256(content).hexdigest(): content for content in contents}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bases.db"


@pytest.fixture
def bases(path: Path) -> Iterator[Bases]:
    opened = Bases(path)
    yield opened
    opened.close()


def test_a_content_is_there_after_a_new_start_for_its_owner_alone(path: Path) -> None:
    [(digest, content)] = named(b"print(1)\n" * 100).items()
    first = Bases(path)
    first.put({digest: content})
    first.close()
    second = Bases(path)
    assert second.get(digest) == content
    assert second.get("0" * 64) is None
    second.close()
    assert path.stat().st_mode & 0o077 == 0


def test_what_cannot_be_merged_is_known_and_has_no_content(bases: Bases) -> None:
    [digest] = named(b"\0\0")
    bases.put({digest: None})
    assert bases.get(digest) is None
    assert bases.missing({digest, "0" * 64}) == {"0" * 64}


def test_what_nobody_agrees_on_any_more_goes(bases: Bases) -> None:
    old, new = named(b"old"), named(b"newer")
    bases.put({**old, **new})
    bases.keep_only(new.keys())
    assert bases.missing({*old, *new}) == old.keys()


def test_the_oldest_go_where_there_is_no_room(path: Path) -> None:
    contents = [named(os.urandom(10_000 + number)) for number in range(20)]
    bases = Bases(path, size=100_000)
    for one in contents:
        bases.put(one)
    there = [bases.get(digest) is not None for one in contents for digest in one]
    assert not any(there[:10]) and all(there[-8:])
    assert bases.full()
    bases.close()


@pytest.mark.parametrize("spoiled", [b"no database at all, but long enough to be one" * 99, b""])
def test_a_file_that_is_spoiled_is_begun_anew(path: Path, spoiled: bytes) -> None:
    path.write_bytes(spoiled)
    bases = Bases(path)
    [(digest, content)] = named(b"text").items()
    bases.put({digest: content})
    assert bases.get(digest) == content
    bases.close()


def test_a_content_that_is_not_what_it_should_be_is_none(bases: Bases) -> None:
    [digest] = named(b"what it was")
    bases.put({digest: b"something else"})
    assert bases.get(digest) is None


def test_without_a_place_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "bases.db").mkdir()
    bases = Bases(tmp_path / "bases.db")
    [(digest, content)] = named(b"text").items()
    bases.put({digest: content})
    assert bases.get(digest) is None and bases.full()
    bases.close()
