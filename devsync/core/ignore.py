"""What is mirrored: gitignore rules as data, asked on the way down. Travels to the machine (Python 3.8).

A `Folder` is a folder that was reached from the root, with the rules that hold in it; what is ignored
is not entered, so nothing below it is ever asked for. A walker needs no more than this:

    def walk(folder):
        for name, is_folder in listing(folder.path):
            below = folder.enter(name) if is_folder else None
            if below is not None:
                walk(below)
            elif not is_folder and folder.keeps(name):
                ...
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from devsync.core.snapshot import ROOT, RelPath, parents, proper

OWN_FOLDER = ".devsync"
"""Where devsync keeps its own things, in the root: never mirrored."""

_REMEMBERED = 200_000  # names; beyond that a table forgets everything and starts again


@dataclass(frozen=True)
class Rule:
    """One line of an ignore file. Of the rules that match a path, the last one decides.

    `regex` must match the whole text that is asked: the path below `directory` (with `above` before
    it), or only the last name. It is of bytes and stands here as latin-1, one character a byte.
    """

    directory: RelPath
    """The rule holds below this folder."""
    regex: str
    ignores: bool = True
    """False: what an earlier rule ignores is kept."""
    folders_only: bool = False
    name_only: bool = False
    above: str = ""
    """For an ignore file of a folder above the root: the way from there to the root, ending in '/'."""


@dataclass(frozen=True)
class Rules:
    """Everything that decides what is mirrored. Asking is safe from several threads.

    `.git` and whatever a platform takes for it, and `.devsync` in the root, are never mirrored.
    """

    git: tuple[Rule, ...] = ()
    """What git ignores; a later rule beats an earlier one."""
    own: tuple[Rule, ...] = ()
    """What devsync ignores besides, whatever git says of it."""
    tracked: frozenset[RelPath] = frozenset()
    """The paths that a git rule matches and that stay all the same, because git tracks them."""
    repositories: frozenset[RelPath] = frozenset()
    """The folders that are repositories and are mirrored: the root, submodules. The git rules of the
    folders above end there. Empty if git has no say in this tree."""
    nested: frozenset[RelPath] = frozenset()
    """The folders that are repositories of their own, and are left alone."""

    # Derived from the fields above.
    _git_tables: dict[RelPath, tuple[_Table, ...]] = field(init=False, repr=False, compare=False)
    _own_tables: dict[RelPath, tuple[_Table, ...]] = field(init=False, repr=False, compare=False)
    _ways: frozenset[RelPath] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        kept = self.tracked | self.repositories
        object.__setattr__(self, "_git_tables", _by_directory(self.git))
        object.__setattr__(self, "_own_tables", _by_directory(self.own))
        object.__setattr__(self, "_ways", frozenset(way for path in kept for way in parents(path)))

    def top(self) -> Folder:
        """The root, where every way down begins."""
        return Folder(self, ROOT, self._git_tables.get(ROOT, ()), self._own_tables.get(ROOT, ()), False)

    def folder(self, path: RelPath) -> Folder | None:
        """The folder `path`, or None if it or one above it is not mirrored. Nothing is looked up on disk."""
        if path == ROOT:
            return self.top()
        folder: Folder | None = self.top()
        for name in path.split("/"):
            folder = folder.enter(name) if folder is not None else None
        return folder

    def visible(self, path: RelPath, is_folder: bool) -> bool:
        """Whether `path` is mirrored (a folder: whether it is looked into)."""
        if is_folder or path == ROOT:
            return self.folder(path) is not None
        above, _, name = path.rpartition("/")
        folder = self.folder(above)
        return folder is not None and folder.keeps(name)

    def foreign(self, path: RelPath, names: Collection[str]) -> bool:
        """Whether the folder `path`, which holds `names`, is another repository, born after these rules.

        git does not look into it, so nobody else should.
        """
        return ".git" in names and bool(self.repositories) and path not in self.repositories

    def to_json(self) -> dict[str, Any]:
        """These rules as a JSON value."""
        return {
            "git": [_rule_to_json(rule) for rule in self.git],
            "own": [_rule_to_json(rule) for rule in self.own],
            "tracked": sorted(self.tracked),
            "repositories": sorted(self.repositories),
            "nested": sorted(self.nested),
        }

    @staticmethod
    def from_json(value: Any) -> Rules:
        """The rules of a JSON value; ValueError for anything that `to_json` does not make."""
        keys = {"git", "own", "tracked", "repositories", "nested"}
        if (
            not isinstance(value, dict)
            or set(value) != keys
            or not all(isinstance(v, list) for v in value.values())
        ):
            raise ValueError(f"not ignore rules: {value!r}"[:200])
        return Rules(
            tuple(_rule_from_json(rule) for rule in value["git"]),
            tuple(_rule_from_json(rule) for rule in value["own"]),
            _paths_from_json(value["tracked"]),
            _paths_from_json(value["repositories"]),
            _paths_from_json(value["nested"]),
        )


class Folder:
    """A folder on the way down. `only_tracked`: git ignores it, but tracks something below it."""

    __slots__ = ("_git", "_own", "_rules", "only_tracked", "path")

    def __init__(
        self,
        rules: Rules,
        path: RelPath,
        git: tuple[_Table, ...],
        own: tuple[_Table, ...],
        only_tracked: bool,
    ) -> None:
        self.path = path
        self.only_tracked = only_tracked
        self._rules = rules
        self._git = git  # the deepest folder's tables first
        self._own = own

    def enter(self, name: str) -> Folder | None:
        """The folder `name` in this one, or None if it is not to be looked into."""
        rules = self._rules
        path = self._path(name)
        if self._never(name) or path in rules.nested or _ignores(self._own, name, path, True):
            return None
        git, only_tracked = self._git, False
        if path in rules.repositories:
            git = ()
        elif self.only_tracked or _ignores(git, name, path, True):
            if path not in rules._ways:
                return None
            only_tracked = True
        below = Folder(rules, path, git, self._own, only_tracked)
        below._adopt(rules._git_tables.get(path, ()), rules._own_tables.get(path, ()))
        return below

    def keeps(self, name: str) -> bool:
        """Whether what is called `name` here, and is no folder, is mirrored."""
        path = self._path(name)
        if self._never(name):
            return False
        if (self.only_tracked or _ignores(self._git, name, path, False)) and path not in self._rules.tracked:
            return False
        return not _ignores(self._own, name, path, False)

    def learn(self, git: Iterable[Rule], own: Iterable[Rule]) -> None:
        """Take in the rules that were just read in this folder, before they are part of a `Rules`."""
        self._adopt(_tables(git), _tables(own))

    def _adopt(self, git: tuple[_Table, ...], own: tuple[_Table, ...]) -> None:
        self._git = git + self._git
        self._own = own + self._own

    def _path(self, name: str) -> RelPath:
        return f"{self.path}/{name}" if self.path else name

    def _never(self, name: str) -> bool:
        if "g" in name or "G" in name or name in ("", ".", ".."):  # the quick way past most names
            return not proper(name)
        return not self.path and name.lower() == OWN_FOLDER


class _Table:
    """Rules that follow one another in one ignore file: one question, one answer."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._cut = len(rules[0].directory) + 1 if rules[0].directory else 0
        self._above = rules[0].above
        self._rules = rules
        self._for_files: _Patterns | None = None
        self._for_folders: _Patterns | None = None

    def verdict(self, name: str, path: RelPath, is_folder: bool) -> bool | None:
        """Whether the last rule that matches says "ignored"; None if none matches."""
        patterns = self._patterns(is_folder)
        found = patterns.by_name(name)
        if patterns.has_paths:
            found = max(found, patterns.by_path(self._above + path[self._cut :]))
        return self._rules[found].ignores if found >= 0 else None

    def _patterns(self, is_folder: bool) -> _Patterns:
        if is_folder:
            if self._for_folders is None:
                self._for_folders = _Patterns(list(enumerate(self._rules)))
            return self._for_folders
        if self._for_files is None:
            self._for_files = _Patterns(
                [(i, rule) for i, rule in enumerate(self._rules) if not rule.folders_only]
            )
        return self._for_files


