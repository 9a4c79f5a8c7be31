"""What is mirrored of a project: reads its ignore files on the way down, and asks git for the rest."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devsync.core.ignore import Folder, Rule, Rules
from devsync.core.snapshot import ROOT, RelPath
from devsync.replica.git import GIT_FILE, Repository, find_repository
from devsync.replica.patterns import patterns_to_rules, read_rules

OWN_FILE = ".devsyncignore"

_LARGEST = 100 << 20  # bytes; git reads no ignore file that is larger


def load_rules(root: Path, ignore: Sequence[str] = ()) -> Rules:
    """Read all rules of the project at `root` once; `ignore` are the patterns of its configuration."""
    return ProjectRules(root, ignore).load()


class ProjectRules:
    """The rules of a project, and when to read them again. One owner, one thread."""

    def __init__(self, root: Path, ignore: Sequence[str] = (), marked: str | None = None) -> None:
        """`marked` is the commit of the last `mark`, if it was by another process."""
        self._root, self._ignore = root, tuple(ignore)
        self._repositories: dict[RelPath, _Indexed] | None = None  # None: not asked yet
        self._marked = marked

    def load(self) -> Rules:
        """Read everything. Raises NeedsUser or Unavailable if there is a repository and git cannot tell."""
        self._repositories = _find_repositories(self._root)
        return _Reading(self._root, self._repositories, patterns_to_rules(self._ignore)).read()

    def governs(self, path: RelPath) -> bool:
        """Whether a change of the mirrored `path` can change the rules."""
        name = path.rpartition("/")[2]
        return name in (GIT_FILE, OWN_FILE, ".git", ".gitmodules")

    def fingerprint(self) -> object:
        """Differs when an input of the rules outside the mirrored files has changed; costs a few stats.

        The index is not an input, what it says of ignored files and submodules is: `git status` and
        `git add` write it all the time and change nothing here.
        """
        if self._repositories is None:
            self._repositories = _find_repositories(self._root)
        stamps = [(_stamp(path) for path in _inputs(each.repository)) for each in self._repositories.values()]
        kept = [each.kept() for each in self._repositories.values()]
        return os.path.lexists(self._root / ".git"), tuple(map(tuple, stamps)), tuple(kept)

    def busy(self) -> bool:
        """Whether git holds the index just now, as while it checks out."""
        top = self._top()
        return top is not None and top.busy()

    def tracked(self) -> Collection[RelPath]:
        """Every path that git keeps, here or in a submodule; nothing if git has no say."""
        repositories = self._repositories or {}
        return {
            _below(path, kept) for path, each in repositories.items() for kept in each.repository.tracked()
        }

    def mark(self) -> str | None:
        """From here on count what git deletes; the commit that is checked out, if there is one."""
        top = self._top()
        self._marked = top.head() if top is not None else None
        return self._marked

    def deleted_by_git(self) -> Collection[RelPath]:
        """The paths that the commit of the last `mark` had, and the one checked out now has not."""
        top = self._top()
        head = top.head() if top is not None and self._marked is not None else None
        if top is None or head is None or self._marked is None or head == self._marked:
            return frozenset()
        return top.deleted(self._marked, head)

    def _top(self) -> Repository | None:
        if self._repositories is None:
            self._repositories = _find_repositories(self._root)
        top = self._repositories.get(ROOT)
        return top.repository if top is not None else None


class _Indexed:
    """What the index of a repository says, asked again when the index has another stamp."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._stamp: object = None
        self._kept: tuple[frozenset[RelPath], frozenset[RelPath]] = (frozenset(), frozenset())

    def kept(self) -> tuple[frozenset[RelPath], frozenset[RelPath]]:
        """The tracked paths that are ignored, and the submodules."""
        stamp = _stamp(self.repository.index)
        if stamp != self._stamp:
            self._kept = self.repository.tracked_but_ignored(), self.repository.submodules()
            self._stamp = stamp  # of before: what git writes meanwhile is asked for again
        return self._kept


def _find_repositories(root: Path) -> dict[RelPath, _Indexed]:
    """The repository of `root` and its submodules, by folder; nothing if git has no say."""
    found: dict[RelPath, _Indexed] = {}
    waiting = [ROOT]
    while waiting:
        path = waiting.pop()
        repository = find_repository(root / path)
        if repository is not None:
            found[path] = _Indexed(repository)
            modules = (_below(path, module) for module in found[path].kept()[1])
            waiting.extend(module for module in modules if os.path.lexists(root / module / ".git"))
    return found


@dataclass
class _Reading:
    """One walk over the ignore files that count."""

    root: Path
    repositories: dict[RelPath, _Indexed]
    configured: list[Rule]
    git: list[Rule] = field(default_factory=list)
    own: list[Rule] = field(default_factory=list)
    nested: set[RelPath] = field(default_factory=set)

    def read(self) -> Rules:
        tracked = frozenset(
            _below(path, kept) for path, each in self.repositories.items() for kept in each.kept()[0]
        )
        repositories = frozenset(self.repositories)
        waiting = [Rules(tracked=tracked, repositories=repositories).top()]
        while waiting:
            waiting.extend(self._folder(waiting.pop()))
        return Rules(tuple(self.git), tuple(self.own), tracked, repositories, frozenset(self.nested))

    def _folder(self, folder: Folder) -> list[Folder]:
        """Take in what is in the folder; the folders to go on with."""
        path = folder.path
        try:
            with os.scandir(self.root / path) as listing:
                entries = {entry.name: entry.is_dir(follow_symlinks=False) for entry in listing}
        except OSError:
            return []  # whoever looks at the files says so
        if ".git" in entries and self.repositories and path not in self.repositories:
            self.nested.add(path)
            return []
        git = self._of_repository(path)
        own = list(self.configured) if path == ROOT else []
        if not folder.only_tracked:  # else git does not read them either
            if GIT_FILE in entries:
                git += read_rules(_read(self.root / path / GIT_FILE), path, folds=self._folds())
            if OWN_FILE in entries:
                own += read_rules(_read(self.root / path / OWN_FILE), path)
        folder.learn(git, own)
        self.git += git
        self.own += own
        below = (folder.enter(name) for name, is_folder in entries.items() if is_folder)
        return [each for each in below if each is not None]

    def _of_repository(self, path: RelPath) -> list[Rule]:
        """The rules that hold in the whole repository, if one begins here, and those of the folders above."""
        indexed = self.repositories.get(path)
        if indexed is None:
            return []
        repository = indexed.repository
        rules: list[Rule] = []
        for source in (repository.excludes_file, repository.exclude):
            if source is not None:
                content = _read(source, follow=True)
                rules += read_rules(content, path, above=repository.prefix, folds=repository.folds)
        for above, source in repository.above():
            rules += read_rules(_read(source), path, above=above, folds=repository.folds)
        return rules

    def _folds(self) -> bool:
        return any(each.repository.folds for each in self.repositories.values())


def _inputs(repository: Repository) -> list[Path]:
    """What decides beside the mirrored files and the index."""
    paths = [repository.exclude, *repository.config]
    if repository.excludes_file is not None:
        paths.append(repository.excludes_file)
    return paths + [path for _, path in repository.above()]


def _read(path: Path, *, follow: bool = False) -> bytes:
    """The content of an ignore file; nothing if there is none. As git, follows no link inside the tree."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError:
        return b""
    with open(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return b""
        return file.read()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _below(folder: RelPath, path: RelPath) -> RelPath:
    return f"{folder}/{path}" if folder else path
