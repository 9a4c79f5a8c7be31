"""The `.devsync` folder of a replica: its marker, and where contents are staged. Travels (Python 3.8).

.devsync/.gitignore     git never shows this folder
.devsync/replica.json   the marker: who this replica is
.devsync/digests        what the helper knew of unchanged files
.devsync/owner.json     whose folder this is just now (see `owner`)
.devsync/tmp/DIGEST     a content that has arrived; DIGEST.part: a part of one (see `arrival`)
.devsync/trash/         old versions (see `trash`)
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from devsync.core.snapshot import Digest
from devsync.replica.digests import Busy, Digests, open_file, read_digest, signature
from devsync.replica.walk import FOLDER, HOME, MARKER, Blocked, parent

PARCEL = "parcel-"
"""How the name of a parcel in tmp begins; see `parcel`."""

PART = ".part"
"""How the name of a content ends that has arrived in part."""

PART_KEPT = 3 * 86400.0
"""Seconds for which it may be gone on with."""

MARKER_LIMIT = 1 << 16  # bytes
DIGESTS = "digests"
DIGESTS_LIMIT = 1 << 28  # bytes


class Begun:
    """The content that was cut off last, and what its bytes have hashed to, which are not read once more."""

    def __init__(self) -> None:
        self._digest: Digest = ""
        self._size = 0
        self._found: Any = None

    def keep(self, digest: Digest, size: int, found: Any) -> None:
        """So many bytes of it are here; `found` has hashed them."""
        self._digest, self._size, self._found = digest, size, found

    def take(self, digest: Digest, size: int) -> Any:
        """What has hashed just these bytes of it, once; None if nothing has."""
        found = self._found if (digest, size) == (self._digest, self._size) else None
        self._found = None
        return found


class Home:
    """Handles of `.devsync` and of the folders in it; a context manager that closes them."""

    def __init__(self, root: int, step: Callable[[str, str], None], begun: Begun | None = None) -> None:
        self.root = root
        self.step = step
        self.begun = Begun() if begun is None else begun
        self._usual_mode: int | None = None
        with ExitStack() as opened:
            self.folder = _subfolder(root, HOME)
            opened.callback(os.close, self.folder)
            self.tmp = _subfolder(self.folder, "tmp")
            opened.callback(os.close, self.tmp)
            self.trash = _subfolder(self.folder, "trash")
            opened.callback(os.close, self.trash)
            try:
                self._write_new(".gitignore", b"*\n")
            except FileExistsError:
                pass
            self._opened = opened.pop_all()

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def write_marker(self, marker: Mapping[str, Any]) -> None:
        """Write the identity: whole and durable, or not at all."""
        self.replace(MARKER, json.dumps(marker).encode("utf-8"))

    def write_digests(self, digests: Digests) -> None:
        """Keep what is known for the next start."""
        self.replace(DIGESTS, digests.pack())

    def replace(self, name: str, content: bytes) -> None:
        """Write a file of this folder: whole and durable, or not at all."""
        new = name + ".new"
        discard(self.folder, new)
        self._write_new(new, content)
        self.step("write", name)
        os.replace(new, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        os.fsync(self.folder)

    def clear_staging(self) -> int:
        """Remove what was staged and never used; how many. Nothing of a user's is ever under such a name.

        What may be gone on with stays for a while.
        """
        names = [
            name
            for name in os.listdir(self.tmp)
            if _is_digest(name.split(".", 1)[0]) or name.startswith((PARCEL, "link-", "probe-"))
        ]
        kept = {digest + PART for digest in self.parts()}
        names = [name for name in names if name not in kept]
        for name in names:
            self.step("clear-staging", name)
            discard(self.tmp, name)
        return len(names)

    def parts(self) -> dict[Digest, int]:
        """The contents that were cut off and may be gone on with: digest -> bytes that are here."""
        names = [name[: -len(PART)] for name in os.listdir(self.tmp) if name.endswith(PART)]
        sizes = {name: self.part(name) for name in names if _is_digest(name)}
        return {name: size for name, size in sizes.items() if size}

    def part(self, digest: Digest) -> int:
        """How many bytes of a content have arrived before; 0 if there is nothing that is surely ours."""
        try:
            info = os.stat(digest + PART, dir_fd=self.tmp, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        return info.st_size if _is_our_part(info) else 0

    def open_part(self, digest: Digest, size: int) -> int:
        """Open what `part` has told of, to go on with it. Blocked if there are less than `size` bytes."""
        gone = Blocked("what had arrived of it is not there any more")
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(digest + PART, flags, dir_fd=self.tmp)
        except FileNotFoundError:
            raise gone from None
        info = os.fstat(descriptor)
        if not _is_our_part(info) or info.st_size < size:
            os.close(descriptor)
            raise gone
        return descriptor

    def clear_parts(self) -> None:
        """Nothing is gone on with: the room is needed."""
        for digest in self.parts():
            discard(self.tmp, digest + PART)

    def open_staging(self, name: str) -> int:
        """A new, empty file for a content, readable by nobody else."""
        discard(self.tmp, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, 0o600, dir_fd=self.tmp)

    def usual_mode(self) -> int:
        """The mode of a file that the user makes: asked by making one, since asking for the umask sets it."""
        if self._usual_mode is None:
            discard(self.tmp, "probe-mode")
            descriptor = os.open(
                "probe-mode", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=self.tmp
            )
            self._usual_mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.close(descriptor)
            discard(self.tmp, "probe-mode")
        return self._usual_mode

    def verify(self, digest: Digest) -> None:
        """Blocked unless the staged content is there and is what its name says."""
        try:
            info = os.stat(digest, dir_fd=self.tmp, follow_symlinks=False)
            right = stat.S_ISREG(info.st_mode) and read_digest(self.tmp, digest, signature(info)) == digest
        except FileNotFoundError:
            raise Blocked("its content has not arrived") from None
        except Busy:
            right = False
        if not right:
            raise Blocked("its content arrived damaged")

    def _write_new(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=self.folder)
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_marker(root: int) -> dict[str, Any] | None:
    """The identity that was written below `root`; None if there is none. ValueError if it is damaged."""
    content = read_own(root, MARKER, MARKER_LIMIT)
    if content is None:
        return None
    value = json.loads(content.decode("utf-8"))
    if not isinstance(value, dict):
        raise ValueError("the marker is damaged")
    return value


def read_digests(root: int) -> Digests:
    """What was known at the end of the last start; nothing if that cannot be read."""
    try:
        return Digests.unpack(read_own(root, DIGESTS, DIGESTS_LIMIT) or b"")
    except OSError:
        return Digests()


def read_own(root: int, name: str, limit: int) -> bytes | None:
    """A file of `.devsync`, up to `limit` bytes; None if it is not there."""
    try:
        with parent(root, f"{HOME}/{name}") as (folder, _):
            descriptor = open_file(folder, name)
    except (FileNotFoundError, Blocked):
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit)


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte; a full disk is an OSError, never a part."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def discard(folder: int, name: str) -> None:
    """Remove a file of ours, if it is there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def _subfolder(folder: int, name: str) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        pass
    try:
        return os.open(name, FOLDER, dir_fd=folder)
    except NotADirectoryError as error:
        raise OSError(error.errno, f"{name} is no folder", name) from error


def _is_our_part(info: os.stat_result) -> bool:
    """Whether this can only be what we have written ourselves, and not too long ago."""
    ours = info.st_uid == os.geteuid() and info.st_nlink == 1 and not info.st_mode & 0o077
    return stat.S_ISREG(info.st_mode) and ours and time.time() - info.st_mtime < PART_KEPT


def _is_digest(name: str) -> bool:
    return len(name) == 64 and not name.strip("0123456789abcdef")