class _Patterns:
    """Numbered rules, compiled into two alternations: one is asked about names, one about paths.

    Names come back with every look, so the answers about them are remembered.
    """

    def __init__(self, numbered: Sequence[tuple[int, Rule]]) -> None:
        self._names = _Alternation([(i, rule.regex) for i, rule in numbered if rule.name_only])
        self._paths = _Alternation([(i, rule.regex) for i, rule in numbered if not rule.name_only])
        self.has_paths = self._paths.pattern is not None
        self._seen: dict[str, int] = {}

    def by_name(self, name: str) -> int:
        """The number of the last rule that matches the name, or -1."""
        found = self._seen.get(name)
        if found is None:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            found = self._seen[name] = self._names.last_match(name)
        return found

    def by_path(self, path: str) -> int:
        """The number of the last rule that matches the path, or -1."""
        return self._paths.last_match(path)


class _Alternation:
    """Numbered regular expressions as one: the one with the highest number is tried first."""

    def __init__(self, numbered: Sequence[tuple[int, str]]) -> None:
        falling = numbered[::-1]
        self._numbers = [number for number, _ in falling]
        either = "|".join(f"({regex})" for _, regex in falling).encode("latin-1")
        self.pattern: re.Pattern[bytes] | None = (
            re.compile(b"(?:%s)\\Z" % either, re.DOTALL) if falling else None
        )

    def last_match(self, text: str) -> int:
        if self.pattern is None:
            return -1
        match = self.pattern.match(text.encode("utf-8", "surrogateescape"))
        return self._numbers[match.lastindex - 1] if match is not None and match.lastindex else -1


