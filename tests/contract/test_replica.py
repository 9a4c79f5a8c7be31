"""What every replica promises. The implementations are listed in `replicas`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from devsync.core.ignore import Rule, Rules
from devsync.core.snapshot import Change, File, Leaf, Link, Outcome, Snapshot
from devsync.ports import ContentChanged
from tests.contract.replicas import FACTORIES, Side
from tests.fakes.memory import Content, MemoryReplica


@pytest.fixture(params=FACTORIES)
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    root = tmp_path / "project"
    root.mkdir()
    with FACTORIES[request.param](root) as made:
        yield made


def file(content: bytes, executable: bool = False) -> File:
    return File(hashlib.sha256(content).hexdigest(), len(content), executable)


def apply(side: Side, *changes: tuple[str, Leaf | None, bytes | Leaf | None]) -> list[Outcome]:
    """Stage the contents that are given as bytes and make the changes."""
    staging = side.replica.staging()
    made = []
    for path, old, new in changes:
        if isinstance(new, bytes):
            staging.put(file(new), [new[:3], new[3:]])
        made.append(Change(path, old, file(new) if isinstance(new, bytes) else new))
    assert not staging.finish()
    return side.replica.apply(made)


def done(outcomes: Sequence[Outcome]) -> None:
    assert [(outcome.done, outcome.problem) for outcome in outcomes] == [(True, "")] * len(outcomes)


# ------------------------------------------------------------ looking


def test_a_scan_finds_what_is_there(side: Side) -> None:
    side.write("a.py", b"print(1)\n")
    side.write("bin/run", b"#!/bin/sh\n", executable=True)
    side.write("empty", b"")
    side.link("bin/link", "../a.py")
    assert side.replica.scan() == Snapshot(
        {
            "a.py": file(b"print(1)\n"),
            "bin/run": file(b"#!/bin/sh\n", True),
            "empty": file(b""),
            "bin/link": Link("../a.py"),
        }
    )
    side.write("a.py", b"print(22)\n")
    side.remove("empty")
    assert side.replica.scan().leaves["a.py"] == file(b"print(22)\n")
    assert "empty" not in side.replica.scan().leaves


def test_look_after_look_finds_what_is_there_now(side: Side) -> None:
    side.write("a", b"one")
    side.write("b", b"two two")
    for path, content in (("a", b"changed"), ("c", b"new one"), ("b", None), ("b", b"back"), ("a", None)):
        if content is None:
            side.remove(path)
        else:
            side.write(path, content)
        assert side.replica.scan().leaves == {
            p: file(c) for p, c in side.tree().items() if isinstance(c, bytes)
        }


def test_a_scope_holds_what_is_named_and_what_is_below(side: Side) -> None:
    for path in ("a/x", "a/b/y", "ab", "c"):
        side.write(path, path.encode())
    scan = side.replica.scan
    assert set(scan(["a"]).leaves) == {"a/x", "a/b/y"}
    assert set(scan(["a/b/y", "c", "a/b", "missing/one"]).leaves) == {"a/b/y", "c"}
    assert set(scan(["a", ""]).leaves) == {"a/x", "a/b/y", "ab", "c"}
    assert scan([]).leaves == {}
    assert scan(["c/below/a/file"]) == Snapshot({})


def test_what_the_rules_ignore_is_invisible(side: Side) -> None:
    for path in ("a.py", "data/big", ".git/config", "sub/data/x", "sub/a.py"):
        side.write(path, path.encode())
    rules = Rules(git=(Rule("", "data", folders_only=True, name_only=True),))
    side.replica.set_rules(rules)
    assert set(side.replica.scan().leaves) == {"a.py", "sub/a.py"}
    assert set(side.replica.scan(["data/big", "sub", ".git/config"]).leaves) == {"sub/a.py"}
    side.replica.set_rules(Rules())
    assert "data/big" in side.replica.scan().leaves


def test_91_92_odd_names_are_kept_to_the_byte(side: Side) -> None:
    names = [
        "new\nline",
        "\udcff\udcfe",
        "n" * 255,
        "tab\t",
        " lead",
        "trail ",
        "*?[x]",
        "-rf",
        "\"'$(x)`",
        "é",
        "😀",
    ]
    for number, name in enumerate(names):
        side.write("in/" + name, b"x" * number)
    assert set(side.replica.scan().leaves) == {"in/" + name for name in names}
    outcomes = apply(side, *((f"out/{name}", None, b"y" * number) for number, name in enumerate(names)))
    done(outcomes)
    assert set(side.replica.scan(["out"]).leaves) == {"out/" + name for name in names}
    assert [outcome.path for outcome in outcomes] == ["out/" + name for name in names]


def test_37_what_cannot_be_looked_at_is_a_problem_and_no_absence(side: Side) -> None:
    side.write("a.py", b"1")
    unknown = side.obscure("locked")
    snapshot = side.replica.scan()
    assert unknown in snapshot.problems
    assert snapshot.leaves == {"a.py": file(b"1")}


def test_96_a_link_that_leaves_the_project_is_reported(side: Side) -> None:
    side.link("absolute", "/etc/passwd")
    side.link("a/up", "../../x")
    side.link("a/inside", "../b")
    snapshot = side.replica.scan()
    assert set(snapshot.problems) == {"absolute", "a/up"}
    assert snapshot.leaves == {"a/inside": Link("../b")}


# ------------------------------------------------------------ changing


def test_create_replace_delete(side: Side) -> None:
    done(apply(side, ("new/deep/f", None, b"one"), ("g", None, b"gg")))
    assert side.tree() == {"new/deep/f": b"one", "g": b"gg"}
    done(apply(side, ("new/deep/f", file(b"one"), b"second")))
    assert side.tree() == {"new/deep/f": b"second", "g": b"gg"}
    done(apply(side, ("new/deep/f", file(b"second"), None)))
    assert side.tree() == {"g": b"gg"}
    assert sorted(side.kept()) == [b"one", b"second"]
    assert side.root is None or not (side.root / "new").exists()


def test_the_executable_bit(side: Side) -> None:
    side.write("run", b"#!")
    done(apply(side, ("run", file(b"#!"), file(b"#!", True))))
    assert side.tree() == {"run": (b"#!", "x")}
    done(apply(side, ("run", file(b"#!", True), file(b"#!"))))
    assert side.tree() == {"run": b"#!"}
    assert apply(side, ("run", file(b"#!", True), b"other"))[0] == Outcome("run", False, file(b"#!"))


def test_links_and_changes_of_kind(side: Side) -> None:
    side.write("a", b"file")
    side.write("d/x", b"in folder")
    done(apply(side, ("l", None, Link("a")), ("a", file(b"file"), Link("d"))))
    assert side.tree() == {"l": "-> a", "a": "-> d", "d/x": b"in folder"}
    done(apply(side, ("l", Link("a"), Link("d/x")), ("a", Link("d"), b"file again")))
    done(apply(side, ("d", None, b"was a folder"), ("d/x", file(b"in folder"), None)))
    done(apply(side, ("a/below", None, b"was a file"), ("a", file(b"file again"), None)))
    assert side.tree() == {"l": "-> d/x", "d": b"was a folder", "a/below": b"was a file"}


def test_equal_already_is_done(side: Side) -> None:
    side.write("a", b"same")
    done(apply(side, ("a", file(b"other"), file(b"same")), ("gone", file(b"x"), None)))
    done(apply(side, ("no/where", file(b"x"), None)))
    assert side.kept() == []


def test_1_a_precondition_that_does_not_hold_changes_nothing(side: Side) -> None:
    side.write("a", b"what the user saved")
    side.write("b", b"user's b")
    before = side.tree()
    assert apply(
        side,
        ("a", file(b"what was seen"), b"new"),
        ("b", None, b"also new"),
        ("c", file(b"gone meanwhile"), b"newest"),
        ("a/", file(b"x"), None),
    )[:3] == [
        Outcome("a", False, file(b"what the user saved")),
        Outcome("b", False, file(b"user's b")),
        Outcome("c", False, None),
    ]
    assert apply(side, ("a", file(b"what was seen"), None))[0].now == file(b"what the user saved")
    assert side.tree() == before
    assert side.kept() == []


def test_equal_contents_and_empty_files(side: Side) -> None:
    done(
        apply(
            side,
            *((f"pkg{n}/__init__.py", None, b"") for n in range(40)),
            ("x", None, b"eq"),
            ("y", None, b"eq"),
        )
    )
    assert side.tree() == {**{f"pkg{n}/__init__.py": b"" for n in range(40)}, "x": b"eq", "y": b"eq"}
    done(apply(side, ("x", file(b"eq"), b"changed"), ("y", file(b"eq"), b"changed")))
    assert side.tree()["x"] == side.tree()["y"] == b"changed"


@pytest.mark.parametrize(
    "path",
    ["../up", "/etc/x", "a/../../b", "", "a//b", ".git/config", "sub/.GIT/x", "git~1", ".devsync/x", "a\0b"],
)
def test_149_improper_paths_are_refused(side: Side, path: str) -> None:
    staging = side.replica.staging()
    staging.put(file(b"evil"), [b"evil"])
    staging.finish()
    staging = side.replica.staging()
    staging.put(file(b"good"), [b"good"])
    staging.finish()
    changes = [Change(path, None, file(b"evil")), Change("ok", None, file(b"good"))]
    refused, other = side.replica.apply(changes)
    assert not refused.done and refused.problem
    assert other.done
    assert side.tree() == {"ok": b"good"}


def test_150_links_that_leave_are_refused(side: Side) -> None:
    for target in ("/etc", "../..", "a/../../x"):
        outcome = apply(side, ("link", None, Link(target)))[0]
        assert not outcome.done and "leaves" in outcome.problem
    assert side.tree() == {}


def test_150_a_linked_parent_is_refused(side: Side, tmp_path: Path) -> None:
    canary = tmp_path / "outside"
    canary.mkdir()
    (canary / "f").write_bytes(b"canary")
    side.link("inside", str(canary))
    outcomes = apply(
        side,
        ("inside/new", None, b"evil"),
        ("inside/f", file(b"canary"), b"evil too"),
        ("inside/deep/er", None, b"evil"),
    )
    assert all(not outcome.done and outcome.problem for outcome in outcomes)
    assert [path.name for path in canary.iterdir()] == ["f"]
    assert (canary / "f").read_bytes() == b"canary"


def test_8_a_folder_with_ignored_things_stays(side: Side) -> None:
    side.write("exp/a.py", b"a")
    side.write("exp/data/checkpoint", b"precious")
    side.replica.set_rules(Rules(git=(Rule("", "data", folders_only=True, name_only=True),)))
    done(apply(side, ("exp/a.py", file(b"a"), None)))
    outcome = apply(side, ("exp", None, b"a file"))[0]
    assert not outcome.done and outcome.problem
    assert side.tree() == {"exp/data/checkpoint": b"precious"}


# ------------------------------------------------------------ contents


def test_71_wrong_bytes_never_become_visible(side: Side) -> None:
    staging = side.replica.staging()
    staging.put(file(b"right"), [b"wrong"])
    problems = staging.finish()
    outcome = side.replica.apply([Change("f", None, file(b"right"))])[0]
    assert not outcome.done and outcome.problem
    assert set(problems) <= {file(b"right").digest}
    assert side.tree() == {}
    outcome = side.replica.apply([Change("f", None, file(b"never staged"))])[0]
    assert not outcome.done and outcome.problem


def test_a_beat_while_a_content_travels(side: Side) -> None:
    first, rest = os.urandom(3 << 20), b"the rest of it"

    def slowly() -> Iterator[bytes]:
        yield first
        side.replica.beat()
        yield rest

    staging = side.replica.staging()
    staging.put(file(first + rest), slowly())
    assert not staging.finish()
    done(side.replica.apply([Change("f", None, file(first + rest))]))


def test_a_content_that_changes_is_a_problem_of_its_own(side: Side) -> None:
    def changing() -> Iterator[bytes]:
        yield b"one"
        raise ContentChanged("f: changed while it was read")

    staging = side.replica.staging()
    staging.put(file(b"one and two"), changing())
    staging.put(file(b"quiet"), [b"quiet"])
    assert list(staging.finish()) == [file(b"one and two").digest]
    changes = [Change("f", None, file(b"one and two")), Change("g", None, file(b"quiet"))]
    assert [outcome.done for outcome in side.replica.apply(changes)] == [False, True]
    assert side.tree() == {"g": b"quiet"}


def test_contents_are_handed_over(side: Side) -> None:
    contents = {f"f{n}": b"c" * n * 700 for n in range(60)} | {"big": bytes(range(256)) * 9000}
    for path, content in contents.items():
        side.write(path, content)
    side.write("stale", b"newer than the look")
    other = MemoryReplica()
    staging = other.staging()
    wanted = [(path, file(content)) for path, content in contents.items()]
    side.replica.supply([*wanted, ("stale", file(b"as it was seen")), ("none", file(b"none there"))], staging)
    assert set(staging.finish()) == {file(b"as it was seen").digest, file(b"none there").digest}
    done(other.apply([Change(path, None, leaf) for path, leaf in wanted]))
    assert other.entries == {path: Content(content) for path, content in contents.items()}


def test_what_is_staged_waits_while_something_else_is_applied(side: Side) -> None:
    staging = side.replica.staging()
    staging.put(file(b"it can wait"), [b"it can wait"])
    assert staging.finish() == {}
    staging = side.replica.staging()
    staging.put(file(b"it is urgent!"), [b"it is urgent!"])
    assert staging.finish() == {}
    done(side.replica.apply([Change("save", None, file(b"it is urgent!"))]))
    done(side.replica.apply([Change("bulk", None, file(b"it can wait"))]))
    assert side.tree() == {"save": b"it is urgent!", "bulk": b"it can wait"}


def test_what_is_staged_is_invisible(side: Side) -> None:
    staging = side.replica.staging()
    staging.put(file(b"on its way"), [b"on its way"])
    assert side.tree() == {}
    staging.finish()
    assert side.tree() == {}
    assert side.replica.scan() == Snapshot({})
    if side.root is not None:
        assert {path.name for path in side.root.iterdir()} <= {".devsync"}
        (staged,) = (side.root / ".devsync/tmp").iterdir()
        assert staged.stat().st_mode & 0o777 == 0o600


def test_the_marker(side: Side) -> None:
    assert side.replica.marker() is None
    side.replica.write_marker({"id": "one", "generation": 1})
    side.replica.write_marker({"id": "two", "generation": 2})
    assert side.replica.marker() == {"id": "two", "generation": 2}
    assert side.replica.scan() == Snapshot({})
    side.replica.close()
