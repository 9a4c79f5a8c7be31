"""Looking at a folder of a machine by SFTP alone: listings, a whole level at a time, and contents.

SFTP tells whole seconds and neither inode nor ctime. So a digest is remembered only for a file that was
already older than the clock's grain when it was read, by the machine's own clock, and a folder whose
stamp changed while it was listed is listed again.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from devsync.core.ignore import Folder, Rules
from devsync.core.snapshot import (
    ROOT,
    WRITING,
    Digest,
    File,
    Leaf,
    Link,
    RelPath,
    Snapshot,
    parents,
    proper,
    within,
)
from devsync.ports import Attributes, Halted, Pending, Sftp
from devsync.replica.digests import special
from devsync.replica.tree import MAX_DEPTH, OTHERS
from devsync.replica.walk import ANOTHER_PROJECT, HOME, MARKER, link_refusal, told

T = TypeVar("T")

GRAIN = 2
"""Seconds: a stamp this young may stand for two contents."""
AHEAD_BYTES = 16 << 20
AHEAD_FILES = 256
TRIES = 3

Found = Leaf | str | None
"""What is at a path: a leaf, nothing, or why it is neither."""
FOLDER = "a folder is there"


@dataclass(frozen=True)
class _Known:
    size: int
    mtime: int
    digest: Digest


@dataclass
class _Seen:
    """What a scan has found."""

    leaves: dict[RelPath, Leaf] = field(default_factory=dict)
    problems: dict[RelPath, str] = field(default_factory=dict)
    skipped: dict[RelPath, str] = field(default_factory=dict)
    private: set[RelPath] = field(default_factory=set)
    files: dict[RelPath, Attributes] = field(default_factory=dict)
    links: list[RelPath] = field(default_factory=list)


class SftpLook:
    """Eyes on one folder. One owner, with the SFTP client that it is given."""

    def __init__(self, sftp: Sftp, root: bytes) -> None:
        self._sftp = sftp
        self._root = root
        self._known: dict[RelPath, _Known] = {}
        self.usual_mode = 0o644
        """Of a file that is made there."""

    def path(self, path: RelPath) -> bytes:
        """The path as the server has it."""
        return self._root + b"/" + path.encode("utf-8", "surrogateescape") if path else self._root

    # ------------------------------------------------------------ many paths

    def scan(self, rules: Rules, scope: Collection[RelPath] | None) -> Snapshot:
        """See `ports.Replica.scan`."""
        top = self.check_root()
        seen = _Seen()
        everything = scope is None or ROOT in scope
        level = [(rules.top(), top)] if everything else self._begin(rules, scope or (), seen)
        while level:
            level = self._descend(rules, level, seen)
        self._read_links(seen)
        self._read_files(seen)
        if everything and not seen.problems:
            self._known = {path: known for path, known in self._known.items() if path in seen.leaves}
        return Snapshot(seen.leaves, seen.problems, seen.skipped, seen.private)

    def check_root(self) -> Attributes:
        """The root folder; Halted if it is gone."""
        try:
            found = self._sftp.lstat(self._root).result()
        except FileNotFoundError:
            found = Attributes()
        if not stat.S_ISDIR(found.mode):
            raise Halted(
                f"the folder on the machine is gone: {os.fsdecode(self._root)}",
                hint="bring it back, or start again from an empty folder",
            )
        return found

    def _begin(
        self, rules: Rules, scope: Collection[RelPath], seen: _Seen
    ) -> list[tuple[Folder, Attributes]]:
        """Look at the paths of `scope` themselves; the folders among them."""
        chosen = [path for path in scope if not within(path.rpartition("/")[0] or "/", set(scope))]
        for path in chosen:
            if not proper(path):
                seen.problems[path] = "not a path that devsync mirrors"
        mirrored = [path for path in chosen if path not in seen.problems]
        obstacles = self.obstacles(mirrored)
        level = []
        for path, entry in self.attributes(mirrored).items():
            above = rules.folder(path.rpartition("/")[0])
            obstacle = obstacles.get(path)
            if above is None or (obstacle is not None and obstacle[0] in ("missing", "no folder")):
                continue
            if obstacle is not None or isinstance(entry, OSError):
                seen.problems[path] = obstacle[1] if obstacle else _unreadable(entry)
            elif entry is not None:
                level += self._sort_in(above, path.rpartition("/")[2], entry, seen)
        return level

    def _descend(
        self, rules: Rules, level: Sequence[tuple[Folder, Attributes]], seen: _Seen
    ) -> list[tuple[Folder, Attributes]]:
        """List every folder of a level; the next level."""
        below = []
        listings = self._list({folder.path: entry for folder, entry in level})
        for folder, _ in level:
            entries = listings[folder.path]
            if isinstance(entries, str):
                if entries:
                    seen.problems[folder.path] = entries
                continue
            names = {name.decode("utf-8", "surrogateescape"): entry for name, entry in entries.items()}
            if folder.path and HOME in names and self._is_project(folder.path):
                seen.problems[folder.path] = ANOTHER_PROJECT
            elif not rules.foreign(folder.path, names.keys()):
                for name, entry in names.items():
                    below += self._sort_in(folder, name, entry, seen)
        return below

    def _is_project(self, folder: RelPath) -> bool:
        marker = f"{folder}/{HOME}/{MARKER}"
        return self.attributes([marker])[marker] is not None

    def _sort_in(
        self, folder: Folder, name: str, entry: Attributes, seen: _Seen
    ) -> list[tuple[Folder, Attributes]]:
        path = f"{folder.path}/{name}" if folder.path else name
        if stat.S_ISDIR(entry.mode):
            below = folder.enter(name)
            if below is not None and path.count("/") >= MAX_DEPTH:
                seen.problems[path] = f"more than {MAX_DEPTH} folders deep: not looked into"
            elif below is not None:
                return [(below, entry)]
        elif folder.keeps(name):
            if stat.S_ISREG(entry.mode):
                seen.files[path] = entry
                if self.usual_mode & OTHERS and not entry.mode & OTHERS:
                    seen.private.add(path)
            elif stat.S_ISLNK(entry.mode):
                seen.links.append(path)
            else:
                seen.skipped[path] = special(entry.mode)
        return []

    def _list(self, folders: Mapping[RelPath, Attributes]) -> dict[RelPath, Mapping[bytes, Attributes] | str]:
        """The entries of each folder; a text says why they are unknown, an empty one that it is gone.

        A folder that is removed while it is listed ends its listing early and says nothing: so it is
        looked at afterwards, and listed again if its stamp is another one.
        """
        found: dict[RelPath, Mapping[bytes, Attributes] | str] = {}
        before: dict[RelPath, Attributes] = dict(folders)
        for _ in range(TRIES):
            listings = settle({path: self._sftp.list_folder(self.path(path)) for path in before})
            afterwards = self.attributes(before)
            unsettled = {}
            for path, listing in listings.items():
                after = afterwards[path]
                if isinstance(listing, OSError) or isinstance(after, OSError):
                    error = listing if isinstance(listing, OSError) else after
                    found[path] = _unreadable(error)
                elif after is None or not stat.S_ISDIR(after.mode):
                    found[path] = "vanished while it was looked at"
                elif (after.mtime, after.mode) != (before[path].mtime, before[path].mode):
                    found[path] = "changed each time it was looked at"
                    unsettled[path] = after
                else:
                    found[path] = listing
            before = unsettled
        return found

    # ------------------------------------------------------------ contents

    def _read_links(self, seen: _Seen) -> None:
        for path, target in settle({p: self._sftp.readlink(self.path(p)) for p in seen.links}).items():
            if isinstance(target, FileNotFoundError):
                continue
            if isinstance(target, OSError):
                seen.problems[path] = _unreadable(target)
                continue
            text = target.decode("utf-8", "surrogateescape")
            refused = link_refusal(path, text)
            if refused:
                seen.problems[path] = refused
            else:
                seen.leaves[path] = Link(text)

    def _read_files(self, seen: _Seen) -> None:
        for path, found in self.files(seen.files, learn=True).items():
            if isinstance(found, str):
                seen.problems[path] = found
            elif found is not None:
                seen.leaves[path] = found

    def files(self, entries: Mapping[RelPath, Attributes], *, learn: bool) -> dict[RelPath, Found]:
        """What these regular files hold, read where it is not known; `learn` for the next time."""
        found: dict[RelPath, Found] = {}
        unknown = {}
        for path, entry in entries.items():
            known = self._known.get(path)
            if known is not None and (known.size, known.mtime) == (entry.size, entry.mtime):
                found[path] = File(known.digest, entry.size, bool(entry.mode & stat.S_IXUSR))
            else:
                unknown[path] = entry
        if not unknown:
            return found
        clock = self.clock() if learn else 0
        digests = self.digests((self.path(path), entry.size) for path, entry in unknown.items())
        read = dict(zip(unknown, digests, strict=True))
        for path, after in self.attributes(unknown).items():
            found[path] = self._judge(path, unknown[path], read[path], after, clock)
        return {path: found[path] for path in entries}

    def _judge(
        self,
        path: RelPath,
        before: Attributes,
        digest: Digest | OSError,
        after: Attributes | OSError | None,
        clock: int,
    ) -> Found:
        if after is None or isinstance(digest, FileNotFoundError):
            return None
        if isinstance(digest, OSError) or isinstance(after, OSError):
            return _unreadable(digest if isinstance(digest, OSError) else after)
        if (before.size, before.mtime, before.mode) != (after.size, after.mtime, after.mode):
            return WRITING
        if before.mtime < clock - GRAIN:
            self._known[path] = _Known(before.size, before.mtime, digest)
        else:
            self._known.pop(path, None)
        return File(digest, before.size, bool(before.mode & stat.S_IXUSR))

    def clock(self) -> int:
        """The machine's time before a look, by a file that is made there; long ago if none can be made."""
        probe = self.path(f"{HOME}/clock")
        self._sftp.remove(probe)
        try:
            self._sftp.write_file(probe, [b"tick"], 0o600).result()
            return self._sftp.lstat(probe).result().mtime
        except OSError:
            return 0

    def digests(self, files: Iterable[tuple[bytes, int]]) -> Iterator[Digest | OSError]:
        """The digests of contents by path and expected size, read ahead of each other."""
        yield from ahead(files, lambda file: (self._sftp.read_file(*file), file[1]), _digest)

    # ------------------------------------------------------------ single facts, many at a time

    def attributes(self, paths: Iterable[RelPath]) -> dict[RelPath, Attributes | OSError | None]:
        """What each path is; None if there is nothing."""
        found: dict[RelPath, Attributes | OSError | None] = {}
        for path, entry in settle({path: self._sftp.lstat(self.path(path)) for path in paths}).items():
            found[path] = None if isinstance(entry, FileNotFoundError) else entry
        return found

    def obstacles(self, paths: Iterable[RelPath]) -> dict[RelPath, tuple[str, str]]:
        """Why paths cannot be reached by folders alone: "missing", "no folder" or "unknown"; and details."""
        wanted = list(paths)
        above = {folder for path in wanted for folder in parents(path)}
        folders = self.attributes(sorted(above))
        found: dict[RelPath, tuple[str, str]] = {}
        for path in wanted:
            for folder in reversed(list(parents(path))):
                entry = folders[folder]
                if isinstance(entry, OSError):
                    found[path] = ("unknown", _unreadable(entry))
                elif entry is None:
                    found[path] = ("missing", folder)
                elif not stat.S_ISDIR(entry.mode):
                    found[path] = ("no folder", f"{folder!r} is no folder here (links are not followed)")
                else:
                    continue
                break
        return found

    def look(self, paths: Iterable[RelPath]) -> dict[RelPath, Found]:
        """What is at each path now; the ways to them have been checked."""
        entries = self.attributes(paths)
        regular = {p: e for p, e in entries.items() if isinstance(e, Attributes) and stat.S_ISREG(e.mode)}
        links = [p for p, e in entries.items() if isinstance(e, Attributes) and stat.S_ISLNK(e.mode)]
        found: dict[RelPath, Found] = {}
        for path, entry in entries.items():
            if isinstance(entry, OSError):
                found[path] = _unreadable(entry)
            elif entry is None:
                found[path] = None
            else:
                found[path] = FOLDER if stat.S_ISDIR(entry.mode) else f"a {special(entry.mode)} is there"
        found.update(self.files(regular, learn=False))
        for path, target in settle({path: self._sftp.readlink(self.path(path)) for path in links}).items():
            text = _unreadable(target) if isinstance(target, OSError) else None
            found[path] = text or Link(target.decode("utf-8", "surrogateescape"))  # type: ignore[union-attr]
        return found

    def forget(self, path: RelPath) -> None:
        """What was known of `path` is to be read again."""
        self._known.pop(path, None)


