"""The rules against git itself: what a walk finds is what `git ls-files -co --exclude-standard` lists."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devsync.core.ignore import Folder, Rules
from devsync.core.snapshot import File, RelPath
from devsync.ports import NeedsUser
from devsync.replica.local import LocalReplica
from devsync.replica.patterns import read_rules
from devsync.replica.rules import ProjectRules, load_rules


@pytest.fixture(autouse=True)
def no_settings_of_the_user(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "test@example.org")


def git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL).stdout


def plant(root: Path, files: Mapping[str, str | bytes]) -> None:
    for path, content in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(os.fsencode(content) if isinstance(content, str) else content)


def listed_by_git(root: Path) -> set[RelPath]:
    """Without folders (nested repositories end in '/') and without what is in the index only."""
    names = [
        os.fsdecode(name) for name in git(root, "ls-files", "-co", "--exclude-standard", "-z").split(b"\0")
    ]
    return {name for name in names if name and not name.endswith("/") and not is_folder_or_gone(root / name)}


def is_folder_or_gone(path: Path) -> bool:
    return not os.path.lexists(path) or (path.is_dir() and not path.is_symlink())


def walk(root: Path, rules: Rules) -> Iterator[RelPath]:
    waiting: list[Folder] = [rules.top()]
    while waiting:
        folder = waiting.pop()
        with os.scandir(root / folder.path) as listing:
            for entry in sorted(listing, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    below = folder.enter(entry.name)
                    if below is not None:
                        waiting.append(below)
                elif folder.keeps(entry.name):
                    yield f"{folder.path}/{entry.name}" if folder.path else entry.name


def mirrored(root: Path, *ignore: str) -> set[RelPath]:
    rules = load_rules(root, ignore)
    assert Rules.from_json(rules.to_json()) == rules
    found = set(walk(root, rules))
    assert all(rules.visible(path, False) for path in found)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


# ---------------------------------------------------------------- against generated repositories

NAMES = ["a", "b", "ab", "a.b", "b.a", "A", "é", "a b", "a ", "[a]", "#a", "!a", "a\\b", "-", "\udcff", "a\n"]
PIECES = [
    "a",
    "b",
    ".",
    "*",
    "**",
    "?",
    "/",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-b]",
    "[[:alpha:]]",
    "\\",
    " ",
    "\t",
    "é",
]
PIECES += [
    "[",
    "]",
    "#",
    "!",
    "-",
    "[]a]",
    "[\\]a]",
    "\udcff",
    "[a/]",
    "**/",
    "/**/",
    "/**",
    "***",
    "\xa0",
    "{",
    "$",
]

name = st.sampled_from(NAMES)
path = st.lists(name, min_size=1, max_size=3).map("/".join)
wild = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
likely = st.builds(
    lambda start, middle, end: start + middle + end,
    st.sampled_from(["", "/", "**/", "!", "!/"]),
    path,
    st.sampled_from(["", "/", "/*", "/**", "*"]),
)
line = st.one_of(likely, wild, wild.map("!".__add__))
ignore_file = st.tuples(st.lists(line, max_size=5), st.sampled_from(["\n", "\n", "\r\n"])).map(
    lambda parts: parts[1].join(parts[0])
)
tree = st.fixed_dictionaries(
    {
        "paths": st.lists(path, min_size=1, max_size=10),
        "tracked": st.sets(st.integers(0, 9), max_size=3),
        "ignore": st.dictionaries(st.one_of(st.just(""), path), ignore_file, max_size=3),
        "exclude": ignore_file,
        "excludes_file": ignore_file,
    }
)


def grow(root: Path, tree: dict[str, object]) -> None:
    """Make the files that do not stand in each other's way."""
    paths, tracked, ignore = tree["paths"], tree["tracked"], tree["ignore"]
    assert isinstance(paths, list) and isinstance(tracked, set) and isinstance(ignore, dict)
    made = []
    for wanted in paths:
        try:
            plant(root, {wanted: b"x"})
            made.append(wanted)
        except OSError:
            pass
    for folder, content in ignore.items():
        if (root / folder).is_dir():
            plant(root, {f"{folder}/.gitignore".lstrip("/"): content})
    chosen = [wanted for number, wanted in enumerate(made) if number in tracked]
    if chosen:
        git(root, "--literal-pathspecs", "add", "-f", "--", *chosen)
    plant(root, {".git/info/exclude": str(tree["exclude"])})
    excludes = Path(os.environ["HOME"]) / ".config/git/ignore"
    plant(excludes.parent, {excludes.name: str(tree["excludes_file"])})