def _ignores(tables: tuple[_Table, ...], name: str, path: RelPath, is_folder: bool) -> bool:
    for table in tables:
        verdict = table.verdict(name, path, is_folder)
        if verdict is not None:
            return verdict
    return False


def _tables(rules: Iterable[Rule]) -> tuple[_Table, ...]:
    """The rules of one directory, cut where `above` changes; the last rules first."""
    runs: list[list[Rule]] = []
    for rule in rules:
        if not runs or runs[-1][0].above != rule.above:
            runs.append([])
        runs[-1].append(rule)
    return tuple(_Table(run) for run in reversed(runs))


def _by_directory(rules: Iterable[Rule]) -> dict[RelPath, tuple[_Table, ...]]:
    gathered: dict[RelPath, list[Rule]] = {}
    for rule in rules:
        gathered.setdefault(rule.directory, []).append(rule)
    return {directory: _tables(found) for directory, found in gathered.items()}


def _rule_to_json(rule: Rule) -> list[Any]:
    return [rule.directory, rule.regex, rule.ignores, rule.folders_only, rule.name_only, rule.above]


def _rule_from_json(value: Any) -> Rule:
    if not isinstance(value, list) or [type(part) for part in value] != [str, str, bool, bool, bool, str]:
        raise ValueError(f"not an ignore rule: {value!r}"[:200])
    rule = Rule(*value)
    try:
        compiled = re.compile(rule.regex.encode("latin-1"))
    except (re.error, UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an ignore rule: {value!r}"[:200]) from error
    # Groups would shift the numbers of the other rules, flags would hold for them too.
    if compiled.groups or compiled.flags or not (rule.directory == ROOT or proper(rule.directory)):
        raise ValueError(f"not an ignore rule: {value!r}"[:200])
    return rule


def _paths_from_json(value: list[Any]) -> frozenset[RelPath]:
    for path in value:
        if not isinstance(path, str) or not (path == ROOT or proper(path)):
            raise ValueError(f"not a path: {path!r}"[:200])
    return frozenset(value)
