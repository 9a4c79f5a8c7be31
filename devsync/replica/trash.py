"""Old versions of one side: kept by rename, listed, brought back, thrown away. Travels (Python 3.8).

Each commit that replaces or deletes has a folder of its own in the trash:

    .devsync/trash/BATCH/index.json    when, and for each slot: path, old leaf, new leaf
    .devsync/trash/BATCH/3             what was at the path of slot 3
    .devsync/trash/BATCH/3.recovered   as above, but not what was expected there: somebody's unseen edit

The index is called `open.json` until the commit is through, and is written before its first effect, so
a version is under its record from the moment it leaves its path. An exchange swaps a path with its
slot: until then the slot holds our own new content, which `recover` tells by its digest.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from typing import Any

from devsync.core.snapshot import Change, File, Leaf, RelPath, from_json, to_json
from devsync.core.version import Version
from devsync.replica.atomic import exchange, rename_new
from devsync.replica.digests import BLOCK, Digests, IsFolder, open_file
from devsync.replica.home import Home, discard, write_all
from devsync.replica.walk import FOLDER, HOME, Blocked, parent

DAYS = 30
SIZE = 5 << 30
FOREVER = 36500.0  # days
EVERYTHING = 1 << 62
LOW_SPACE = 1 << 30
LOW_PART = 50
"""A disk with less than LOW_SPACE bytes free, and less than this part of it, is nearly full."""
OPEN = "open.json"
INDEX = "index.json"
RECOVERED = ".recovered"


class Batch:
    """The trash of one commit: a numbered slot for each of `changes`."""

    def __init__(self, home: Home, changes: list[Change], aside: bool) -> None:
        """`aside`: there is no exchange here, so an old version leaves before the new one arrives."""
        self._home = home
        now = time.time()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
        self.name = f"{stamp}-{int(now % 1 * 1e6):06}{os.urandom(4).hex()}"
        os.mkdir(self.name, 0o700, dir_fd=home.trash)
        self.folder = os.open(self.name, FOLDER, dir_fd=home.trash)
        entries = [[change.path, to_json(change.old), to_json(change.new)] for change in changes]
        index = json.dumps({"time": now, "aside": aside, "entries": entries})
        descriptor = os.open(
            OPEN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.folder
        )
        try:
            write_all(descriptor, index.encode("ascii"))
        finally:
            os.close(descriptor)

    def finish(self) -> None:
        """Every slot is what it is going to be."""
        _close_index(self._home.trash, self.name, self.folder)

    def close(self) -> None:
        """Give the handle back."""
        os.close(self.folder)


def recover(home: Home, digests: Digests) -> None:
    """Clean up after commits that died: what is ours goes, what is somebody's stays as a version."""
    for name in _batches(home):
        folder = os.open(name, FOLDER, dir_fd=home.trash)
        try:
            if OPEN not in os.listdir(folder):
                continue
            index = _index(folder, OPEN)
            for number, (path, old, new) in enumerate(index["entries"]):
                home.step("recover", path)
                if _is_ours(digests, folder, str(number), old, new):
                    discard(folder, str(number))
                else:
                    _put_back(home, digests, (folder, str(number)), (path, old, new), index["aside"])
            _close_index(home.trash, name, folder)
        finally:
            os.close(folder)


def _is_ours(digests: Digests, folder: int, slot: str, old: Any, new: Any) -> bool:
    """Whether the slot still holds the new content, which was to be exchanged."""
    found = _found(digests, folder, slot)
    # The executable bit is given right before the exchange, so it may not be there yet.
    return found is not None and new is not None and found[:3] == new[:3] and found != old


def _put_back(
    home: Home, digests: Digests, edit: tuple[int, str], entry: tuple[RelPath, Any, Any], aside: bool
) -> None:
    """An unseen edit, or an old version whose new one never came, returns to its path.

    Not if somebody has saved there since: then an edit stays here as a recovered version.
    """
    (folder, slot), (path, old, new) = edit, entry
    found = _found(digests, *edit)
    if found is None or (found == old and (new is None or not aside)):
        return
    try:
        with parent(home.root, path) as (above, name):
            try:
                rename_new(folder, slot, above, name)
            except FileExistsError:
                if found != old:
                    _swap_back(digests, edit, (above, name), new)
    except (OSError, Blocked):
        if found != old:
            os.rename(slot, slot + RECOVERED, src_dir_fd=folder, dst_dir_fd=folder)


def _swap_back(digests: Digests, edit: tuple[int, str], place: tuple[int, str], new: Any) -> None:
    """The edit came out by an exchange that was not undone: it goes back to where our content is.

    FileExistsError if something else is there.
    """
    if new is not None and _found(digests, *place) == new:
        exchange(*edit, *place)
        if _found(digests, *edit) == new:
            discard(*edit)
            return
        exchange(*edit, *place)  # RACE: saved since the look
    raise FileExistsError


def _found(digests: Digests, folder: int, slot: str) -> Any:
    try:
        return to_json(digests.look(folder, slot, f"{HOME}/{slot}"))
    except (IsFolder, Blocked):
        return "no leaf"


