"""What devsync does not decide by itself, through the command line: conflicts, secrets, old versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.sshd import Sshd
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree, wait_for

pytestmark = pytest.mark.timeout(180)

TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3


def asked(project: Project, *words: str, expect: int = 0) -> Any:
    """The document that a command prints with --json."""
    return json.loads(project.devsync(*words, "--json", expect=expect).stdout)


def changed_on_both_sides(project: Project, sshd: Sshd, *names: str) -> None:
    """Make these files a conflict each."""
    for name in names:
        (project.root / name).parent.mkdir(parents=True, exist_ok=True)
        (project.root / name).write_text("as it was\n")
        (there(sshd) / name).parent.mkdir(parents=True, exist_ok=True)
        (there(sshd) / name).write_text("as it was\n")
    project.devsync("push")
    for number, name in enumerate(names):
        (project.root / name).write_text("changed here" + "!" * number + "\n")
        (there(sshd) / name).write_text("and changed on the machine" + "?" * number + "\n")


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
def test_conflicts_are_listed_and_resolved(project: Project, sshd: Sshd, daemon: bool) -> None:
    names = ["src/a.py", "src/b.py", "src/c.py"]
    changed_on_both_sides(project, sshd, *names)
    if daemon:
        project.devsync("start")
    rows = asked(project, "conflicts")
    assert [row["path"] for row in rows] == names
    assert {row["kind"] for row in rows} == {"both-modified"}
    assert (rows[0]["local"]["size"], rows[0]["remote"]["size"]) == (13, 27)
    assert rows[0]["local"].keys() == {"digest", "size", "executable"}
    assert "src/b.py" in project.devsync("conflicts").stdout
    assert [row["path"] for row in asked(project, "diff") if row["change"] == "conflict"] == names
    assert (project.root / "src/a.py").read_text() == "changed here\n"

    refused = project.devsync("resolve", "src/a.py", "no-such-file", "--keep", "local", expect=1)
    assert "no-such-file" in refused.stderr
    assert len(asked(project, "conflicts")) == 3, "nothing was done by a request that is wrong in part"
    project.devsync("resolve", "src/a.py", "--keep", "local")
    project.devsync("resolve", "src/b.py", "--keep", "remote")
    project.devsync("resolve", "src/c.py", "--keep", "both")

    assert asked(project, "conflicts") == []
    assert (there(sshd) / "src/a.py").read_text() == "changed here\n"
    assert (project.root / "src/b.py").read_text() == "and changed on the machine?\n"
    [beside] = (project.root / "src").glob("c.remote-*.py")
    assert beside.read_text() == "and changed on the machine??\n"
    assert (project.root / "src/c.py").read_text() == "changed here!!\n"
    assert tree(project.root) == tree(there(sshd))
    kept = {(row["path"], row["side"]) for row in asked(project, "history")}
    assert kept == {("src/a.py", "remote"), ("src/b.py", "local"), ("src/c.py", "remote")}


def test_a_file_against_a_folder_is_resolved_whole(project: Project, sshd: Sshd) -> None:
    changed_on_both_sides(project, sshd, "other.txt")
    (project.root / "data").write_text("a file here\n")
    (there(sshd) / "data").mkdir()
    (there(sshd) / "data" / "part").write_text("in a folder there\n")
    rows = asked(project, "conflicts")
    assert ("data", "type-changed") in {(row["path"], row["kind"]) for row in rows}
    project.devsync("resolve", "data", "--keep", "both", expect=1)
    project.devsync("resolve", "data", "--keep", "remote")
    assert (project.root / "data" / "part").read_text() == "in a folder there\n"
    assert [row["path"] for row in asked(project, "history", "data")] == ["data"]


@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "daemon"])
def test_an_old_version_comes_back_to_both_sides(project: Project, sshd: Sshd, daemon: bool) -> None:
    (project.root / "model.py").write_text("the first version\n")
    (project.root / "gone.py").write_text("will be deleted\n")
    project.devsync("push")
    (project.root / "model.py").write_text("the second\n")
    (project.root / "gone.py").unlink()
    project.devsync("push")
    if daemon:
        project.devsync("start")
    rows = asked(project, "history")
    assert {(row["path"], row["side"], row["reason"]) for row in rows} == {
        ("model.py", "remote", "replaced"),
        ("gone.py", "remote", "deleted"),
    }
    assert "gone.py" in project.devsync("history", "gone.py").stdout
    assert asked(project, "history", "--side", "local") == []

    answer = asked(project, "restore", "model.py")
    assert (answer["side"], answer["conflict"], answer["problem"]) == ("remote", False, None)
    [version] = [row["version"] for row in rows if row["path"] == "gone.py"]
    project.devsync("restore", "model.py", "--version", version, expect=1)
    project.devsync("restore", "gone.py", "--version", version, "--side", "remote")

    assert (project.root / "model.py").read_text() == "the first version\n"
    assert (project.root / "gone.py").read_text() == "will be deleted\n"
    assert tree(project.root) == tree(there(sshd))
    replaced = asked(project, "history", "model.py")
    assert {row["side"] for row in replaced} == {"local", "remote"}, "what it replaced is kept as well"
    assert "nothing.py" in project.devsync("restore", "nothing.py", expect=1).stderr


def test_credentials_stay_here_until_they_are_named(tmp_path: Path, sshd: Sshd) -> None:
    project = Project(tmp_path, config_for(sshd))
    (project.root / ".env").write_text("PASSWORD=swordfish\n")
    (project.root / "settings.py").write_text(f"TOKEN = '{TOKEN}'\n")
    (project.root / "model.py").write_text("pass\n")
    try:
        pushed = asked(project, "push")
        assert set(pushed["held"]) == {".env", "settings.py"}
        assert "GitHub token" in pushed["held"]["settings.py"]
        assert set(tree(there(sshd))) == {"devsync.toml", "model.py"}
        assert "allow_secrets" in project.devsync("push").stderr

        project.devsync("start")
        sync = project.status()["sync"]
        assert (sync["held"], set(sync["problems"])) == (2, {".env", "settings.py"})
        (project.root / "id_rsa").write_text("born while the daemon runs\n")
        (project.root / "model.py").write_text("something else goes on\n")
        wait_for("the save", lambda: (there(sshd) / "model.py").read_text() != "pass\n")
        project.devsync("flush")
        assert not (there(sshd) / "id_rsa").exists()
        (there(sshd) / "credentials.json").write_text("{}")
        project.devsync("flush")
        assert not (project.root / "credentials.json").exists()
        assert project.log().count("settings.py': looks like") == 1
        project.devsync("stop")

        config = project.root / "devsync.toml"
        config.write_text(config.read_text().replace("[sync]", '[sync]\nallow_secrets = [".env", "*.json"]'))
        project.devsync("start")
        assert (there(sshd) / ".env").read_text() == "PASSWORD=swordfish\n"
        assert (project.root / "credentials.json").exists()
        assert not (there(sshd) / "settings.py").exists()
        assert {row["path"]: row["change"] for row in asked(project, "diff")} == {
            "id_rsa": "held",
            "settings.py": "held",
        }
    finally:
        project.close()
