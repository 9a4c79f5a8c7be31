"""Make changes below one root so that nobody's edit is lost, whenever it comes. Travels (Python 3.8).

Nothing is checked and then replaced. A new file appears by a rename that clobbers nothing; a replaced
one changes places with the new one in one step and is looked at afterwards; a deleted one is moved
aside and looked at. What turns out to be somebody's unseen edit goes back. Old versions are in the
trash from the moment they leave their path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import Callable  # noqa: UP035 (an alias is evaluated: Python 3.8)

from devsync.core.snapshot import Change, Digest, File, Leaf, Link, Outcome, RelPath, parents
from devsync.replica.atomic import can_exchange, exchange, rename_new, sync_file_system
from devsync.replica.digests import BLOCK, Digests, IsFolder, Special, open_file
from devsync.replica.home import Home, discard, write_all
from devsync.replica.trash import RECOVERED, Batch
from devsync.replica.walk import Blocked, leaf_refusal, parent, told

Step = Callable[[str, RelPath], None]
"""Called with the name of an effect and its path, right before it."""

FEW = 8
"""Up to so many files are made durable one by one; beyond, the file system as a whole."""


def no_step(_effect: str, _path: RelPath) -> None:
    """Nothing happens between two effects."""


class _Moved(Exception):
    """The precondition does not hold any more."""


class Commit:
    """One batch of changes."""

    def __init__(self, home: Home, digests: Digests, step: Step) -> None:
        self._home = home
        self._digests = digests
        self._step = step
        self._ready: dict[Digest, list[str]] = {}  # names in tmp, one for each time it is needed
        self._damaged: dict[Digest, str] = {}
        self._made: list[RelPath] = []
        self._touched: set[RelPath] = set()
        self._batch: Batch | None = None
        self._aside = False
        self._no_trash = ""
        self._slots: dict[RelPath, str] = {}

    def run(self, changes: Sequence[Change]) -> list[Outcome]:
        """One outcome for each change, in order."""
        refused = {change.path: leaf_refusal(change.path, change.new) for change in changes}
        todo = [change for change in changes if not refused[change.path]]
        removals = sorted(
            (change for change in todo if change.new is None), key=lambda change: -change.path.count("/")
        )
        arrivals = [change for change in todo if change.new is not None]
        outcomes = {path: Outcome(path, False, None, why) for path, why in refused.items() if why}
        try:
            self._prepare(todo)
            for change in removals:
                outcomes[change.path] = self._apply(change)
            # A folder that is emptied and filled again in one batch stays the same folder.
            kept = {folder for change in arrivals for folder in parents(change.path)}
            self._remove_empty((change.path for change in removals), kept)
            for change in arrivals:
                outcomes[change.path] = self._apply(change)
            self._finish(change.path for change in arrivals if not outcomes[change.path].done)
        finally:
            if self._batch is not None:
                self._batch.close()
        return [outcomes[change.path] for change in changes]

    # -- before the first effect

    def _prepare(self, changes: Sequence[Change]) -> None:
        """Verify what has arrived, make the copies and the record, and make all of it durable."""
        needed: dict[Digest, int] = {}
        for change in changes:
            old = change.old.digest if isinstance(change.old, File) else None
            if isinstance(change.new, File) and change.new.digest != old:
                needed[change.new.digest] = needed.get(change.new.digest, 0) + 1
        for digest, times in needed.items():
            try:
                self._step("verify", digest)
                self._home.verify(digest)
                copies = [self._copy(digest, number) for number in range(1, times)]
                self._ready[digest] = [digest, *copies]
            except Blocked as error:
                self._damaged[digest] = str(error)
            except OSError as error:
                self._damaged[digest] = told(error)
        leaving = [change for change in changes if change.old is not None]
        if leaving:
            try:
                self._aside = not can_exchange(self._home.tmp)
                self._step("record", leaving[0].path)
                self._batch = Batch(self._home, leaving, self._aside)
            except OSError as error:
                self._no_trash = told(error)
            self._slots = {change.path: str(number) for number, change in enumerate(leaving)}
        names = [name for names in self._ready.values() for name in names]
        if len(names) > FEW:
            sync_file_system(self._home.tmp)
        else:
            for name in names:
                _sync(self._home.tmp, name)

    def _copy(self, digest: Digest, number: int) -> str:
        name = f"{digest}.{number}"
        discard(self._home.tmp, name)
        source = open_file(self._home.tmp, digest)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=self._home.tmp)
            try:
                while True:
                    block = os.read(source, BLOCK)
                    if not block:
                        return name
                    write_all(target, block)
            finally:
                os.close(target)
        finally:
            os.close(source)

    # -- one change

    def _apply(self, change: Change) -> Outcome:
        path = change.path
        try:
            made = None if change.new is None else self._made
            with parent(self._home.root, path, made) as (folder, name):
                try:
                    return self._change(folder, name, change)
                except _Moved:
                    return Outcome(path, False, self._look(folder, name, path))
        except FileNotFoundError:
            # Only a removal meets this: without its folder the path is empty already.
            return Outcome(path, change.new is None, None)
        except Blocked as error:
            return Outcome(path, False, None, str(error))
        except OSError as error:
            return Outcome(path, False, None, told(error))

    def _change(self, folder: int, name: str, change: Change) -> Outcome:
        path, old, new = change.path, change.old, change.new
        now = self._look(folder, name, path)
        if now != new:
            if now != old:
                return Outcome(path, False, now)
            if new is None:
                self._remove(folder, name, change)
            elif isinstance(old, File) and isinstance(new, File) and old.digest == new.digest:
                self._set_mode(folder, name, change)
            elif old is None:
                self._create(folder, name, path, new, 0o600 if change.private else None)
            elif self._aside:
                self._replace_in_two(folder, name, change, new)
            else:
                self._replace(folder, name, change, new)
            above = path.rpartition("/")[0]
            self._touched.add(above)
        return Outcome(path, True, new)

    def _look(self, folder: int, name: str, path: RelPath) -> Leaf | None:
        """What is there; a folder counts as nothing. One that holds nothing is out of the way afterwards."""
        try:
            return self._digests.look(folder, name, path)
        except IsFolder:
            return None
        except Special as kind:
            raise Blocked(f"a {kind} is in the way") from None

    def _create(self, folder: int, name: str, path: RelPath, new: Leaf, permissions: int | None) -> None:
        ready = self._take(path, new, permissions)
        self._step("create", path)
        try:
            self._rename_over_nothing(self._home.tmp, ready, folder, name)
        except (OSError, Blocked, _Moved):
            discard(self._home.tmp, ready)
            raise

    def _rename_over_nothing(self, folder: int, name: str, to_folder: int, to_name: str) -> None:
        try:
            rename_new(folder, name, to_folder, to_name)
        except FileExistsError:
            try:
                os.rmdir(to_name, dir_fd=to_folder)  # a folder that holds nothing is nothing
            except NotADirectoryError:
                raise _Moved from None
            except OSError:
                raise Blocked("a folder with things that are not mirrored is in the way") from None
            try:
                rename_new(folder, name, to_folder, to_name)
            except FileExistsError:
                raise _Moved from None

    def _remove(self, folder: int, name: str, change: Change) -> None:
        batch, slot = self._slot(change.path)
        self._step("set-aside", change.path)
        try:
            os.rename(name, slot, src_dir_fd=folder, dst_dir_fd=batch)
        except FileNotFoundError:
            raise _Moved from None
        if self._in_slot(slot) == change.old:
            return
        # RACE: saved between the look and the rename. It goes back where it was.
        self._step("put-back", change.path)
        try:
            rename_new(batch, slot, folder, name)
        except FileExistsError:
            self._keep(slot)  # and saved once more since: that one stays
        raise _Moved

    def _replace(self, folder: int, name: str, change: Change, new: Leaf) -> None:
        path = change.path
        batch, slot = self._slot(path)
        ready = self._take(path, new, _permissions_of(folder, name))
        self._step("prepare", path)
        os.rename(ready, slot, src_dir_fd=self._home.tmp, dst_dir_fd=batch)
        ours = os.stat(slot, dir_fd=batch, follow_symlinks=False).st_ino
        self._step("exchange", path)
        try:
            exchange(batch, slot, folder, name)
        except OSError as error:
            discard(batch, slot)
            if isinstance(error, FileNotFoundError):
                raise _Moved from None
            raise
        if self._in_slot(slot) == change.old:
            return
        # RACE: saved between the look and the exchange. Back it goes.
        self._step("exchange-back", path)
        try:
            exchange(batch, slot, folder, name)
        except FileNotFoundError:
            self._step("put-back", path)
            try:
                rename_new(batch, slot, folder, name)
            except FileExistsError:
                self._keep(slot)
            raise _Moved from None
        self._settle(folder, name, ours, change)
        raise _Moved

    def _replace_in_two(self, folder: int, name: str, change: Change, new: Leaf) -> None:
        """Where nothing can be exchanged: for a moment the path is empty."""
        ready = self._take(change.path, new, _permissions_of(folder, name))
        try:
            self._remove(folder, name, change)
            self._step("create", change.path)
            try:
                self._rename_over_nothing(self._home.tmp, ready, folder, name)
            except OSError:
                batch, slot = self._slot(change.path)
                rename_new(batch, slot, folder, name)
                raise
        finally:
            discard(self._home.tmp, ready)

    def _settle(self, folder: int, name: str, ours: int, change: Change) -> None:
        """After an exchange back: throw away what is ours; a still newer edit returns to its path."""
        path = change.path
        batch, slot = self._slot(path)
        if (
            os.stat(slot, dir_fd=batch, follow_symlinks=False).st_ino == ours
            and self._in_slot(slot) == change.new
        ):
            self._step("discard", path)
            discard(batch, slot)
            return
        # RACE: saved again, between the two exchanges. The newest stays; the one before it is a version.
        self._step("exchange-newest", path)
        try:
            exchange(batch, slot, folder, name)
        except FileNotFoundError:
            pass
        self._keep(slot)

    def _set_mode(self, folder: int, name: str, change: Change) -> None:
        descriptor = open_file(folder, name)
        try:
            info = os.fstat(descriptor)
            mode = stat.S_IMODE(info.st_mode)
            executable = isinstance(change.new, File) and change.new.executable
            self._step("set-mode", change.path)
            os.fchmod(descriptor, _permissions(mode, executable))
        finally:
            os.close(descriptor)
        if self._look(folder, name, change.path) != change.new:
            raise _Moved

    # -- staged contents and slots of the trash

    def _take(self, path: RelPath, new: Leaf, permissions: int | None) -> str:
        """The name in tmp of something that is `new` and may be renamed away."""
        tmp = self._home.tmp
        if isinstance(new, Link):
            name = f"link-{os.urandom(8).hex()}"
            os.symlink(new.target, name, dir_fd=tmp)
            return name
        names = self._ready.get(new.digest)
        if not names:
            raise Blocked(self._damaged.get(new.digest, "its content has not arrived"))
        name = names.pop()
        self._step("give-mode", path)
        if permissions is None:
            permissions = self._home.usual_mode()
        descriptor = open_file(tmp, name)
        try:
            os.fchmod(descriptor, _permissions(permissions, new.executable))
        finally:
            os.close(descriptor)
        return name

    def _slot_folder(self) -> int:
        if self._batch is None:
            raise Blocked(f"the trash cannot take the old version: {self._no_trash}")
        return self._batch.folder

    def _slot(self, path: RelPath) -> tuple[int, str]:
        return self._slot_folder(), self._slots[path]

    def _in_slot(self, slot: str) -> object:
        """What came out; something that equals no leaf if it is none."""
        try:
            return self._digests.look(self._slot_folder(), slot, ".devsync/slot")
        except (IsFolder, Blocked) as error:
            return error

    def _keep(self, slot: str) -> None:
        folder = self._slot_folder()
        os.rename(slot, slot + RECOVERED, src_dir_fd=folder, dst_dir_fd=folder)

    # -- after the last effect

    def _finish(self, failed: Iterable[RelPath]) -> None:
        """Make the renames durable, leave no folder that was made in vain, close the record."""
        self._remove_empty(failed, set(), only=set(self._made))
        for names in self._ready.values():
            for name in names:
                discard(self._home.tmp, name)
        if len(self._touched) > FEW:
            sync_file_system(self._home.root)
        else:
            for folder in self._touched:
                self._sync_folder(folder)
        if self._batch is not None:
            self._step("close-record", "")
            self._batch.finish()

    def _sync_folder(self, path: RelPath) -> None:
        try:
            with parent(self._home.root, f"{path}/." if path else ".") as (folder, _):
                os.fsync(folder)
        except (FileNotFoundError, Blocked):  # removed since, because it was empty
            self._sync_folder(path.rpartition("/")[0])

    def _remove_empty(
        self, paths: Iterable[RelPath], kept: set[RelPath], only: set[RelPath] | None = None
    ) -> None:
        folders = {folder for path in paths for folder in parents(path)} - kept
        if only is not None:
            folders &= only
        for path in sorted(folders, key=lambda folder: -folder.count("/")):
            try:
                with parent(self._home.root, path) as (folder, name):
                    self._step("remove-folder", path)
                    os.rmdir(name, dir_fd=folder)
            except (OSError, Blocked):
                pass  # it holds something, ignored files above all, and stays


def _permissions(mode: int, executable: bool) -> int:
    """The mode bits with the executable bit as wanted: for everybody who may read, as git does."""
    mode &= 0o777
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111


def _permissions_of(folder: int, name: str) -> int | None:
    """The permissions of a file that is to be replaced; None if it is no file (any more)."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        raise _Moved from None
    return mode & 0o777 if stat.S_ISREG(mode) else None


def _sync(folder: int, name: str) -> None:
    descriptor = open_file(folder, name)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