def staging_path(digest: Digest) -> RelPath:
    """Where a content arrives."""
    return f"{HOME}/tmp/{digest}"  # noqa: S108  below the project's root


def settle(asked: Mapping[RelPath, Pending[T]]) -> dict[RelPath, T | OSError]:
    """Every answer, or the refusal in its place."""
    found: dict[RelPath, T | OSError] = {}
    for path, pending in asked.items():
        try:
            found[path] = pending.result()
        except OSError as error:
            found[path] = error
    return found


S = TypeVar("S")


def ahead(
    files: Iterable[S],
    ask: Callable[[S], tuple[Iterable[bytes], int]],
    take: Callable[[Iterable[bytes]], T],
) -> Iterator[T]:
    """Take each file's content in turn, while those that follow are on their way."""
    waiting: deque[tuple[Iterable[bytes], int]] = deque()
    size = 0
    for file in files:
        content = ask(file)
        waiting.append(content)
        size += content[1]
        while size > AHEAD_BYTES or len(waiting) > AHEAD_FILES:
            first, length = waiting.popleft()
            size -= length
            yield take(first)
    while waiting:
        yield take(waiting.popleft()[0])


def _digest(content: Iterable[bytes]) -> Digest | OSError:
    digest = hashlib.sha256()
    try:
        for chunk in content:
            digest.update(chunk)
    except OSError as error:
        return error
    return digest.hexdigest()


def _unreadable(error: object) -> str:
    return f"cannot be read: {told(error)}" if isinstance(error, OSError) else "cannot be read"
