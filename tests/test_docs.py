"""The documents are true: what they name exists, what exists is named, and blocks marked so are run."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

import click
import pytest

from devsync.cli.main import COMMANDS, devsync
from devsync.cli.run import OWN_FAILURE
from devsync.config import SETTINGS
from devsync.daemon.board import Facts
from devsync.daemon.parts import Parts
from devsync.daemon.requests import handlers
from devsync.daemon.status import Identity, as_json
from devsync.ports import DevsyncError, Power
from devsync.probe import scheduled_events, terminals
from devsync.probe import verbs as probe_verbs
from devsync.replica.helper import VERBS
from tests.system.project import Project

TOP = Path(__file__).parents[1]
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")])
PROMISES = TOP / "docs" / "guarantees.md"
CASES = TOP / "docs" / "cases.md"
REFERENCE = TOP / "docs" / "commands.md"

FENCE = re.compile(r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FOREIGN = {
    "--delete": "rsync",
    "--dry-run": "rsync, and ours",
    "--exclude-standard": "git",
    "--strict": "mypy",
    "--user": "systemctl, and ours",
}
"""Options of other programs that the documents show."""

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(TOP)) for page in PAGES])


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", text_of(page))


def commands() -> dict[str, click.Command]:
    """Every command by what is typed after `devsync`."""
    found: dict[str, click.Command] = {}
    ctx = click.Context(devsync)
    for name in COMMANDS:
        command = devsync.get_command(ctx, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found.update({f"{name} {sub}": one for sub, one in command.commands.items()})
    return found


def options_of(command: click.Command) -> set[str]:
    visible = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    return {name for one in visible for name in one.opts if name.startswith("--")} | {"--help"}


def invocations(page: Path) -> Iterator[list[str]]:
    """Each `devsync …` in a shell block or between backticks, as words."""
    for _, language, body in FENCE.findall(text_of(page)):
        if language == "sh":
            for line in body.splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["devsync"]:
                    yield words[1:]
    for code in CODE.findall(prose_of(page)):
        words = code.split()
        if words[:1] == ["devsync"]:
            yield words[1:]


# ---------------------------------------------------------------- what is named exists


@every_page
def test_every_command_that_is_shown_can_be_typed(page: Path) -> None:
    for words in invocations(page):
        ours = words[2:] if words[:1] == ["-C"] else words
        if ours and ours[0] not in ("…", "--help", "--version"):
            can_be_typed(ours)


def can_be_typed(words: list[str]) -> None:
    """Whether there is such a command with such options; what follows `--` is somebody else's."""
    known = commands()
    name, rest = words[0], words[1:]
    assert name in known, f"there is no devsync {name}"
    if isinstance(known[name], click.Group) and rest and not rest[0].startswith("-"):
        name, rest = f"{name} {rest[0]}", rest[1:]
        assert name in known, f"there is no devsync {name}"
    ours = rest[: rest.index("--")] if "--" in rest else rest
    for word in ours:
        if word.startswith("--"):
            assert word.partition("=")[0] in options_of(known[name]), f"devsync {name} has no {word}"


@every_page
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = {"--version", *FOREIGN, *(one for command in commands().values() for one in options_of(command))}
    for code in CODE.findall(prose_of(page)):
        for option in OPTION.findall(code):
            assert option in known, f"nothing has {option}"


@every_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    tables = {key.rpartition(".")[0] for key in SETTINGS}
    roots = "|".join(sorted({key.partition(".")[0] for key in SETTINGS}))
    for code in CODE.findall(prose_of(page)):
        match = re.match(rf"((?:{roots})(?:\.[a-z_]+)+)(?: = .*)?$", code)
        if match and code not in ("machine.state", "project.db"):
            assert match[1] in SETTINGS or match[1] in tables, f"there is no setting {match[1]}"


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose_of(page)):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@every_page
def test_files_that_are_named_are_there(page: Path) -> None:
    """`tests/x.py` from the top, `core/x.py` from the package."""
    tops = {path.name for path in TOP.iterdir() if path.is_dir()} - {"devsync"}
    rooms = {path.name for path in (TOP / "devsync").iterdir() if path.is_dir()}
    for code in CODE.findall(prose_of(page)):
        name = code.partition("::")[0]
        first = name.partition("/")[0]
        if re.fullmatch(r"[\w./@-]+\.(py|md|service)", name):
            assert "/" not in name or first in tops | rooms | {"devsync"}, name
            below = TOP / "devsync" if first in rooms else TOP
            assert "/" not in name or (below / name).is_file(), name


@every_page
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    shell = "\n".join(body for _, language, body in FENCE.findall(text_of(page)) if language == "sh")
    lines = [
        line for line in (*CODE.findall(prose_of(page)), *shell.splitlines()) if line.startswith("make ")
    ]
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        assert {word for word in words if "=" not in word} <= targets, line


@every_page
def test_tests_that_are_named_are_there(page: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text_of(page)):
        source = (TOP / path).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path} has no {name}"