@settings(
    max_examples=int(os.environ.get("GIT_EXAMPLES", "50")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(tree)
def test_a_walk_finds_what_git_lists(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        git(root, "init", "-q")
        grow(root, tree)
        assert mirrored(root) == listed_by_git(root)


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with every name in every place, two folders deep."""
    root = tmp_path_factory.mktemp("forest")
    git(root, "init", "-q")
    for outer in NAMES:
        plant(root, {f"{outer}_/{inner}": b"x" for inner in NAMES})
        plant(root, {outer: b"x"} | {f"d/{outer}/{inner}": b"x" for inner in ("a", "b", "é", "a.b")})
    return root


@settings(max_examples=int(os.environ.get("PATTERN_EXAMPLES", "120")), deadline=None)
@given(st.lists(line, min_size=1, max_size=3).map("\n".join))
@example("/**\\/**/")
@example("d/**\\/b")
@example("d/a**")
@example("d/**/**\\/é")
def test_a_pattern_matches_what_it_matches_for_git(forest: Path, content: str) -> None:
    plant(forest, {".gitignore": content})
    rules = Rules(git=tuple(read_rules(os.fsencode(content), "")))
    assert set(walk(forest, rules)) == listed_by_git(forest)


# ---------------------------------------------------------------- one by one


def test_a_tracked_file_stays_although_its_folder_is_ignored(root: Path) -> None:
    plant(
        root,
        {"out/kept/a": "1", "out/kept/b": "22", "out/lost/c": "333", ".gitignore": "out/\n!out/lost/c\n"},
    )
    git(root, "add", "-f", "out/kept/a")
    assert mirrored(root) == listed_by_git(root) == {".gitignore", "out/kept/a"}


def test_own_patterns_apply_last_and_to_tracked_files_too(root: Path) -> None:
    plant(root, {"data/x": "1", "src/a.ckpt": "22", "src/keep.ckpt": "333", "src/b.py": "4444"})
    plant(root, {"src/.devsyncignore": "!keep.ckpt\n", ".gitignore": "b.py\n"})
    git(root, "add", "-f", "data/x")
    assert mirrored(root, "data/", "*.ckpt") == {".gitignore", "src/.devsyncignore", "src/keep.ckpt"}


def test_what_git_ignores_no_pattern_of_ours_brings_back(root: Path) -> None:
    plant(root, {"a.log": "1", ".gitignore": "*.log\n"})
    assert mirrored(root, "!a.log") == {".gitignore"}


def test_the_folders_of_git_and_of_devsync_are_never_mirrored(root: Path) -> None:
    plant(root, {".devsync/tmp/x": "1", "a/.devsync/y": "22", "a/.GIT/config": "333", "a/git~1": "4444"})
    assert mirrored(root) == {"a/.devsync/y"}


def test_58_what_git_would_convert_is_taken_as_it_lies(root: Path) -> None:
    git(root, "config", "core.autocrlf", "input")
    git(root, "config", "filter.loud.clean", "tr a-z A-Z")
    content = b"first\r\nsecond\r\n"
    plant(root, {".gitattributes": "*.txt filter=loud eol=lf\n", "a.txt": content})
    git(root, "add", "a.txt")
    leaf = LocalReplica(root).scan(["a.txt"]).leaves["a.txt"]
    assert leaf == File(hashlib.sha256(content).hexdigest(), len(content))


def test_a_repository_inside_is_left_alone(root: Path) -> None:
    plant(root, {"lib/a": "1", "b": "22"})
    git(root / "lib", "init", "-q")
    assert mirrored(root) == listed_by_git(root) == {"b"}
    assert load_rules(root).nested == {"lib"}


def test_a_submodule_is_mirrored_by_its_own_rules(tmp_path: Path) -> None:
    library, root = tmp_path / "library", tmp_path / "project"
    for folder in (library, root):
        folder.mkdir()
        git(folder, "init", "-q")
    plant(library, {"a.log": "1", "b": "22", "out/t": "333", ".gitignore": "out/\n"})
    git(library, "add", "-f", ".")
    git(library, "commit", "-qm", "first")
    git(root, "submodule", "--quiet", "add", str(library), "deps/lib")
    plant(
        root,
        {
            ".gitignore": "*.log\ndeps/\n",
            "deps/new": "4444",
            "deps/lib/out/u": "55555",
            "deps/lib/c": "666666",
        },
    )
    inside = {f"deps/lib/{path}" for path in listed_by_git(root / "deps/lib")}
    assert mirrored(root) == inside | {".gitignore", ".gitmodules"}
    assert {"deps/lib/a.log", "deps/lib/out/t", "deps/lib/c"} < inside


def test_a_folder_inside_a_repository_obeys_the_rules_above_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    root = tmp_path / "team" / "model"
    plant(tmp_path, {".gitignore": "*.log\n/team/model/out\n", "team/.gitignore": "model/tmp/\n"})
    plant(tmp_path, {".git/info/exclude": "team/*/private\n", "team/model/tmp/x": "1"})
    plant(root, {"a.log": "1", "out/b": "22", "private": "333", "src/out/c": "4444", "src/private": "55555"})
    assert mirrored(root) == listed_by_git(root) == {"src/out/c", "src/private"}


def test_a_repository_that_ignores_the_project_has_no_say(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    plant(tmp_path, {".gitignore": "*\n", "project/a": "1"})
    assert mirrored(tmp_path / "project") == {"a"}


def test_without_a_repository_the_ignore_files_alone_decide(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {"a/x.log": "1", "b": "22", "a/.gitignore": "*.log\n", "c": "333", "lib/.git/HEAD": "", "lib/d": ""},
    )
    assert mirrored(tmp_path, "c") == {"a/.gitignore", "b", "lib/d"}


def test_without_git_the_ignore_files_alone_decide(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(root, {"a": "1", "b": "22", "c": "333", ".gitignore": "b\n", ".git/info/exclude": "c\n"})
    monkeypatch.setenv("PATH", str(root))
    assert mirrored(root) == {"a", "c", ".gitignore"}


def test_a_worktree_reads_the_exclude_file_of_its_repository(tmp_path: Path) -> None:
    root, second = tmp_path / "first", tmp_path / "second"
    root.mkdir()
    git(root, "init", "-q")
    git(root, "commit", "-q", "--allow-empty", "-m", "first")
    git(root, "worktree", "add", "-q", str(second))
    plant(root, {".git/info/exclude": "*.log\n"})
    plant(second, {"a.log": "1", "b": "22"})
    assert mirrored(second) == listed_by_git(second) == {"b"}


def test_case_makes_no_difference_where_git_says_so(root: Path) -> None:
    git(root, "config", "core.ignoreCase", "true")
    plant(root, {"A.LOG": "1", "b": "22", ".gitignore": "*.log\n"})
    assert mirrored(root) == listed_by_git(root) == {".gitignore", "b"}


def test_another_excludes_file_and_none(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    plant(Path(os.environ["HOME"]), {".config/git/ignore": "a\n", "mine": "b\n"})
    plant(root, {"a": "1", "b": "22"})
    assert mirrored(root) == listed_by_git(root) == {"b"}
    git(root, "config", "core.excludesFile", "~/mine")
    assert mirrored(root) == listed_by_git(root) == {"a"}
    git(root, "config", "core.excludesFile", "")
    assert mirrored(root) == listed_by_git(root) == {"a", "b"}


def test_an_ignore_file_that_is_a_link_counts_for_nothing(root: Path) -> None:
    plant(root, {"a": "1", "rules": "a\n"})
    (root / ".gitignore").symlink_to("rules")
    assert mirrored(root) == listed_by_git(root) == {"a", "rules", ".gitignore"}


def test_a_repository_that_git_refuses_to_read_is_no_repository_without_rules(root: Path) -> None:
    plant(root, {".git/config": "[core\n"})
    with pytest.raises(NeedsUser, match="git cannot read the repository"):
        load_rules(root)


# ---------------------------------------------------------------- when to read again


def test_the_fingerprint_tells_what_changes_the_rules(root: Path) -> None:
    plant(root, {"a.log": "1", "b": "22", ".gitignore": "*.log\n"})
    rules = ProjectRules(root)
    seen = [rules.fingerprint()]
    rules.load()

    def changed() -> bool:
        seen.append(rules.fingerprint())
        return seen[-1] != seen[-2]

    assert not changed()
    git(root, "add", "b")
    assert not changed()  # the index alone is no reason
    git(root, "add", "-f", "a.log")
    assert changed()
    plant(root, {".git/info/exclude": "b\n"})
    assert changed()
    plant(Path(os.environ["HOME"]), {".config/git/ignore": "c\n"})
    assert changed()
    assert not changed()


def test_ignore_files_govern_and_other_files_do_not() -> None:
    rules = ProjectRules(Path("nowhere"))
    assert all(map(rules.governs, [".gitignore", "a/.gitignore", "a/b/.devsyncignore", ".gitmodules"]))
    assert not any(map(rules.governs, ["gitignore", "a/x.gitignore", "", ".gitignore/a"]))


def test_busy_while_git_holds_the_index(root: Path) -> None:
    rules = ProjectRules(root)
    assert not rules.busy()
    plant(root, {".git/index.lock": ""})
    assert rules.busy()


def test_what_a_checkout_deletes_is_known(root: Path) -> None:
    plant(root, {"a": "1", "sub/b": "22"})
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    rules = ProjectRules(root)
    assert rules.deleted_by_git() == frozenset()
    rules.mark()
    assert rules.deleted_by_git() == frozenset()
    git(root, "rm", "-q", "sub/b")
    git(root, "commit", "-qm", "second")
    assert rules.deleted_by_git() == {"sub/b"}
    rules.mark()
    assert rules.deleted_by_git() == frozenset()


def test_reading_writes_nothing_and_asks_nobody(root: Path) -> None:
    plant(root, {"a": "1"})
    git(root, "add", "a")
    git(root, "config", "core.fsmonitor", "touch hooked; false")
    os.utime(root / "a", (1, 1))  # `git status` would refresh the index
    before = (root / ".git/index").read_bytes()
    load_rules(root)
    assert (root / ".git/index").read_bytes() == before
    assert not (root / "hooked").exists()
