"""Making changes on a machine by SFTP alone, many at a time, each step of all of them in one go.

A new name never clobbers another; an old version is moved into the trash and looked at there, right
before the new one takes its place. What turns out to be somebody's unseen edit goes back. The trash is
laid out as `replica.trash` has it, so the helper heals and reads it too.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from tempfile import SpooledTemporaryFile

from devsync.core.snapshot import Change, Digest, File, Leaf, Link, Outcome, RelPath, parents, to_json
from devsync.ports import Attributes, Pending, Sftp
from devsync.replica.digests import BLOCK
from devsync.replica.sftp_look import Found, SftpLook, ahead, settle, staging_path
from devsync.replica.trash import INDEX, OPEN, RECOVERED
from devsync.replica.walk import HOME, leaf_refusal, told

_POSIX_RENAME = "posix-rename@openssh.com"
COPIES = 64
"""So many contents are held here at a time, each on disk beyond a MiB."""


@dataclass
class _Step:
    """A change on its way. `slot` is where its old version goes, `ready` where the new one waits."""

    change: Change
    slot: RelPath = ""
    ready: RelPath = ""
    mode: int = 0
    steps: list[Pending[None]] = field(default_factory=list)

    @property
    def path(self) -> RelPath:
        return self.change.path


class SftpCommit:
    """One batch of changes. `staged` says what has been verified in `.devsync/tmp`."""

    def __init__(self, sftp: Sftp, look: SftpLook) -> None:
        self._sftp = sftp
        self._look = look
        self._outcomes: dict[RelPath, Outcome] = {}
        self._made: list[RelPath] = []
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._batch = f"{HOME}/trash/{stamp}-{os.urandom(4).hex()}"

    def run(self, changes: Sequence[Change]) -> list[Outcome]:
        """One outcome for each change, in order."""
        for change in changes:
            if why := leaf_refusal(change.path, change.new):
                self._problem(change.path, why)
            self._look.forget(change.path)
        todo = self._check([change for change in changes if change.path not in self._outcomes])
        leaving = [step for step in todo if step.change.old is not None and not _only_mode(step.change)]
        try:
            self._record(leaving)
        except OSError as error:
            for step in leaving:
                self._problem(step.path, f"the trash cannot take the old version: {told(error)}")
            leaving = []
        todo = [step for step in todo if step.path not in self._outcomes]
        self._change_modes([step for step in todo if _only_mode(step.change)])
        self._remove([step for step in todo if step.change.new is None], changes)
        self._arrive([step for step in todo if step.change.new is not None and not _only_mode(step.change)])
        if leaving:
            self._close_record()
        return [self._outcomes[change.path] for change in changes]

    # ------------------------------------------------------------ before the first effect

    def _check(self, changes: Sequence[Change]) -> list[_Step]:
        """Those changes whose precondition holds; the others have their outcome."""
        paths = [change.path for change in changes]
        obstacles = self._look.obstacles(paths)
        reachable = [path for path in paths if path not in obstacles]
        found = self._look.look(reachable)
        removed = {change.path for change in changes if change.new is None}
        steps = []
        for change in changes:
            now: Found = found.get(change.path)
            kind, why = obstacles.get(change.path, ("", ""))
            in_the_way = kind == "no folder" and not any(above in removed for above in parents(change.path))
            if kind == "unknown" or in_the_way:
                self._problem(change.path, why)
            elif isinstance(now, str) and not self._emptied(change, removed):
                self._problem(change.path, now)
            elif not isinstance(now, str) and now == change.new:
                self._outcomes[change.path] = Outcome(change.path, True, now)
            elif not isinstance(now, str) and now != change.old:
                self._outcomes[change.path] = Outcome(change.path, False, now)
            else:
                steps.append(_Step(change))
        return steps

    @staticmethod
    def _emptied(change: Change, removed: set[RelPath]) -> bool:
        """Whether the batch makes a file of a folder, by emptying it first."""
        return change.old is None and any(path.startswith(change.path + "/") for path in removed)

    def _record(self, leaving: Sequence[_Step]) -> None:
        """Say what is to leave before anything does."""
        if not leaving:
            return
        for number, step in enumerate(leaving):
            step.slot = f"{self._batch}/{number}"
        entries = [[s.path, to_json(s.change.old), to_json(s.change.new)] for s in leaving]
        index = json.dumps({"time": time.time(), "aside": True, "entries": entries})
        self._sftp.mkdir(self._at(self._batch), 0o700).result()
        record = self._at(f"{self._batch}/{OPEN}")
        self._sftp.write_file(record, [index.encode("ascii")], 0o600, durable=True).result()

    def _close_record(self) -> None:
        record = f"{self._batch}/{OPEN}"
        try:
            left = set(self._sftp.list_folder(self._at(self._batch)).result())
            if left <= {OPEN.encode()}:
                self._sftp.remove(self._at(record)).result()
                self._sftp.rmdir(self._at(self._batch)).result()
            else:
                self._rename(record, f"{self._batch}/{INDEX}").result()
        except OSError:
            pass  # it stays open, and the next start heals what needs no healing

    # ------------------------------------------------------------ modes, removals

    def _change_modes(self, steps: Sequence[_Step]) -> None:
        """Give or take the executable bit of a file whose content stays."""
        before = self._look.attributes([step.path for step in steps])
        setting: dict[RelPath, Pending[None]] = {}
        for step in steps:
            entry = before[step.path]
            mode = entry.mode if isinstance(entry, Attributes) and stat.S_ISREG(entry.mode) else None
            if mode is not None:
                setting[step.path] = self._sftp.set_mode(
                    self._at(step.path), _permissions(mode, step.change.new)
                )
        self._conclude(steps, settle(setting))

    def _remove(self, steps: Sequence[_Step], changes: Sequence[Change]) -> None:
        """Move aside, look, and put back what was not expected."""
        asked = {step.path: self._aside(step.path, step.slot) for step in steps}
        answers = settle(asked)
        self._look_aside([step for step in steps if answers[step.path] is None])
        self._conclude([step for step in steps if step.path not in self._outcomes], answers)
        kept = {folder for change in changes if change.new is not None for folder in parents(change.path)}
        folders = {folder for step in steps for folder in parents(step.path)} - kept
        deepest_first = sorted(folders, key=lambda folder: -folder.count("/"))
        settle({folder: self._sftp.rmdir(self._at(folder)) for folder in deepest_first})  # what holds stays

    def _look_aside(self, steps: Sequence[_Step]) -> None:
        """Put back what is in a slot and is not what was to leave; it gets its outcome."""
        there = self._look.look([step.slot for step in steps])
        wrong = [step for step in steps if there[step.slot] != step.change.old]
        back = settle({step.path: self._rename(step.slot, step.path) for step in wrong})
        # RACE: the path was taken meanwhile: the newest stays, and the one before it is a version.
        taken = [step for step in wrong if isinstance(back[step.path], OSError)]
        settle({step.slot: self._rename(step.slot, step.slot + RECOVERED) for step in taken})
        for step in wrong:
            self._look.forget(step.path)
        now = self._look.look([step.path for step in wrong])
        for step in wrong:
            self._say(step.path, now[step.path], done=False)

    # ------------------------------------------------------------ arrivals

    def _arrive(self, steps: Sequence[_Step]) -> None:
        steps = self._prepare(steps)
        self._make_folders(steps)
        # The gap of a replacement is the server's time between two requests that come together.
        for step in steps:
            step.steps = [self._aside(step.path, step.slot)] if step.slot else []
            step.steps.append(self._appear(step))
        answers = {step.path: _refusals(step.steps) for step in steps}
        self._undo(steps, answers)
        self._verify_replaced([s for s in steps if s.slot and not any(answers[s.path])])
        rest = [step for step in steps if step.path not in self._outcomes]
        self._conclude(rest, {step.path: next(filter(None, answers[step.path]), None) for step in rest})
        failed = [step for step in steps if not self._outcomes[step.path].done]
        settle({step.path: self._sftp.remove(self._at(step.ready)) for step in failed if step.ready})
        if failed:  # no folder that was made in vain
            settle({folder: self._sftp.rmdir(self._at(folder)) for folder in reversed(self._made)})

    def _appear(self, step: _Step) -> Pending[None]:
        if isinstance(step.change.new, Link):
            target = step.change.new.target.encode("utf-8", "surrogateescape")
            return self._sftp.symlink(target, self._at(step.path))
        return self._rename(step.ready, step.path)

    def _prepare(self, steps: Sequence[_Step]) -> list[_Step]:
        """Give every new file a name of its own in tmp, and its mode."""
        wanted: dict[Digest, list[_Step]] = {}
        for step in steps:
            if isinstance(step.change.new, File):
                wanted.setdefault(step.change.new.digest, []).append(step)
        staged = self._look.attributes(staging_path(digest) for digest in wanted)
        replaced = self._look.attributes([step.path for step in steps if step.slot])
        copies: list[_Step] = []
        for digest, takers in wanted.items():
            first = staging_path(digest)
            for number, step in enumerate(takers):
                step.ready = f"{first}.{number}" if number else first
                if not isinstance(staged[first], Attributes):
                    self._problem(step.path, "its content has not arrived")
                elif number:
                    copies.append(step)
        self._copy(copies)
        setting: dict[RelPath, Pending[None]] = {}
        for step in steps:
            if step.ready and step.path not in self._outcomes:
                old = replaced.get(step.path)
                usual = 0o600 if step.change.private else self._look.usual_mode
                if isinstance(old, Attributes) and stat.S_ISREG(old.mode):
                    usual = old.mode
                mode = _permissions(usual, step.change.new)
                setting[step.path] = self._sftp.set_mode(self._at(step.ready), mode)
        for path, answer in settle(setting).items():
            if isinstance(answer, OSError):
                self._problem(path, told(answer))
        return [step for step in steps if step.path not in self._outcomes]

    def _copy(self, copies: Sequence[_Step]) -> None:
        """More files of the same contents; by way of this computer, since SFTP cannot do it there."""
        for first in range(0, len(copies), COPIES):
            batch = copies[first : first + COPIES]
            with ExitStack() as kept:
                writing = {}
                for step, source in zip(batch, self._originals(batch, kept), strict=True):
                    if isinstance(source, OSError):
                        self._problem(step.path, told(source))
                    else:
                        chunks = iter(partial(source.read, BLOCK), b"")
                        target = self._at(step.ready)
                        writing[step.path] = self._sftp.write_file(target, chunks, 0o600, durable=True)
                written = settle(writing)
            files = [(step, step.change.new) for step in batch if step.path in written]
            digests = self._look.digests((self._at(s.ready), f.size) for s, f in files if isinstance(f, File))
            for (step, file), digest in zip(files, digests, strict=True):
                if not isinstance(file, File) or digest != file.digest:
                    refused = written[step.path]
                    why = told(refused) if isinstance(refused, OSError) else "its content arrived damaged"
                    self._problem(step.path, why)

    def _originals(
        self, copies: Sequence[_Step], kept: ExitStack
    ) -> Iterator[SpooledTemporaryFile[bytes] | OSError]:
        """The content of each, read ahead of one another, in memory if it is small."""

        def ask(step: _Step) -> tuple[Iterable[bytes], int]:
            size = step.change.new.size if isinstance(step.change.new, File) else 0
            return self._sftp.read_file(self._at(step.ready.rpartition(".")[0]), size), size

        def take(content: Iterable[bytes]) -> SpooledTemporaryFile[bytes] | OSError:
            file = kept.enter_context(SpooledTemporaryFile(max_size=BLOCK))  # noqa: SIM115  `kept` closes it
            try:
                file.writelines(content)
            except OSError as error:
                return error
            file.seek(0)
            return file

        yield from ahead(copies, ask, take)

    def _make_folders(self, steps: Sequence[_Step]) -> None:
        """What is missing above; a folder that is there already says so, which is no harm."""
        missing = {folder for step in steps for folder in parents(step.path)}
        there = self._look.attributes(sorted(missing))
        self._made = sorted(folder for folder, entry in there.items() if entry is None)
        settle({folder: self._sftp.mkdir(self._at(folder), 0o777) for folder in self._made})

    def _undo(self, steps: Sequence[_Step], answers: Mapping[RelPath, list[OSError | None]]) -> None:
        """A replacement of which only one half came about: the path gets back what it had."""
        left_empty = [s for s in steps if s.slot and answers[s.path][0] is None and answers[s.path][1]]
        self._put_back(left_empty)
        # RACE: the old version was taken away in the moment before; its absence is newer than our decision.
        unwanted = [s for s in steps if s.slot and answers[s.path][0] and answers[s.path][1] is None]
        self._withdraw(unwanted)
        for step in unwanted:
            error = answers[step.path][0]
            if error is not None and not isinstance(error, FileNotFoundError):
                self._problem(step.path, told(error))
        for step in [*left_empty, *unwanted]:
            self._look.forget(step.path)

    def _put_back(self, steps: Iterable[_Step]) -> None:
        settle({step.path: self._rename(step.slot, step.path) for step in steps})

    def _withdraw(self, steps: Sequence[_Step]) -> None:
        """Take away what has just arrived, if it is still ours; what is not goes back, or is a version."""
        later = {step.path: step.slot + ".later" for step in steps}
        taken = settle({path: self._aside(path, name) for path, name in later.items()})
        there = self._look.look([later[path] for path, answer in taken.items() if answer is None])
        ending: dict[RelPath, Pending[None]] = {}
        for step in steps:
            name = later[step.path]
            if name in there:
                ours = there[name] == step.change.new
                ending[name] = self._sftp.remove(self._at(name)) if ours else self._rename(name, step.path)
        settle(ending)

    def _verify_replaced(self, steps: Sequence[_Step]) -> None:
        """What was moved aside must be what was to be replaced; else it goes back to its place."""
        there = self._look.look([step.slot for step in steps])
        wrong = [step for step in steps if there[step.slot] != step.change.old]
        self._withdraw(wrong)
        self._look_aside(wrong)

    # ------------------------------------------------------------ outcomes

    def _conclude(self, steps: Sequence[_Step], answers: Mapping[RelPath, object]) -> None:
        """Say of each what is there now."""
        for step in steps:
            self._look.forget(step.path)
        failed = [step for step in steps if answers.get(step.path, OSError()) is not None]
        now = self._look.look([step.path for step in failed])
        for step in steps:
            if step not in failed:
                self._outcomes[step.path] = Outcome(step.path, True, step.change.new)
                continue
            found, error = now[step.path], answers.get(step.path)
            if found == step.change.old and isinstance(error, OSError):
                self._problem(step.path, told(error))
            else:
                self._say(step.path, found, done=found == step.change.new)

    def _say(self, path: RelPath, found: Found, *, done: bool) -> None:
        if isinstance(found, str):
            self._problem(path, found)
        else:
            self._outcomes[path] = Outcome(path, done, found)

    def _problem(self, path: RelPath, why: str) -> None:
        self._outcomes[path] = Outcome(path, False, None, why)

    # ------------------------------------------------------------ names

    def _at(self, path: RelPath) -> bytes:
        return self._look.path(path)

    def _rename(self, old: RelPath, new: RelPath) -> Pending[None]:
        return self._sftp.rename(self._at(old), self._at(new))

    def _aside(self, path: RelPath, slot: RelPath) -> Pending[None]:
        """Into a name that is ours alone. In one step where the server can: its plain rename links the
        new name and then removes whatever the old one names by then."""
        if _POSIX_RENAME in self._sftp.extensions:
            return self._sftp.replace(self._at(path), self._at(slot))
        return self._rename(path, slot)


def _only_mode(change: Change) -> bool:
    old, new = change.old, change.new
    return isinstance(old, File) and isinstance(new, File) and old.digest == new.digest


def _refusals(steps: Iterable[Pending[None]]) -> list[OSError | None]:
    return list(settle({str(number): step for number, step in enumerate(steps)}).values())


def _permissions(mode: int, leaf: Leaf | None) -> int:
    """The mode bits with the executable bit as wanted: for everybody who may read, as git does."""
    mode &= 0o777
    executable = isinstance(leaf, File) and leaf.executable
    return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
