"""The side of a machine that has no Python: everything by SFTP alone.

What is promised as with the helper: no edit is lost that was there to be seen, wrong bytes never become
visible (every content is read back and its digest compared before it gets its name), nothing is written
through a link that a look could see, what is replaced or deleted is in the trash.

What cannot be promised without the helper, because SFTP version 3 has no means for it:

- A replaced file is missing for the server's time between two requests that arrive together.
- Somebody's edit that comes in that very moment is kept and put back, but may be seen missing for as
  long as it takes to read it.
- An edit that leaves size and second of the last change as they were is noticed only for files
  whose stamp is younger than two seconds at the last look.
- A folder above a path that is exchanged for a link between the look and the write is followed:
  whoever can write on the machine can make devsync write elsewhere there, with his own rights or less.
- Contents are on the disk where the server offers fsync, the names are not: a power cut may undo renames.
- There is no lock: who takes the folder over in the middle of a commit is noticed after it, and of two who
  claim it in the same moment one finds out at the next call. A transfer of over a minute shows no sign of
  life on its way.
- Every file is read over the network once, and so is every file that changed; there are no hints.

Owns the SFTP client that it is given, and no thread.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from devsync import ports
from devsync.core.ignore import Rules
from devsync.core.snapshot import Change, Digest, File, Outcome, RelPath, Snapshot, from_json
from devsync.ports import DevsyncError, Halted, Owned, Pending, Sftp
from devsync.replica.fetch import Fetching
from devsync.replica.home import MARKER_LIMIT
from devsync.replica.owner import FRESH, OWNER, OWNER_LIMIT, Claim, Taken, check, succeed
from devsync.replica.sftp_commit import SftpCommit
from devsync.replica.sftp_look import SftpLook, settle, staging_path
from devsync.replica.trash import INDEX, OPEN, RECOVERED
from devsync.replica.walk import HOME, MARKER, RootGone, told


class SftpOnlyReplica:
    """Implements ports.Replica. `root` may begin with `~`."""

    def __init__(self, sftp: Sftp, root: str | bytes, *, create: bool = False) -> None:
        """Halted if the root is gone, now or later."""
        self._sftp = sftp
        self._rules = Rules()
        self._root = _resolve(sftp, os.fsencode(root), create)
        self._look = SftpLook(sftp, self._root)
        self._home_made = False
        self._claim: Claim | None = None
        self._next_beat = 0.0
        self._staging: SftpStaging | None = None
        try:
            self._make_home()
        except OSError:
            pass  # a disk that is full or read-only can still be looked at; `apply` will say what is wrong

    def claim(self, owner: str, name: str, *, take_over: bool) -> None:
        try:
            self._make_home()
            self._claim = succeed(self._present(), owner, name, take_over, self._look.clock())
            self._write_own(OWNER, self._claim.pack())
            self._next_beat = time.monotonic() + FRESH
            _Healing(self._sftp, self._look).run()
        except Taken as error:
            raise Owned(f"the folder on the machine {error}") from error
        except OSError as error:
            raise DevsyncError(f"the folder on the machine cannot be used: {told(error)}") from error

    def beat(self) -> None:
        if self._claim is None or (self._staging is not None and self._staging.busy):
            return
        self._look.check_root()
        try:
            check(self._present(), self._claim, 0.0)
            if time.monotonic() > self._next_beat:
                self._next_beat = time.monotonic() + FRESH
                self._write_own(OWNER, replace(self._claim, beat=self._look.clock()).pack())
        except Taken as error:
            raise Owned(f"the folder on the machine {error}") from error
        except RootGone as error:
            raise Halted(
                f"on the machine, {error}", hint="if that is meant, start again from an empty folder"
            ) from error
        except OSError:
            pass  # a full disk: looking is still allowed

    def _present(self) -> Claim | None:
        return Claim.unpack(self._read_own(OWNER, OWNER_LIMIT))

    def set_rules(self, rules: ports.Rules) -> None:
        self._rules = rules if isinstance(rules, Rules) else Rules.from_json(rules.to_json())

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        self.beat()
        return self._look.scan(self._rules, scope)

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: ports.Staging) -> None:
        Fetching(self._sftp, self._look.path).supply(wanted, staging)

    def staging(self) -> SftpStaging:
        try:
            self._make_home()
        except OSError as error:
            raise DevsyncError(f"the folder on the machine cannot be used: {told(error)}") from error
        self._staging = SftpStaging(self._sftp, self._look)
        return self._staging

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self.beat()
        try:
            self._make_home()
            return SftpCommit(self._sftp, self._look).run(changes)
        except OSError as error:  # nothing can be written at all: a read-only or full disk
            return [Outcome(change.path, False, None, told(error)) for change in changes]

    def marker(self) -> Mapping[str, object] | None:
        try:
            content = self._read_own(MARKER, MARKER_LIMIT)
            value = None if content is None else json.loads(content.decode("utf-8"))
        except OSError as error:
            raise DevsyncError(f"the machine's marker cannot be read: {told(error)}") from error
        except ValueError:
            value = ()
        if value is not None and not isinstance(value, dict):
            raise Halted(
                f"the marker is damaged: {HOME}/{MARKER} on the machine",
                hint="remove it to pair the folders anew",
            )
        return value

    def write_marker(self, marker: Mapping[str, object]) -> None:
        self.beat()
        try:
            self._make_home()
            self._write_own(MARKER, json.dumps(marker).encode("utf-8"))
        except OSError as error:
            raise DevsyncError(f"the machine's marker cannot be written: {told(error)}") from error

    def _read_own(self, name: str, limit: int) -> bytes | None:
        """A file of `.devsync`; None if it is not there."""
        content = b""
        try:
            for chunk in self._sftp.read_file(self._at(name), limit):
                content += chunk
                if len(content) > limit:
                    break
        except FileNotFoundError:
            return None
        return content

    def _write_own(self, name: str, content: bytes) -> None:
        """Write a file of `.devsync`, whole or not at all where the server can replace in one step."""
        new, place = self._at(name + ".new"), self._at(name)
        self._sftp.remove(new)
        self._sftp.write_file(new, [content], 0o600, durable=True).result()
        if "posix-rename@openssh.com" in self._sftp.extensions:
            self._sftp.replace(new, place).result()
        else:
            settle({"": self._sftp.remove(place)})
            self._sftp.rename(new, place).result()

    def interrupt(self) -> None:
        self._claim = None  # nobody is left to give it back; it runs out by itself
        self._sftp.interrupt()

    def close(self) -> None:
        claim, self._claim = self._claim, None
        try:
            present = None if claim is None else self._present()
            if claim is not None and present is not None and claim.is_same(present):
                self._write_own(OWNER, replace(claim, beat=0.0).pack())
        except (OSError, ports.DevsyncError):
            pass  # then it runs out by itself
        self._sftp.close()

    def _at(self, name: str) -> bytes:
        return self._look.path(f"{HOME}/{name}")

    def _make_home(self) -> None:
        """`.devsync` with its folders, none of them a link. OSError if that cannot be."""
        self._look.check_root()
        if self._home_made:
            return
        home = self._look.path(HOME)
        folders = {HOME: home, "tmp": self._at("tmp"), "trash": self._at("trash")}
        settle({name: self._sftp.mkdir(path, 0o700) for name, path in folders.items()})
        for path in folders.values():
            if not stat.S_ISDIR(self._sftp.lstat(path).result().mode):
                raise NotADirectoryError(20, "is no folder", os.fsdecode(path))
        ignore, probe = self._at(".gitignore"), self._at("tmp/probe-mode")
        settle({"probe": self._sftp.remove(probe)})
        if self._look.attributes([f"{HOME}/.gitignore"])[f"{HOME}/.gitignore"] is None:
            self._sftp.write_file(ignore, [b"*\n"], 0o600).result()
        # The umask there, asked by making a file: modes go through it.
        self._sftp.write_file(probe, [b"?"], 0o666).result()
        self._look.usual_mode = self._sftp.lstat(probe).result().mode & 0o777
        self._sftp.remove(probe).result()
        self._home_made = True


class SftpStaging:
    """Contents on their way to `.devsync/tmp`, read back before anybody relies on them."""

    def __init__(self, sftp: Sftp, look: SftpLook) -> None:
        self._sftp = sftp
        self._look = look
        self._pending: dict[Digest, tuple[File, Pending[int]]] = {}
        self.busy = False
        """Whether chunks are just being consumed, in the middle of which nothing else can be asked."""

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        if file.digest in self._pending:
            return
        path = self._path(file.digest)
        self._sftp.remove(path)  # what is left of an earlier try, or a link that somebody put there
        self.busy = True
        try:
            self._pending[file.digest] = (file, self._sftp.write_file(path, chunks, 0o600, durable=True))
        finally:
            self.busy = False

    def finish(self) -> Mapping[Digest, str]:
        self.busy = True
        try:
            return self._finish()
        finally:
            self.busy = False

    def _finish(self) -> Mapping[Digest, str]:
        problems: dict[Digest, str] = {}
        arrived = []
        for digest, (file, pending) in self._pending.items():
            try:
                if pending.result() == file.size:
                    arrived.append(file)
                else:
                    problems[digest] = "it arrived cut, or changed meanwhile"
            except ports.ContentChanged as error:
                problems[digest] = str(error) or "it changed while it was read"
            except OSError as error:
                problems[digest] = told(error)
        there = self._look.digests((self._path(file.digest), file.size) for file in arrived)
        for file, digest_there in zip(arrived, there, strict=True):
            if digest_there != file.digest:
                failed = isinstance(digest_there, OSError)
                problems[file.digest] = told(digest_there) if failed else "it arrived damaged"  # type: ignore[arg-type]
        settle({digest: self._sftp.remove(self._path(digest)) for digest in problems})
        return problems

    def _path(self, digest: Digest) -> bytes:
        return self._look.path(staging_path(digest))


class _Healing:
    """Puts right what a commit that died has left, and clears what was staged and never used."""

    def __init__(self, sftp: Sftp, look: SftpLook) -> None:
        self._sftp = sftp
        self._look = look

    def run(self) -> None:
        tmp = self._look.path(HOME) + b"/tmp"
        names = self._sftp.list_folder(tmp).result()
        ours = [name for name in names if _is_digest(name.split(b".", 1)[0])]
        settle({os.fsdecode(name): self._sftp.remove(tmp + b"/" + name) for name in ours})
        trash = self._sftp.list_folder(self._look.path(f"{HOME}/trash")).result()
        for name in sorted(os.fsdecode(name) for name in trash):
            batch = f"{HOME}/trash/{name}"
            record = self._look.attributes([f"{batch}/{OPEN}"])[f"{batch}/{OPEN}"]
            if isinstance(record, ports.Attributes):
                self._heal(batch, record.size)

    def _heal(self, batch: RelPath, size: int) -> None:
        """Bring back what has left its path while nothing came in its place, or was never looked at."""
        content = b"".join(self._sftp.read_file(self._look.path(f"{batch}/{OPEN}"), size))
        try:
            index = json.loads(content.decode("ascii"))
            if not index["aside"]:
                return  # made by exchange: the helper heals it
            entries = [(path, from_json(old), from_json(new)) for path, old, new in index["entries"]]
        except (ValueError, KeyError, TypeError):
            return  # torn by a power cut: the slots are versions all the same
        slots = {f"{batch}/{number}": entry for number, entry in enumerate(entries)}
        for slot, found in self._look.look(slots).items():
            path, old, new = slots[slot]
            if found is None or (found == old and new is None):
                continue
            [back] = settle({path: self._sftp.rename(self._look.path(slot), self._look.path(path))}).values()
            if isinstance(back, OSError) and found != old:
                recovered = self._look.path(slot + RECOVERED)
                settle({path: self._sftp.rename(self._look.path(slot), recovered)})
        settle(
            {
                batch: self._sftp.rename(
                    self._look.path(f"{batch}/{OPEN}"), self._look.path(f"{batch}/{INDEX}")
                )
            }
        )


def _resolve(sftp: Sftp, root: bytes, create: bool) -> bytes:
    """The root as the server names it, made if wanted. A link on the way to it is the user's own."""
    if root == b"~" or root.startswith(b"~/"):
        root = sftp.realpath(b".").result() + root[1:]
    if create:
        steps = root.rstrip(b"/").split(b"/")
        above = [b"/".join(steps[:depth]) for depth in range(1, len(steps) + 1)]
        settle({os.fsdecode(path): sftp.mkdir(path, 0o777) for path in above if path})
    try:
        return sftp.realpath(root).result().rstrip(b"/")
    except OSError:
        return root.rstrip(b"/")  # it is not there, which the first look will say


def _is_digest(name: bytes) -> bool:
    return len(name) == 64 and not name.strip(b"0123456789abcdef")
