"""Where something may have changed below a folder, as a stream of hints. Travels (Python 3.8).

The kernel's inotify where there is one, else a look at every stamp now and then. It owns the inotify
descriptor. Hints may be too many, never too few: what is not certain becomes a hint of the root.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable
from typing import Any

from devsync.core.ignore import Folder, Rules
from devsync.core.snapshot import ROOT, RelPath
from devsync.replica.digests import Signature, signature
from devsync.replica.walk import FOLDER

GATHER = 0.01  # seconds in which events become one message
POLL = 2.0  # seconds between two looks where there is no inotify

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
_OVERFLOW, _IGNORED, _IS_FOLDER = 0x4000, 0x8000, 0x40000000
_ONLY_FOLDERS, _NO_LINKS, _NOT_UNLINKED = 0x1000000, 0x2000000, 0x4000000
_EVENTS = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF
)
_MASK = _EVENTS | _ONLY_FOLDERS | _NO_LINKS | _NOT_UNLINKED
_HEAD = struct.Struct("iIII")

_libc = ctypes.CDLL(None, use_errno=True)


class Blind(Exception):
    """inotify is not there, or its limits are reached; the text says which."""


def watch(root: str, rules: Rules, wake: int, send: Callable[[Any], None]) -> None:
    """Send {"hints": [path, ...]} until something can be read from the descriptor `wake`.

    The first message is {"watching": "inotify" or "polling", "why": text}; what changes after it is hinted.
    """
    try:
        watcher = Watcher(root, rules)
    except Blind as error:
        poll(root, rules, wake, send, str(error))
        return
    try:
        send({"watching": "inotify", "why": ""})
        while True:
            ready, _, _ = select.select([wake, watcher.descriptor], [], [])
            if wake in ready:
                return
            time.sleep(GATHER)
            hints = watcher.read()
            if hints:
                send({"hints": sorted(hints)})
    except Blind as error:
        poll(root, rules, wake, send, str(error))
    finally:
        watcher.close()


class Watcher:
    """A watch on every folder that the rules let one enter. Blind if that cannot be had."""

    def __init__(self, root: str, rules: Rules) -> None:
        if not hasattr(_libc, "inotify_init1"):
            raise Blind("this system has no inotify")
        self._root = root
        self._rules = rules
        self._paths: dict[int, RelPath] = {}
        self._watches: dict[RelPath, int] = {}
        self.descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise Blind(f"no inotify instance to be had: {os.strerror(ctypes.get_errno())}")
        try:
            self._add(rules.top())
        except Blind:
            self.close()
            raise

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)

    def read(self) -> set[RelPath]:
        """The hints that have gathered; none if nothing happened."""
        hints: set[RelPath] = set()
        while True:
            try:
                data = os.read(self.descriptor, 1 << 18)
            except BlockingIOError:
                return hints
            at = 0
            while at < len(data):
                watched, mask, _, length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                name = os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length
                self._event(watched, mask, name, hints)

    def _event(self, watched: int, mask: int, name: str, hints: set[RelPath]) -> None:
        if mask & _OVERFLOW:
            hints.add(ROOT)
            self._forget(ROOT)
            self._add(self._rules.top())
            return
        above = self._paths.get(watched)
        if above is None:
            return
        if mask & _IGNORED:
            del self._paths[watched]
            if self._watches.get(above) == watched:
                del self._watches[above]
            return
        folder = self._rules.folder(above)
        if not name:
            if above == ROOT and mask & (_DELETE_SELF | _MOVE_SELF):
                hints.add(ROOT)
        elif folder is not None and mask & _IS_FOLDER:
            self._folder_event(folder.enter(name), mask, hints)
        elif folder is not None and folder.keeps(name):
            hints.add(f"{above}/{name}" if above else name)

    def _folder_event(self, below: Folder | None, mask: int, hints: set[RelPath]) -> None:
        if below is None:
            return
        path = below.path
        if mask & _MOVED_FROM:
            self._forget(path)
        if mask & (_CREATE | _MOVED_TO):
            self._add(below)  # first the watch, then the hint: nothing falls between
        if mask & (_CREATE | _MOVED_TO | _MOVED_FROM | _DELETE | _ATTRIB):
            hints.add(path)

    def _add(self, folder: Folder) -> None:
        todo = [folder]
        while todo:
            folder = todo.pop()
            full = os.path.join(self._root, folder.path)
            watched = _libc.inotify_add_watch(
                self.descriptor, os.fsencode(full), _MASK & ~(0 if folder.path else _NO_LINKS)
            )
            if watched < 0:
                if ctypes.get_errno() in (
                    2,
                    13,
                    20,
                ):  # gone, forbidden, or no folder any more: the look tells
                    continue
                raise Blind(f"no more watches to be had: {os.strerror(ctypes.get_errno())}")
            self._paths[watched] = folder.path
            self._watches[folder.path] = watched
            todo.extend(_subfolders(full, folder))

    def _forget(self, path: RelPath) -> None:
        """Take the watches off a folder that was moved away, and off all below it."""
        gone = [way for way in self._watches if not path or way == path or way.startswith(path + "/")]
        for way in gone:
            watched = self._watches.pop(way)
            self._paths.pop(watched, None)
            _libc.inotify_rm_watch(self.descriptor, watched)


def _subfolders(full: str, folder: Folder) -> list[Folder]:
    try:
        with os.scandir(full) as listing:
            names = [entry.name for entry in listing if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [below for below in map(folder.enter, names) if below is not None]


def poll(root: str, rules: Rules, wake: int, send: Callable[[Any], None], why: str) -> None:
    """As `watch`, by looking at every stamp again and again."""
    before = _stamps(root, rules)
    send({"watching": "polling", "why": why})
    while True:
        ready, _, _ = select.select([wake], [], [], POLL)
        if ready:
            return
        now = _stamps(root, rules)
        changed = {path for path in now.keys() | before.keys() if now.get(path) != before.get(path)}
        before = now
        if changed:
            send({"hints": sorted(changed)})


def _stamps(root: str, rules: Rules) -> dict[RelPath, Signature]:
    found: dict[RelPath, Signature] = {}
    todo = [rules.top()]
    while todo:
        folder = todo.pop()
        try:
            handle = os.open(
                os.path.join(root, folder.path), FOLDER if folder.path else FOLDER & ~os.O_NOFOLLOW
            )
        except OSError:
            continue
        try:
            for name in os.listdir(handle):
                info = os.stat(name, dir_fd=handle, follow_symlinks=False)
                below = folder.enter(name) if info.st_mode & 0o170000 == 0o040000 else None
                if below is not None:
                    todo.append(below)
                elif folder.keeps(name):
                    found[f"{folder.path}/{name}" if folder.path else name] = signature(info)
        except OSError:
            found[folder.path] = (0, time.time_ns(), 0, 0)  # unknown: a hint each time
        finally:
            os.close(handle)
    return found
