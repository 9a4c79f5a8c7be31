"""Ignore rules as data: the verdict on the way down, and what arrives as JSON."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.core.ignore import Rule, Rules
from devsync.core.snapshot import proper


def named(regex: str, **more: Any) -> Rule:
    return Rule("", regex, name_only=True, **more)


LOGS = named(r".*\.log")
OUT = named("out", folders_only=True)


@pytest.mark.parametrize(
    ("git", "path", "is_folder", "visible"),
    [
        ([], "a", False, True),
        ([], "a", True, True),
        ([], "", True, True),
        ([LOGS], "a/b.log", False, False),
        ([LOGS], "a/b.log", True, False),
        ([LOGS], "a.log/b", False, False),
        ([OUT], "out", False, True),
        ([OUT], "out", True, False),
        ([OUT], "a/out/b", False, False),
        # the last one that matches decides
        ([LOGS, named(r"b\.log", ignores=False)], "a/b.log", False, True),
        ([named(r"b\.log", ignores=False), LOGS], "a/b.log", False, False),
        # also between names and paths
        ([Rule("", r"a/b\.log", ignores=False), LOGS], "a/b.log", False, False),
        ([LOGS, Rule("", r"a/b\.log", ignores=False)], "a/b.log", False, True),
        # what is ignored is not entered, so nothing in it comes back
        ([OUT, named("keep", ignores=False)], "out/keep", False, False),
        # deeper beats shallower, whatever the order
        ([Rule("a", r"b\.log", ignores=False), LOGS], "a/b.log", False, True),
        ([Rule("a", "b/c")], "a/b/c", False, False),
        ([Rule("a", "b/c")], "b/c", False, True),
        # a regex has to match the whole path; "." is any byte, also a line end
        ([Rule("", "a")], "a/b", True, False),
        ([Rule("", "a/b")], "a/bc", False, True),
        ([named("a.")], "a\n", False, False),
        ([named("a")], "a\n", False, True),
        # bytes, as git matches them
        ([named("\xc3\xa9")], "é", False, False),
        ([named("\xff")], "\udcff", False, False),
        ([named(".")], "é", False, True),
        # of an ignore file above the root
        ([Rule("", "team/x", above="team/")], "x", False, False),
        ([Rule("", "x/y", above="team/")], "x/y", False, True),
    ],
)
def test_the_verdict_of_git(git: list[Rule], path: str, is_folder: bool, visible: bool) -> None:
    rules = Rules(git=tuple(git))
    assert rules.visible(path, is_folder) is visible
    assert rules.visible(path, is_folder) is visible  # as it is remembered


@pytest.mark.parametrize(
    "path",
    [
        ".git",
        ".git/config",
        "a/.git",
        "a/.GIT/x",
        "git~1",
        ".devsync",
        ".devsync/tmp/x",
        ".DevSync",
        "a/../b",
        "a//b",
    ],
)
def test_never_mirrored(path: str) -> None:
    assert not Rules().visible(path, True)
    assert not Rules().visible(path, False)


@pytest.mark.parametrize("path", ["a/.devsync", ".devsyncignore", ".gitignore", "git", ".github/x", "g"])
def test_mirrored_like_anything_else(path: str) -> None:
    assert Rules().visible(path, False)


def test_a_tracked_file_stays_and_opens_the_way_to_itself_alone() -> None:
    rules = Rules(git=(OUT, LOGS), tracked=frozenset({"a/out/b/c", "d.log"}))
    assert rules.visible("a/out/b/c", False)
    assert rules.visible("d.log", False)
    assert rules.visible("a/out/b", True)
    assert not rules.visible("a/out/b/d", False)
    assert not rules.visible("a/out/e", True)
    assert not rules.visible("out", True)
    folder = rules.folder("a/out")
    assert folder is not None and folder.only_tracked


def test_the_own_rules_apply_last_and_know_no_exception() -> None:
    rules = Rules(
        own=(LOGS, named("keep.log", ignores=False)), git=(named("keep.*"),), tracked=frozenset({"a.log"})
    )
    assert not rules.visible("a.log", False)
    assert not rules.visible("keep.log", False)
    assert rules.visible("a.txt", False)


def test_the_rules_of_a_repository_end_where_a_submodule_begins() -> None:
    rules = Rules(git=(LOGS, OUT, Rule("out/sub", "x")), repositories=frozenset({"", "out/sub"}))
    assert rules.visible("out/sub/a.log", False)
    assert rules.visible("out/sub/out", True)
    assert not rules.visible("out/sub/x", False)
    assert not rules.visible("out/a", False)


def test_another_repository_is_left_alone() -> None:
    rules = Rules(repositories=frozenset({"", "sub"}), nested=frozenset({"lib"}))
    assert not rules.visible("lib", True)
    assert not rules.visible("lib/a", False)
    assert rules.foreign("new", [".git", "a"])
    assert not rules.foreign("new", ["a"])
    assert not rules.foreign("sub", [".git"])
    assert not rules.foreign("", [".git"])
    assert not Rules().foreign("new", [".git"])


def test_a_folder_learns_rules_before_they_are_part_of_the_whole() -> None:
    top = Rules().top()
    top.learn([LOGS], [named("own")])
    assert not top.keeps("a.log")
    assert not top.keeps("own")
    below = top.enter("b")
    assert below is not None and not below.keeps("a.log")


# ---------------------------------------------------------------- as JSON

names = (
    st.binary(min_size=1, max_size=6).map(os.fsdecode).filter(lambda name: "/" not in name and proper(name))
)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
literals = st.text("abc.é\xff", max_size=4).map(lambda text: text.replace(".", r"\."))
rule = st.builds(Rule, st.just("") | paths, literals, st.booleans(), st.booleans(), st.booleans(), names)
everything = st.builds(
    Rules,
    st.lists(rule, max_size=4).map(tuple),
    st.lists(rule, max_size=4).map(tuple),
    st.frozensets(paths, max_size=3),
    st.frozensets(paths, max_size=3),
    st.frozensets(paths, max_size=3),
)


@given(everything, paths, st.booleans())
def test_rules_survive_the_way_over_json(rules: Rules, path: str, is_folder: bool) -> None:
    arrived = Rules.from_json(json.loads(json.dumps(rules.to_json())))
    assert arrived == rules
    assert arrived.visible(path, is_folder) == rules.visible(path, is_folder)


EMPTY = Rules().to_json()
GOOD = ["", "a", True, False, False, ""]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {**EMPTY, "more": []},
        {**EMPTY, "git": None},
        {**EMPTY, "git": "x"},
        {**EMPTY, "tracked": {"a": 1}},
        {**EMPTY, "git": [GOOD[:5]]},
        {**EMPTY, "git": [["../x", *GOOD[1:]]]},
        {**EMPTY, "git": [["", "(a)", *GOOD[2:]]]},
        {**EMPTY, "git": [["", "a)|(?:b", *GOOD[2:]]]},
        {**EMPTY, "git": [["", "[", *GOOD[2:]]]},
        {**EMPTY, "git": [["", "(?i)a", *GOOD[2:]]]},
        {**EMPTY, "git": [["", "\u0100", *GOOD[2:]]]},
        {**EMPTY, "own": [["", "a", 1, False, False, ""]]},
        {**EMPTY, "tracked": [1]},
        {**EMPTY, "tracked": ["/etc/passwd"]},
        {**EMPTY, "nested": ["a/../b"]},
        {**EMPTY, "repositories": [".git"]},
    ],
)
def test_what_no_rules_make_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not "):
        Rules.from_json(value)


def test_a_rule_in_good_order_is_taken() -> None:
    assert Rules.from_json({**EMPTY, "git": [GOOD]}).git == (Rule("", "a"),)
