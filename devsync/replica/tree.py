"""Look at one folder of a disk and change what is in it. Travels (Python 3.8).

A tree belongs to one thread. `step` is called with the name of each effect right before it, and with
the path: a place for tests to fail, to act or to die.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from devsync.core.ignore import Folder, Rules
from devsync.core.snapshot import (
    ROOT,
    Change,
    Leaf,
    Link,
    Outcome,
    RelPath,
    Snapshot,
    parents,
    proper,
    within,
)
from devsync.replica import owner, trash
from devsync.replica.commit import Commit, Step, no_step
from devsync.replica.digests import EMPTY_QUIET, QUIET, Busy, Digests, is_young, special
from devsync.replica.home import Begun, Home, read_digests, read_marker
from devsync.replica.walk import (
    ANOTHER_PROJECT,
    FOLDER,
    HOME,
    Blocked,
    RootGone,
    is_project,
    link_refusal,
    open_root,
    parent,
    told,
)

MAX_DEPTH = 256
"""Folders deeper than this are reported, not entered."""

OTHERS = 0o077
"""The bits of a mode that are not the owner's."""

TOO_DEEP = f"more than {MAX_DEPTH} folders deep: not looked into"


class Tree:
    """The project folder of one side. RootGone from every method when it is not there."""

    def __init__(self, root: str, digests: Digests | None = None, step: Step = no_step) -> None:
        self.root = root
        self.digests = digests if digests is not None else Digests()
        self._step = step
        self._begun = Begun()
        self.claimed: owner.Claim | None = None
        self._open_to_others = False
        """Whether files here are readable for others, so that one that is not says something."""
        self._undigested: set[RelPath] = set()
        """What was found by looks of late, and is not among the digests that are known."""

    def scan(self, rules: Rules, scope: Collection[RelPath] | None = None) -> Snapshot:
        """Look at the paths in `scope` and below them, or at everything."""
        self.beat()
        root = open_root(self.root)
        try:
            look = _Look(root, rules, self.digests, self._undigested, self._step)
            look.open_to_others = self._open_to_others
            if scope is None or ROOT in scope:
                look.folder(root, rules.top())
                look.doubt_what_is_gone()
                look.settle()
                self._undigested.clear()
                if not look.problems:
                    self.digests.forget_all_but(look.leaves)
            else:
                for path in _outermost(scope):
                    look.at(path)
                look.settle()
            self._undigested.update(path for path in look.leaves if path not in self.digests.known)
            return Snapshot(look.leaves, look.problems, look.skipped, look.private)
        finally:
            os.close(root)

    def commit(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make the changes, each only if its `old` is there; one outcome each, in order."""
        try:
            with self.owned() as home:
                trash.make_room(home, self.root)
                return Commit(home, self.digests, self._step).run(changes)
        except OSError as error:  # nothing can be written at all: a read-only or full disk
            return [Outcome(change.path, False, None, told(error)) for change in changes]

    def marker(self) -> dict[str, Any] | None:
        """The identity that was written here, or None. Asking makes nothing. ValueError if it is damaged."""
        root = open_root(self.root)
        try:
            return read_marker(root)
        finally:
            os.close(root)

    def recall_digests(self) -> None:
        """Know again what `keep_digests` has kept in `.devsync`."""
        root = open_root(self.root)
        try:
            self.digests = read_digests(root)
        finally:
            os.close(root)

    def keep_digests(self) -> None:
        """Keep what is known for the next start, if there is anything new."""
        changed, gone = self.digests.take_changes()
        if changed or gone:
            with self.home() as home:
                home.write_digests(self.digests)

    def restage(self, version: str) -> Leaf:
        """Stage the content of an old version, for a change to bring it back. Blocked if there is none."""
        with self.home() as home:
            return trash.restage(home, self.digests, version)

    def claim(self, who: str, name: str, take_over: bool) -> None:
        """Make the folder ours, then finish what a commit that died has left. Taken if that cannot be."""
        with self.home() as home, owner.locked(home):
            self.claimed = owner.take(home, who, name, take_over)
            self._open_to_others = bool(home.usual_mode() & OTHERS)
            trash.recover(home, self.digests)
            home.clear_staging()

    def beat(self) -> None:
        """Show that we live. Taken if the folder is not ours any more, RootGone if it is another one."""
        if self.claimed is None:
            return
        now = time.time()
        root = open_root(self.root)
        try:
            present = owner.read_claim(root)  # which makes nothing in a folder that is not ours
        finally:
            os.close(root)
        owner.check(present, self.claimed, now)
        if present is None or not present.is_fresh(now):
            try:
                with self.home() as home, owner.locked(home):
                    owner.renew(home, self.claimed)
            except OSError:
                pass  # a disk that cannot be written can still be looked at

    def release(self) -> None:
        """Let go of the folder, as far as that can be done."""
        claimed, self.claimed = self.claimed, None
        if claimed is not None:
            try:
                with self.home() as home, owner.locked(home):
                    owner.release(home, claimed)
            except (OSError, RootGone, owner.Taken):
                pass  # then it runs out by itself

    @contextmanager
    def owned(self) -> Iterator[Home]:
        """`home`, for a change: locked, and ours from beginning to end; Taken if it is not."""
        self.beat()
        with self.home() as home, owner.locked(home):
            owner.check(owner.read_claim(home.root), self.claimed, time.time())
            yield home
            if self.claimed is not None:
                owner.renew(home, self.claimed)  # it may have taken long

    @contextmanager
    def home(self) -> Iterator[Home]:
        """The `.devsync` folder; made if it is missing."""
        root = open_root(self.root)
        try:
            with Home(root, self._step, self._begun) as home:
                yield home
        finally:
            os.close(root)


def _outermost(scope: Collection[RelPath]) -> Iterator[RelPath]:
    chosen = set(scope)
    for path in sorted(chosen):
        above, _, _ = path.rpartition("/")
        if not above or not within(above, chosen):
            yield path


class _Look:
    """One scan: fills `leaves`, `problems`, `skipped` and `private`."""

    def __init__(
        self, root: int, rules: Rules, digests: Digests, undigested: Collection[RelPath], step: Step
    ) -> None:
        self.leaves: dict[RelPath, Leaf] = {}
        self.problems: dict[RelPath, str] = {}
        self.skipped: dict[RelPath, str] = {}
        self.private: set[RelPath] = set()
        self.open_to_others = False
        self._root = root
        self._rules = rules
        self._digests = digests
        self._undigested = undigested
        self._step = step
        self._young: list[RelPath] = []
        self._doubted: set[RelPath] = set()  # what was there before, and is waited for once
        self._until: dict[RelPath, int] = {}  # until when each of them is waited for, in ns

    def settle(self) -> None:
        """Look at what was changed a moment ago, now that it had time to be written to its end.

        Editors empty a file and write it anew, or take it away and put a new one there; what is between
        the two is nobody's content, and nobody's deletion.
        """
        while self._young:
            time.sleep(QUIET / 1e9)
            young, self._young = self._young, []
            for path in young:
                if path not in self._doubted or self._shows(path):
                    self.at(path)

    def _shows(self, path: RelPath) -> bool:
        """Whether there may be something by now: one call of the system, for git deletes by thousands."""
        try:
            os.stat(path, dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except (OSError, ValueError):
            pass
        return True

    def doubt_what_is_gone(self) -> None:
        """What this look at everything misses is looked at again after the quiet time."""
        gone = (self._digests.known.keys() | self._undigested) - self.leaves.keys() - self._until.keys()
        for path in gone:
            if not within(path, self.problems):
                self._doubt(path)

    def _doubt(self, path: RelPath) -> None:
        if path not in self._doubted and (path in self._undigested or path in self._digests.known):
            self._doubted.add(path)
            self._young.append(path)

    def at(self, path: RelPath) -> None:
        """Look at one path and below it. What an ignored folder holds, or no folder, is not there."""
        if not proper(path):
            return
        above, _, name = path.rpartition("/")
        rules = self._rules.folder(above)
        if rules is None:
            return
        if path.count("/") > MAX_DEPTH:
            self.problems["/".join(path.split("/")[: MAX_DEPTH + 1])] = (
                TOO_DEEP  # as a look from the top has it
            )
            return
        if any(is_project(self._root, folder) for folder in parents(path)):
            self.problems[path] = ANOTHER_PROJECT
            return
        try:
            with parent(self._root, path) as (folder, _):
                try:
                    info = os.stat(name, dir_fd=folder, follow_symlinks=False)
                except FileNotFoundError:
                    self._doubt(path)
                    return
                if stat.S_ISDIR(info.st_mode):
                    self._enter(folder, name, path, rules.enter(name))
                elif rules.keeps(name):
                    self._leaf(folder, name, path, info)
        except (FileNotFoundError, Blocked):
            pass
        except (OSError, UnicodeEncodeError) as error:
            self.problems[path] = _unreadable(error)

    def folder(self, folder: int, rules: Folder) -> None:
        """Look at everything in one folder. A listing that fails makes all of it unknown."""
        prefix = rules.path + "/" if rules.path else ""
        below = []
        try:
            self._step("list", rules.path)
            with os.scandir(folder) as listing:
                entries = list(listing)
            names: set[str] = {entry.name for entry in entries}
            if self._rules.foreign(rules.path, names):
                return
            if rules.path and HOME in names and is_project(self._root, rules.path):
                self.problems[rules.path] = ANOTHER_PROJECT
                return
            for entry in entries:
                name = entry.name
                if entry.is_dir(follow_symlinks=False):
                    below.append(name)
                elif rules.keeps(name):
                    try:
                        info = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # gone since the listing
                    self._leaf(folder, name, prefix + name, info)
            if os.fstat(folder).st_nlink == 0:
                # A folder that is removed while it is listed ends its listing early and says nothing.
                self.problems[rules.path] = "vanished while it was looked at"
        except OSError as error:
            self.problems[rules.path] = _unreadable(error)
            return
        for name in below:
            self._enter(folder, name, prefix + name, rules.enter(name))

    def _enter(self, folder: int, name: str, path: RelPath, rules: Folder | None) -> None:
        if rules is None:
            return
        if path.count("/") >= MAX_DEPTH:
            self.problems[path] = TOO_DEEP
            return
        try:
            below = os.open(name, FOLDER, dir_fd=folder)
        except FileNotFoundError:
            return
        except OSError as error:
            self.problems[path] = _unreadable(error)
            return
        try:
            self.folder(below, rules)
        finally:
            os.close(below)

    def _leaf(self, folder: int, name: str, path: RelPath, info: os.stat_result) -> None:
        mode = info.st_mode
        try:
            if stat.S_ISREG(mode) and is_young(info):
                patience = QUIET if info.st_size else EMPTY_QUIET
                if time.monotonic_ns() >= self._until.setdefault(path, time.monotonic_ns() + patience):
                    raise Busy
                self._young.append(path)
            elif stat.S_ISREG(mode):
                self.leaves[self._digests.held(path)] = self._digests.file(folder, name, path, info)
                if self.open_to_others and not mode & OTHERS:
                    self.private.add(path)
            elif stat.S_ISLNK(mode):
                target = os.readlink(name, dir_fd=folder)
                refused = link_refusal(path, target)
                if refused:
                    self.problems[path] = refused
                else:
                    self.leaves[path] = Link(target)
            else:
                self.skipped[path] = special(mode)
        except Busy as error:
            self.problems[path] = str(error)
        except FileNotFoundError:
            pass  # gone since it was listed
        except OSError as error:
            self.problems[path] = _unreadable(error)


def _unreadable(error: Exception) -> str:
    if isinstance(error, OSError):
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return "changed while it was looked at"
        return f"cannot be read: {told(error)}"
    return "this name cannot exist here"


__all__ = ["MAX_DEPTH", "RootGone", "Tree"]