def versions(home: Home, digests: Digests) -> list[Version]:
    """Every old version that is kept, the oldest first."""
    found = []
    for batch in _batches(home):
        folder = os.open(batch, FOLDER, dir_fd=home.trash)
        try:
            index = _index(folder, OPEN if OPEN in os.listdir(folder) else INDEX)
            for slot in sorted(os.listdir(folder)):
                number, _, recovered = slot.partition(".")
                if not number.isdigit():
                    continue
                known = int(number) < len(index["entries"])
                unknown: list[Any] = ["", None, None]
                path, old, new = index["entries"][int(number)] if known else unknown
                leaf = from_json(old)
                if recovered or leaf is None:
                    try:
                        leaf = digests.look(folder, slot, f"{HOME}/trash/{batch}/{slot}")
                    except (IsFolder, Blocked):
                        leaf = None
                reason = "recovered" if recovered else "deleted" if new is None else "replaced"
                found.append(Version(f"{batch}/{slot}", path, leaf, float(index["time"]), reason))
        finally:
            os.close(folder)
    return found


def restage(home: Home, digests: Digests, version: str) -> Leaf:
    """Stage the content of an old version, so that a change can bring it back. Blocked if it is not there."""
    batch, _, slot = version.partition("/")
    if batch not in _batches(home) or not slot.split(".", 1)[0].isdigit() or "/" in slot:
        raise Blocked("there is no such version")
    folder = os.open(batch, FOLDER, dir_fd=home.trash)
    try:
        leaf = digests.look(folder, slot, f"{HOME}/trash/{version}")
        if isinstance(leaf, File):
            _copy(folder, slot, home.open_staging(leaf.digest))
    except IsFolder:
        raise Blocked("a folder was kept there: look into the trash yourself") from None
    finally:
        os.close(folder)
    if leaf is None:
        raise Blocked("there is no such version")
    return leaf


def prune(home: Home, root: str, days: float = DAYS, size: int = SIZE) -> int:
    """Throw away what is older than `days`, and the oldest beyond `size` bytes; how many.

    Where the disk is nearly full, the oldest go until it is no more, whatever `days` and `size` say.
    """
    batches = _batches(home)
    sizes = {name: _size(os.path.join(root, HOME, "trash", name)) for name in batches}
    total = sum(sizes.values())
    missing = shortage(home)
    if missing:
        home.clear_parts()
        size = min(size, max(0, total - missing))
    oldest = time.strftime("%Y%m%dT%H%M%S", time.gmtime(max(0.0, time.time() - days * 86400)))
    thrown = 0
    for name in batches:
        if name >= oldest and total <= size:
            break
        home.step("prune", name)
        shutil.rmtree(os.path.join(root, HOME, "trash", name))
        total -= sizes[name]
        thrown += 1
    return thrown


def make_room(home: Home, root: str) -> None:
    """Throw away the oldest if the disk is nearly full."""
    if shortage(home):
        prune(home, root, FOREVER, EVERYTHING)


def shortage(home: Home) -> int:
    """How many bytes too few are free on this disk.

    The smaller of two bounds counts: 2 % of a large disk are much, and on many never free; 1 GiB may be
    all that a small one has. Neither may cost every old version.
    """
    disk = os.fstatvfs(home.trash)
    enough = min(LOW_SPACE, disk.f_blocks * disk.f_frsize // LOW_PART)
    return max(0, enough - disk.f_bavail * disk.f_frsize)


def _batches(home: Home) -> list[str]:
    """The batches, the oldest first: their names begin with the time."""
    return sorted(name for name in os.listdir(home.trash) if name[:8].isdigit() and name[8:9] == "T")


def _index(folder: int, name: str) -> dict[str, Any]:
    """A batch's record. One that a power cut has torn names nothing; the slots are versions all the same."""
    try:
        descriptor = open_file(folder, name)
    except FileNotFoundError:
        return {"time": 0.0, "aside": False, "entries": []}
    with os.fdopen(descriptor, "rb") as file:
        try:
            index = json.loads(file.read().decode("ascii"))
            return {
                "time": float(index["time"]),
                "aside": bool(index["aside"]),
                "entries": list(index["entries"]),
            }
        except (ValueError, KeyError, TypeError):
            return {"time": 0.0, "aside": False, "entries": []}


def _close_index(trash: int, name: str, folder: int) -> None:
    if set(os.listdir(folder)) <= {OPEN}:
        discard(folder, OPEN)
        os.rmdir(name, dir_fd=trash)
    else:
        os.rename(OPEN, INDEX, src_dir_fd=folder, dst_dir_fd=folder)


def _size(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            info = os.lstat(os.path.join(folder, name))
            total += info.st_size if stat.S_ISREG(info.st_mode) else 0
    return total


def _copy(folder: int, name: str, target: int) -> None:
    source = open_file(folder, name)
    try:
        while True:
            block = os.read(source, BLOCK)
            if not block:
                return
            write_all(target, block)
    finally:
        os.close(source)
        os.close(target)
