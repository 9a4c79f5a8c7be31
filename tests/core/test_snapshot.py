"""Paths, the ancestor's quick answers, and leaves as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.snapshot import (
    ROOT,
    Ancestor,
    File,
    Leaf,
    Link,
    RelPath,
    from_json,
    parents,
    proper,
    to_json,
    within,
)
from tests.core.worlds import LINK, A, B, below

# ---------------------------------------------------------------- names

PROPER = [
    "a",
    "a/b/c",
    " ",
    "a ",
    "...",
    "..a",
    "-rf",
    "a\\b",
    "a:b",
    "a\nb",
    "\x1b[2J",
    "caf\u00e9",
    "cafe\u0301",
    "\udcff\udc80",  # bytes that are no UTF-8
    ".gitignore",
    ".gitmodules",
    ".gitattributes",
    ".github/workflows/ci.yml",
    ".git-blame-ignore-revs",
    ".git2",
    "x.git",
    "git",
    "git~10",
    "git~2",
    ".g it",
    "gi\u200ct~1x",
    "n" * 5000,  # too long for most file systems, which will say so
]
NOWHERE = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "./a",
    "a/.",
    "../a",
    "a/../b",
    "a/..",
    "\0",
    "a\0b",
    "a/b\0",
]
GIT = [
    ".git",
    ".GIT",
    ".Git",
    "git~1",
    "GIT~1",
    ".git ",
    ".git.",
    ".git . .",
    "git~1.",
    ".git:",
    ".git::$INDEX_ALLOCATION",
    ".git::$DATA",
    ".git .::$INDEX_ALLOCATION",
    "git~1:stream",
    ".git\\config",
    "git~1 \\hooks",
    ".g\u200cit",
    "\u200d.git",
    ".git\u200e",
    ".\u200fg\u202ai\u202bt",
    ".gi\u202c\u202d\u202et",
    "\u206a.\u206bG\u206cI\u206dT\u206e\u206f",
    "\ufeff.git",
    ".git\u200c ",
    ".git \u200c",
    "git\u200c~1",
]


@pytest.mark.parametrize("path", PROPER, ids=ascii)
def test_proper(path: RelPath) -> None:
    assert proper(path)


@pytest.mark.parametrize("path", NOWHERE, ids=ascii)
def test_a_path_that_names_nothing_below_the_root(path: RelPath) -> None:
    assert not proper(path)


@pytest.mark.parametrize("name", GIT, ids=ascii)
def test_what_some_platform_takes_for_the_git_folder(name: str) -> None:
    for path in (name, f"{name}/config", f"sub/{name}", f"a/b/{name}/hooks/pre-commit"):
        assert not proper(path)


@given(st.text(st.sampled_from("./\\\0:~1 gitGIT\u200c\ufeffa\udc80"), max_size=12))
def test_a_proper_path_stays_below_the_root(path: RelPath) -> None:
    names = path.split("/")
    if proper(path):
        assert not {"", ".", ".."} & set(names) and "\0" not in path
        assert not any(name.lower().startswith(".git") and not name[4:].strip(" .") for name in names)
        assert all(proper(name) for name in names)
    else:
        assert "\0" in path or not all(proper(name) for name in names)


def test_parents() -> None:
    assert list(parents("a/b/c")) == ["a/b", "a"]
    assert list(parents("a")) == list(parents(ROOT)) == []


@pytest.mark.parametrize(
    "path, scope, answer",
    [
        ("a", ["a"], True),
        ("a/b/c", ["a"], True),
        ("a/b/c", ["x", "a/b"], True),
        ("a", ["a/b"], False),
        ("ab", ["a"], False),
        ("a.b", ["a"], False),
        ("a", [], False),
        ("a", [ROOT], True),
        (ROOT, [ROOT], True),
        (ROOT, ["a"], False),
    ],
)
def test_within(path: RelPath, scope: list[RelPath], answer: bool) -> None:
    for places in (scope, set(scope), frozenset(scope), dict.fromkeys(scope, "why"), iter(scope)):
        assert within(path, places) is answer


# ---------------------------------------------------------------- the ancestor

# What sorts next to what is below "a" ('-' and '.' before '/', '0' after it), and names that are no UTF-8.
NEIGHBOURS = ["a-b", "a.b", "a/b", "a/b/c", "a/\udcff", "a0", "a0/b", "ab", "a\udc80", "A", "\udcff/a", "b"]


def test_region_is_what_lies_at_and_below() -> None:
    ancestor = Ancestor(dict.fromkeys(NEIGHBOURS, A))
    assert set(ancestor.region(["a"])) == {"a/b", "a/b/c", "a/\udcff"}
    assert set(ancestor.region(["a0"])) == {"a0"}
    assert set(ancestor.region(["\udcff"])) == {"\udcff/a"}
    assert set(ancestor.region(["nowhere", "b"])) == {"b"}
    assert list(ancestor.region([])) == []
    for everything in (None, [ROOT], ["a", ROOT]):
        assert set(ancestor.region(everything)) == set(NEIGHBOURS)


_names = st.lists(st.sampled_from(["a", "a-", "a.", "a0", "b", "\udcff", "é"]), min_size=1, max_size=3).map(
    "/".join
)


@given(st.lists(st.tuples(_names, st.sampled_from([A, B, None]))), st.lists(_names, max_size=3))
def test_region_follows_what_is_agreed(
    steps: list[tuple[RelPath, Leaf | None]], scope: list[RelPath]
) -> None:
    ancestor, expected = Ancestor(), dict[RelPath, Leaf]()
    for path, leaf in steps:
        if any(other in expected for other in parents(path)) or any(path in parents(p) for p in expected):
            continue  # an agreed tree has nothing below a leaf
        ancestor.set(path, leaf)
        expected.pop(path, None)
        if leaf is not None:
            expected[path] = leaf
        assert set(ancestor.region(scope)) == {path for path in expected if below(path, scope)}
    assert ancestor.leaves == expected
    assert len(ancestor) == len(expected)


def test_an_ancestor_is_a_copy() -> None:
    leaves: dict[RelPath, Leaf] = {"a": A}
    ancestor = Ancestor(leaves)
    ancestor.set("b", B)
    ancestor.set("nowhere", None)
    assert leaves == {"a": A}
    assert ancestor.leaves == {"a": A, "b": B}


# ---------------------------------------------------------------- JSON

_leaves = st.one_of(
    st.none(),
    st.builds(
        File,
        st.text("0123456789abcdef", min_size=64, max_size=64),
        st.integers(min_value=0, max_value=2**63),
        st.booleans(),
    ),
    st.builds(Link, st.text(st.characters(exclude_characters="\0"), min_size=1)),
)


@given(_leaves)
def test_json_brings_a_leaf_back(leaf: Leaf | None) -> None:
    assert from_json(json.loads(json.dumps(to_json(leaf)))) == leaf


def test_json_is_short() -> None:
    assert to_json(A) == ["f", "a" * 64, 1, False]
    assert to_json(LINK) == ["l", "elsewhere"]
    assert to_json(None) is None


D = "a" * 64


@pytest.mark.parametrize(
    "value",
    [
        0,
        False,
        "",
        "f",
        {},
        [],
        ["f"],
        ["x", D, 1, False],
        ["f", D, 1],
        ["f", D, 1, False, 0],
        ("f", D, 1, False),
        ["f", D[:-1], 1, False],
        ["f", D + "a", 1, False],
        ["f", D.upper(), 1, False],
        ["f", D[:32] + "g" + D[33:], 1, False],
        ["f", "../" + D[3:], 1, False],
        ["f", D[:-1] + "\n", 1, False],
        ["f", list(D), 1, False],
        ["f", None, 1, False],
        ["f", D, -1, False],
        ["f", D, 1.0, False],
        ["f", D, True, False],
        ["f", D, "1", False],
        ["f", D, None, False],
        ["f", D, 1, 1],
        ["f", D, 1, None],
        ["l"],
        ["l", ""],
        ["l", "a\0b"],
        ["l", None],
        ["l", ["a"]],
        ["l", "a", "b"],
        [["l"], "a"],
    ],
    ids=lambda value: repr(value).replace(D, "D").replace(D.upper(), "upper"),
)
def test_json_that_is_no_leaf(value: Any) -> None:
    with pytest.raises(ValueError, match="not a leaf"):
        from_json(value)


def test_a_long_answer_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError) as caught:
        from_json(["f", "x" * 10_000, 1, False])
    assert len(str(caught.value)) <= 200