def test_messages_that_are_explained_exist() -> None:
    said = "\n".join(texts())
    page = text_of(TOP / "docs" / "troubleshooting.md")
    rows = re.findall(r"^\| (.+?) \|", page, re.MULTILINE)
    phrases = [part for row in rows if row != "message" for part in re.split(r" / | ?… ?", row) if part]
    assert len(phrases) > 30
    missing = [phrase for phrase in phrases if phrase not in said]
    assert not set(missing) - {"no devsync.toml"}, "the name of the file stands in a constant"


def texts() -> Iterator[str]:
    """Every text in the sources, a message's parts joined as they are when it is shown."""
    for path in (TOP / "devsync").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)


def test_each_promise_has_a_test() -> None:
    sections = re.split(r"^## ", text_of(PROMISES), flags=re.MULTILINE)[1:]
    numbered = [section for section in sections if section[0].isdigit()]
    assert [int(section.split(".")[0]) for section in numbered] == list(range(1, len(numbered) + 1))
    for section in numbered:
        assert "Limits" in section, section.splitlines()[0]
        assert "Held by:\n- `tests/" in section, section.splitlines()[0]


def test_each_case_has_a_test_or_a_limit() -> None:
    lines = [line for line in text_of(CASES).splitlines() if line.startswith("- ")]
    numbers = [int(re.match(r"- \*\*(\d+)\*\* ", line)[1]) for line in lines]  # type: ignore[index]  # else it fails
    assert numbers == sorted(set(numbers))
    assert not [line for line in lines if "::test_" not in line and "limit: " not in line]


# ---------------------------------------------------------------- what exists is named


def test_every_command_and_option_is_documented() -> None:
    text = text_of(REFERENCE)
    readme = text_of(TOP / "README.md")
    for name, command in commands().items():
        assert f"`devsync {name}" in text, f"devsync {name}"
        assert name.split()[0] in readme, f"devsync {name}"
        for option in options_of(command):
            assert f"`{option}" in text or f" {option}" in text, f"devsync {name} {option}"


def test_every_exit_status_is_documented() -> None:
    section = text_of(REFERENCE).partition("## Exit status")[2].partition("\n## ")[0]
    named = {int(status) for status in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)}

    def grades(kind: type[DevsyncError]) -> Iterator[int]:
        yield kind.exit_status
        for below in kind.__subclasses__():
            yield from grades(below)

    interrupted = 130
    assert named == {0, *grades(DevsyncError), OWN_FAILURE, interrupted}


def test_every_setting_is_in_the_readme_or_the_configuration() -> None:
    page = text_of(TOP / "docs" / "configuration.md")
    assert not [key for key in SETTINGS if f"`{key}`" not in page]


def test_the_status_document_has_the_keys_that_are_shown() -> None:
    (shown,) = (body for _, language, body in FENCE.findall(text_of(REFERENCE)) if language == "json")
    tunnel = {"local": 1, "wanted": 1, "remote": 1, "state": "open", "bytes": 0, "error": None}
    watch = {"local": None, "machine": "inotify"}
    real = as_json(Facts(), Identity("p", "/p", 1, "", "azure"), [tunnel], watch)
    assert shape(json.loads(shown)) == shape(real)


def shape(value: object) -> object:
    """The keys of a document, and of the documents in it."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    return [shape(value[0])] if isinstance(value, list) and value else None


def test_every_state_of_the_machine_is_documented() -> None:
    for power in Power:
        assert f"`{power.value}`" in text_of(REFERENCE)


def test_every_verb_and_operation_is_in_the_protocol() -> None:
    page = text_of(TOP / "docs" / "protocol.md")
    table = page.partition("| verb |")[2].partition("\n\n")[0]
    verbs = {
        code for row in table.splitlines() for code in CODE.findall(row.partition("|")[2].partition("|")[0])
    }
    assert verbs == {*VERBS, *probe_verbs.VERBS, *terminals.VERBS, *scheduled_events.VERBS}
    operations = page.partition("Operations:")[2].partition("During `run`")[0]
    assert set(CODE.findall(operations)) == set(handlers(cast("Parts", None)))


def test_every_page_of_docs_is_in_the_index() -> None:
    index = text_of(TOP / "docs" / "README.md")
    for page in (TOP / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index


# ---------------------------------------------------------------- what is marked is run


def runnable() -> list[str]:
    return [body for page in PAGES for run, language, body in FENCE.findall(text_of(page)) if run]


@pytest.mark.parametrize("block", runnable())
def test_a_block_that_is_marked_runs(block: str, tmp_path: Path) -> None:
    project = Project(tmp_path, "[machine]\nprovider = 'local'\n")
    (project.root / "devsync.toml").unlink()
    (project.root / "model.py").write_text("SCORE = 1\n")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "devsync").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m devsync "$@"\n')
    (bin_folder / "devsync").chmod(0o755)
    try:
        done = subprocess.run(
            ["sh", "-eu", "-c", block],
            cwd=project.root,
            env={**project.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "hello from the machine" in done.stdout
    finally:
        if (project.root / "devsync.toml").exists():
            project.close()


def test_something_is_run() -> None:
    assert runnable()
