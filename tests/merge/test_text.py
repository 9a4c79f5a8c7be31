"""Texts are merged by the user's git: laws of a merge over random edits of both sides."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devsync.core.merge import Method
from devsync.merge.programs import Programs

ENVIRON = {**os.environ, "GIT_DIR": "/nowhere", "GIT_INDEX_FILE": "/nowhere/index"}


@pytest.fixture(scope="module")
def programs() -> Iterator[Programs]:
    with tempfile.TemporaryDirectory() as folder:
        yield Programs(Path(folder) / "merging", ENVIRON)


def merged(programs: Programs, base: bytes, local: bytes, remote: bytes) -> bytes | None:
    return programs.merge(Method.TEXT, base, local, remote)


BASE = b"".join(b"line %d\n" % number for number in range(20))


def test_edits_in_different_places_are_both_there(programs: Programs) -> None:
    local, remote = BASE.replace(b"line 2\n", b"here\n"), BASE.replace(b"line 15\n", b"there\nand more\n")
    expected = local.replace(b"line 15\n", b"there\nand more\n")
    assert merged(programs, BASE, local, remote) == expected
    assert merged(programs, BASE, remote, local) == expected


@pytest.mark.parametrize(
    ("base", "local", "remote"),
    [
        (BASE, BASE.replace(b"line 2", b"here"), BASE.replace(b"line 2", b"there it is")),
        (BASE, BASE + b"one\n", BASE + b"another\n"),
        (BASE, BASE.replace(b"line 2\n", b""), BASE.replace(b"line 2\n", b"line two\n")),
        (b"a\0b\n" + BASE, b"a\0b\nx" + BASE, b"a\0b\n" + BASE + b"yy"),
    ],
    ids=["the same line", "both at the end", "removed and changed", "no text"],
)
def test_what_does_not_go_together_has_no_result(
    programs: Programs, base: bytes, local: bytes, remote: bytes
) -> None:
    assert merged(programs, base, local, remote) is None


def test_ends_of_lines_and_odd_bytes_stay(programs: Programs) -> None:
    base = b"\xff\xfe one\r\n" + BASE + b"no end"
    local, remote = base.replace(b"one\r\n", b"1\r\n"), base.replace(b"no end", b"still no end")
    assert merged(programs, base, local, remote) == b"\xff\xfe 1\r\n" + BASE + b"still no end"


def test_nothing_is_left_and_what_was_left_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "merging"
    folder.mkdir()
    (folder / "local").write_text("of one that died")
    assert Programs(folder, ENVIRON).merge(Method.TEXT, BASE, BASE, b"x\n" + BASE) == b"x\n" + BASE
    assert not folder.exists()


def test_without_git_there_is_no_result(tmp_path: Path) -> None:
    programs = Programs(tmp_path / "merging", {"PATH": os.fspath(tmp_path)})
    assert programs.merge(Method.TEXT, BASE, BASE, b"x\n" + BASE) is None


def test_a_merge_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\nexec sleep 60\n")
    git.chmod(0o755)
    monkeypatch.setitem(Programs.merge.__globals__["PATIENCE"], Method.TEXT, 0.05)
    programs = Programs(tmp_path / "merging", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert programs.merge(Method.TEXT, BASE, BASE, b"x\n" + BASE) is None


# ---------------------------------------------------------------- laws

Edit = tuple[int, int, list[str]]
edits = st.tuples(
    st.integers(0, 20),
    st.integers(0, 3),
    st.lists(st.sampled_from(["new", "other", "line 3", ""]), max_size=2),
)


def edited(lines: list[str], edit: Edit, mark: str) -> list[str]:
    at, removed, added = edit
    return [*lines[:at], *(f"{line}{mark}\n" for line in added), *lines[at + removed :]]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(edits, edits)
def test_a_merge_is_both_edits_or_nothing(programs: Programs, mine: Edit, theirs: Edit) -> None:
    base = [f"line {number}\n" for number in range(20)]
    local, remote = edited(base, mine, " here"), edited(base, theirs, " there")
    texts = ["".join(lines).encode() for lines in (base, local, remote)]
    result = merged(programs, *texts)
    assert result == merged(programs, texts[0], texts[2], texts[1]), "the sides are alike"
    first, second = sorted((mine, theirs))
    if first[0] + first[1] + 1 < second[0]:  # a line of the base is between the two
        assert result is not None
    if result is None:
        return
    found = result.decode().splitlines(keepends=True)
    removed = set(range(mine[0], mine[0] + mine[1])) | set(range(theirs[0], theirs[0] + theirs[1]))
    kept = [line for number, line in enumerate(base) if number not in removed]
    assert [line for line in found if line in base] == kept, "no line is dropped, or comes back"
    added = sorted([line for line in (*local, *remote) if line not in base])
    assert sorted(line for line in found if line not in base) == added, "nothing is invented"
