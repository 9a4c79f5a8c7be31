"""What git says of a project. Reads only: never waits for a person, takes no lock, starts no helper."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from devsync.core.snapshot import RelPath
from devsync.ports import Halted, NeedsUser, Unavailable

GIT_FILE = ".gitignore"
"""The name of git's ignore files."""

_PATIENCE = 60.0  # seconds for one call

# What would point git at another repository, index or set of rules (as when git itself runs devsync).
_NOT_OURS = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
)


@dataclass(frozen=True)
class Repository:
    """A folder that git has a say in, and where git keeps what it says."""

    folder: Path
    prefix: str
    """The way from the top of the working tree to `folder`, ending in '/'; empty if it is the top."""
    index: Path
    exclude: Path
    excludes_file: Path | None
    config: tuple[Path, ...]
    folds: bool
    """Names that differ only by case are one (core.ignoreCase)."""

    def above(self) -> list[tuple[str, Path]]:
        """The ignore files above `folder`, from the top on, each with the way down from it."""
        names = self.prefix.split("/")[:-1]
        ways = ("".join(f"{name}/" for name in names[depth:]) for depth in range(len(names)))
        return [(way, self.folder / ("../" * way.count("/")) / GIT_FILE) for way in ways]

    def busy(self) -> bool:
        """Whether git is writing the index just now."""
        return os.path.lexists(f"{self.index}.lock")

    def tracked_but_ignored(self) -> frozenset[RelPath]:
        """The tracked paths below `folder` that a rule matches."""
        return frozenset(_paths(_ask(self.folder, "ls-files", "-c", "-i", "--exclude-standard", "-z")))

    def tracked(self) -> frozenset[RelPath]:
        """The paths below `folder` that the index has."""
        return frozenset(_paths(_try(self.folder, "ls-files", "-c", "-z")))

    def submodules(self) -> frozenset[RelPath]:
        """The folders below `folder` that the index names as repositories."""
        staged = _ask(self.folder, "ls-files", "--stage", "-z").split(b"\0")
        return frozenset(
            os.fsdecode(line.partition(b"\t")[2]) for line in staged if line.startswith(b"160000 ")
        )

    def head(self) -> str | None:
        """The commit that is checked out; None before the first."""
        return _try(self.folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip().decode() or None

    def deleted(self, before: str, after: str) -> frozenset[RelPath]:
        """The paths below `folder` that commit `before` has and `after` has not; none if one is unknown."""
        command = ("diff-tree", "-r", "--no-renames", "--diff-filter=D", "--name-only", "--relative", "-z")
        return frozenset(_paths(_try(self.folder, *command, before, after)))


def find_repository(folder: Path) -> Repository | None:
    """The repository that `folder` belongs to; None if there is none, or no git, or it ignores the folder.

    Raises NeedsUser if git refuses to read it.
    """
    if _outside(folder):
        return None
    asked = ("--is-inside-work-tree", "--show-prefix", "--git-path", "index", "--git-path", "info/exclude")
    answer = os.fsdecode(_ask(folder, "rev-parse", *asked, "--git-path", "config")).split("\n")
    inside, prefix, index, exclude, config = answer[:5]
    if inside != "true" or (prefix and _run(folder, "check-ignore", "-q", "--", ".").returncode == 0):
        return None
    excludes_file = _try(folder, "config", "--type=path", "--get", "core.excludesFile").removesuffix(b"\n")
    settings = _settings_folder() / "git"
    return Repository(
        folder,
        prefix,
        folder / index,
        folder / exclude,
        # An empty value is a value: no file. The exit status tells it from no value.
        _excludes_file(folder, prefix, excludes_file) if excludes_file else _default_excludes(folder),
        (folder / config, settings / "config", Path.home() / ".gitconfig"),
        _try(folder, "config", "--type=bool", "--get", "core.ignoreCase").strip() == b"true",
    )


def _default_excludes(folder: Path) -> Path | None:
    set_to_nothing = _run(folder, "config", "--get", "core.excludesFile").returncode == 0
    return None if set_to_nothing else _settings_folder() / "git" / "ignore"


def _excludes_file(folder: Path, prefix: str, value: bytes) -> Path:
    return Path(os.path.normpath(folder / ("../" * prefix.count("/")) / os.fsdecode(value)))


def _settings_folder() -> Path:
    # The environment is read as git reads it: these are its files, not ours.
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")


def _outside(folder: Path) -> bool:
    """Whether there is no repository at all, or no git. Any other refusal is the user's to solve."""
    try:
        found = _run(folder, "rev-parse", "--git-dir")
    except FileNotFoundError:
        return True
    if found.returncode == 0:
        return False
    said = os.fsdecode(found.stderr).strip()
    if "not a git repository (or any" in said:
        return True
    if not folder.is_dir():
        raise Halted(f"the project folder is gone: {folder}", hint="bring it back, then: devsync start")
    raise NeedsUser(
        f"git cannot read the repository at {folder}: {said.splitlines()[0] if said else 'no reason given'}",
        hint="run `git status` there; what git ignores is not known until it works",
    )


def _ask(folder: Path, *arguments: str) -> bytes:
    """What git prints. Raises Unavailable if it fails: the repository may just be changing."""
    done = _run(folder, *arguments)
    if done.returncode != 0:
        said = os.fsdecode(done.stderr).strip().splitlines()
        raise Unavailable(f"git {arguments[0]} failed in {folder}: {said[0] if said else done.returncode}")
    return done.stdout


def _try(folder: Path, *arguments: str) -> bytes:
    """What git prints; nothing if it fails."""
    done = _run(folder, *arguments)
    return done.stdout if done.returncode == 0 else b""


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    command = ["git", "--no-pager", "-c", "core.fsmonitor=false", "-C", os.fspath(folder), *arguments]
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"git {arguments[0]} did not answer within {_PATIENCE:.0f} s in {folder}") from None


def _paths(listing: bytes) -> Iterable[RelPath]:
    return (os.fsdecode(name) for name in listing.split(b"\0") if name)
