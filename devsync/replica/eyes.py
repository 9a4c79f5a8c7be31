"""The two ways to see changes below a folder. The only importer of watchdog.

`Folders` (Linux) holds an inotify watch for each mirrored folder, `Tree` watches everything and drops
what is ignored. Each owns watchdog's threads, which do nothing but hand on what they are told: an
exception in them would end all watching, unnoticed.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from watchdog.events import (
    EVENT_TYPE_CLOSED_NO_WRITE,
    EVENT_TYPE_OPENED,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from devsync.core.ignore import Folder, Rules
from devsync.core.snapshot import ROOT, RelPath
from devsync.ports import NeedsUser, Unavailable

if sys.platform == "linux":
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, InotifyFD, Mask, WatchDescriptor
    from watchdog.observers.inotify_c import InotifyConstants as In

COOKIES = ".devsync/cookies"
"""Files that are made here come by in the order of events."""

GIT_INPUTS = frozenset({".git", ".git/index", ".git/info/exclude", ".git/config"})
"""What git writes when its verdict may have changed, and the folder itself."""

Put = Callable[[object], None]
"""Hands an item to the watcher. Called from any thread; never waits, never raises."""


class Overflow:
    """An item: events were lost."""


class Eyes(Protocol):
    """One way of watching. Open from the start; every call comes from one thread."""

    degraded: str

    def alive(self) -> bool: ...

    def follow(self, rules: Rules) -> set[RelPath]:
        """Watch what these rules let through; the folders that are watched now and were not before."""

    def see(self, item: object) -> Iterable[RelPath]:
        """What an item tells of: mirrored paths, cookies, inputs of git. Unavailable: the root is gone."""

    def watch_aside(self) -> None:
        """Make sure that cookies and the inputs of git are watched."""

    def close(self) -> None: ...


def open_eyes(root: Path, put: Put) -> Eyes:
    """The best way of watching that this system has. NeedsUser if it has no watch left."""
    eyes: Eyes = Folders(root, put) if sys.platform == "linux" else Tree(root, put)
    return eyes


if sys.platform == "linux":
    _MASK = Mask(
        In.IN_MODIFY
        | In.IN_ATTRIB
        | In.IN_CLOSE_WRITE
        | In.IN_MOVE
        | In.IN_CREATE
        | In.IN_DELETE
        | In.IN_DELETE_SELF
        | In.IN_MOVE_SELF
        | In.IN_ONLYDIR
        | In.IN_DONT_FOLLOW
        | In.IN_EXCL_UNLINK
    )

    class Folders:
        """One inotify watch for each folder that is mirrored, and none for any other."""

        def __init__(self, root: Path, put: Put) -> None:
            self.degraded = ""
            self.watched: dict[WatchDescriptor, tuple[Folder, CallbackId]] = {}
            self._root, self._put = root, put
            self._ids = itertools.count()
            self._rules = Rules()
            self._aside: dict[WatchDescriptor, RelPath] = {}  # folders that are not mirrored
            try:
                self._inotify = InotifyFD()
            except OSError as error:
                hint = "raise fs.inotify.max_user_instances, or close programs that watch files"
                raise NeedsUser(f"cannot watch the project folder: {error.strerror}", hint=hint) from error
            self._inotify.start()
            self.watch_aside()

        # -------------------------------------------------- called by watchdog

        def on_event(self, event: InotifyEvent) -> None:
            self._put(event)

        def on_watch_deleted(self, wd: WatchDescriptor) -> None:
            self._put(wd)

        def on_queue_overflow(self) -> None:
            self._put(Overflow())

        # -------------------------------------------------- called by the watcher

        def alive(self) -> bool:
            return self._inotify.is_alive()

        def follow(self, rules: Rules) -> set[RelPath]:
            before = {folder.path for folder, _ in self.watched.values()}
            self._rules, self.degraded = rules, ""
            self.watch_aside()
            covered = self._cover(rules.top())
            for wd in [wd for wd in self.watched if wd not in covered]:
                self._drop(wd)
            return {folder.path for folder, _ in self.watched.values()} - before

        def see(self, item: object) -> Iterable[RelPath]:
            if isinstance(item, InotifyEvent):
                return self._event(item)
            if isinstance(item, int):
                return self._gone(WatchDescriptor(item))
            return ()

        def watch_aside(self) -> None:
            _make_cookies(self._root)
            for path in (COOKIES, ".git", ".git/info"):
                if path not in self._aside.values():
                    added = self._add(path)
                    if added is not None:
                        self._aside[added[0]] = path

        def close(self) -> None:
            self._inotify.stop()
            self._inotify.join(5.0)

        # -------------------------------------------------- events

        def _event(self, event: InotifyEvent) -> Iterable[RelPath]:
            aside = self._aside.get(event.wd)
            if aside is not None:
                beside = f"{aside}/{os.fsdecode(event.name)}"
                return (beside,) if aside == COOKIES or beside in GIT_INPUTS else ()
            if event.wd not in self.watched:
                return ()
            folder, _ = self.watched[event.wd]
            if not event.name:  # about the folder itself: the one above it tells the same
                if folder.path == ROOT and event.mask & (In.IN_MOVE_SELF | In.IN_DELETE_SELF | In.IN_UNMOUNT):
                    raise Unavailable(f"the project folder was moved or deleted: {self._root}")
                return ()
            name = os.fsdecode(event.name)
            path = f"{folder.path}/{name}" if folder.path else name
            if path == ".git":
                self.watch_aside()
                return (path,)
            if not event.mask & In.IN_ISDIR:
                return (path,) if folder.keeps(name) else ()
            below = folder.enter(name)
            if below is None:
                return ()
            if event.is_moved_from:
                self._forget(path)
            elif not event.is_delete:
                # The caller hints at the folder after it is watched, so what was born before is found.
                self._cover(below)
            return (path,)

        def _gone(self, wd: WatchDescriptor) -> Iterable[RelPath]:
            """The kernel has ended a watch, because its folder is gone."""
            folder, _ = self.watched.pop(wd, (None, None))
            if folder is not None and folder.path == ROOT:
                raise Unavailable(f"the project folder was deleted: {self._root}")
            self._aside.pop(wd, None)
            return ()

        # -------------------------------------------------- watches

        def _cover(self, top: Folder) -> set[WatchDescriptor]:
            """Watch `top` and what is entered below it."""
            covered: set[WatchDescriptor] = set()
            waiting = [top]
            while waiting:
                folder = waiting.pop()
                wd = self._watch(folder)
                if wd is None:
                    continue
                # RACE: watched first and listed then, so that a folder born in between is seen either way.
                below = self._below(folder)
                if below is None:
                    self._drop(wd)
                    continue
                covered.add(wd)
                waiting += below
            return covered

        def _below(self, folder: Folder) -> list[Folder] | None:
            """The folders to go on with; None if this one is another repository."""
            try:
                with os.scandir(self._root / folder.path) as listing:
                    entries = {entry.name: entry.is_dir(follow_symlinks=False) for entry in listing}
            except OSError:
                return []  # gone again, or closed to us: the look at the files says so
            if self._rules.foreign(folder.path, entries):
                return None
            entered = (folder.enter(name) for name, is_folder in entries.items() if is_folder)
            return [each for each in entered if each is not None]

        def _watch(self, folder: Folder) -> WatchDescriptor | None:
            added = self._add(folder.path)
            if added is None:
                return None
            wd, callback = added
            before = self.watched.get(wd)
            self.watched[wd] = folder, callback
            if before is not None:  # the same folder, perhaps under another name
                self._inotify.remove_callbacks([(wd, before[1])])
            return wd

        def _add(self, path: RelPath) -> tuple[WatchDescriptor, CallbackId] | None:
            callback = CallbackId(next(self._ids))
            try:
                wd = self._inotify.add_callback(os.fsencode(self._root / path), _MASK, self, callback)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.degraded = (
                        "not every folder is watched: the limit fs.inotify.max_user_watches is reached; "
                        "changes there are found by the regular look at everything"
                    )
                return None
            return (wd, callback) if wd >= 0 else None  # watchdog lets "permission denied" pass

        def _drop(self, wd: WatchDescriptor) -> None:
            _, callback = self.watched.pop(wd)
            self._inotify.remove_callbacks([(wd, callback)])

        def _forget(self, path: RelPath) -> None:
            """Stop watching a folder that was moved away; where it went, it is watched anew."""
            start = path + "/"
            for wd, (folder, _) in list(self.watched.items()):
                if folder.path == path or folder.path.startswith(start):
                    self._drop(wd)


class Tree(FileSystemEventHandler):
    """watchdog's own recursive watch, where there is no inotify: sees ignored folders too, and drops them."""

    def __init__(self, root: Path, put: Put) -> None:
        self.degraded = ""
        self._root, self._put = root, put
        self._rules = Rules()
        _make_cookies(root)
        self._observer = Observer()
        self._observer.schedule(self, os.fspath(root), recursive=True)
        self._observer.start()

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type not in (EVENT_TYPE_OPENED, EVENT_TYPE_CLOSED_NO_WRITE):
            self._put(event)

    def alive(self) -> bool:
        return self._observer.is_alive() and all(emitter.is_alive() for emitter in self._observer.emitters)

    def follow(self, rules: Rules) -> set[RelPath]:
        self._rules = rules
        return {ROOT}

    def see(self, item: object) -> Iterable[RelPath]:
        if not isinstance(item, FileSystemEvent) or (item.is_directory and item.event_type == "modified"):
            return []
        ends = (
            os.path.relpath(os.fsdecode(end), self._root) for end in (item.src_path, item.dest_path) if end
        )
        return [end for end in ends if self._counts(end, item.is_directory)]

    def watch_aside(self) -> None:
        _make_cookies(self._root)

    def close(self) -> None:
        self._observer.stop()
        self._observer.join(5.0)

    def _counts(self, path: RelPath, is_folder: bool) -> bool:
        return path in GIT_INPUTS or path.startswith(COOKIES + "/") or self._rules.visible(path, is_folder)


def _make_cookies(root: Path) -> None:
    # Step by step: a root that is gone must not come back, empty, through us.
    for folder in (COOKIES.partition("/")[0], COOKIES):
        with suppress(OSError):
            os.mkdir(root / folder, 0o700)
