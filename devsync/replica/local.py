"""The side of this computer: a folder on its disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from devsync import ports
from devsync.core.ignore import Rules
from devsync.core.names import Naming
from devsync.core.older import Expecting, Yielding
from devsync.core.snapshot import Change, Digest, File, Leaf, Outcome, RelPath, Snapshot
from devsync.core.version import Version
from devsync.replica import trash
from devsync.replica.arrival import Arrival
from devsync.replica.commit import Step, no_step
from devsync.replica.delta import FROM
from devsync.replica.digests import BLOCK, Digests, open_file, signature
from devsync.replica.home import Home
from devsync.replica.naming import probe
from devsync.replica.older import Older
from devsync.replica.owner import Taken
from devsync.replica.tree import Tree
from devsync.replica.walk import Blocked, RootGone, open_root, parent, told


class LocalReplica:
    """Implements ports.Replica over a folder. A store may fill `digests` and ask it for its changes."""

    def __init__(
        self,
        root: Path,
        digests: Digests | None = None,
        *,
        create: bool = False,
        step: Step = no_step,
    ) -> None:
        """A root that is gone is Halted, now or later."""
        self.root = root
        self.tree = Tree(str(root), digests, step)
        self._rules = Rules()
        if create:
            root.mkdir(parents=True, exist_ok=True)
        with _translated(), self.tree.home():
            pass  # made now, so that whatever is wrong with the folder is known at once

    def claim(self, owner: str, name: str, *, take_over: bool) -> None:
        with _translated():
            self.tree.claim(owner, name, take_over)

    def beat(self) -> None:
        with _translated():
            self.tree.beat()

    def set_rules(self, rules: ports.Rules) -> None:
        self._rules = rules if isinstance(rules, Rules) else Rules.from_json(rules.to_json())

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        with _translated():
            return self.tree.scan(self._rules, scope)

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: ports.Staging) -> None:
        # Asked once, not for each file: of a protocol that is a long question.
        expecting = staging if isinstance(staging, Expecting) else None
        yielding = staging if isinstance(staging, Yielding) else None
        if expecting is not None:
            expecting.expect(wanted)
        for path, file in wanted:
            if yielding is not None and yielding.over():
                raise ports.PutOff
            start = expecting.begun(file) if expecting is not None else 0
            staging.put(file, _content(self.tree.root, path, file, start))

    def staging(self) -> LocalStaging:
        return LocalStaging(self.tree)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        with _translated():
            return self.tree.commit(changes)

    def marker(self) -> Mapping[str, object] | None:
        with _translated():
            return self.tree.marker()

    def write_marker(self, marker: Mapping[str, object]) -> None:
        with _translated(), self.tree.owned() as home:
            home.write_marker(marker)

    def naming(self) -> Naming:
        """How this file system takes names."""
        with _translated(), self.tree.home() as home:
            return probe(home)

    def versions(self) -> list[Version]:
        """What is in the trash, the oldest first."""
        with _translated(), self.tree.home() as home:
            return trash.versions(home, self.tree.digests)

    def restage(self, version: str) -> Leaf:
        """Stage an old version and say what it is: a Change to it can then be applied."""
        with _translated():
            return self.tree.restage(version)

    def prune_trash(self, days: float = trash.DAYS, size: int = trash.SIZE) -> int:
        """Throw away versions older than `days`, and the oldest beyond `size` bytes."""
        with _translated(), self.tree.owned() as home:
            return trash.prune(home, self.tree.root, days, size)

    def interrupt(self) -> None:
        """A disk does not block for long."""

    def close(self) -> None:
        self.tree.release()


class LocalStaging:
    """Contents on their way to `.devsync/tmp`, hashed as they are written; a core.older.Assembling."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._there: set[Digest] = set()
        self._starts: dict[Digest, int] = {}
        self._problems: dict[Digest, str] = {}

    def basis(self, path: RelPath, file: File) -> LocalBasis | None:
        if file.digest in self._there:
            return None
        try:
            with _translated_root(), self._tree.home() as home:
                start = min(home.part(file.digest), file.size)
                older = _older(home, path)
        except OSError:
            return None
        if not start and older is None:
            return None
        self._starts[file.digest] = start
        return LocalBasis(start, older)

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        if file.digest in self._there:
            return
        start = self._starts.pop(file.digest, 0)
        try:
            with _translated_root(), self._tree.home() as home:
                problem = _receive(home, file, start, chunks)
        except (ports.ContentChanged, Blocked) as error:
            problem = str(error) or "it changed while it was read"
        except OSError as error:
            problem = told(error)
        if problem:
            self._problems[file.digest] = problem
        else:
            self._there.add(file.digest)
            self._problems.pop(file.digest, None)

    def finish(self) -> Mapping[Digest, str]:
        return self._problems


class LocalBasis:
    """Implements core.older.Basis."""

    def __init__(self, start: int, older: Older | None) -> None:
        self.start = start
        self._older = older

    def blocks(self) -> list[object] | None:
        try:
            return None if self._older is None else self._older.blocks().to_json()
        except (OSError, ValueError):
            return None

    def part(self, start: int, size: int) -> Iterator[bytes]:
        try:
            if self._older is None:
                raise Blocked("there is no older version")
            yield from self._older.part(start, size)
        except (OSError, Blocked) as error:
            raise ports.ContentChanged(str(error)) from error

    def close(self) -> None:
        if self._older is not None:
            self._older.close()


def _older(home: Home, path: RelPath) -> Older | None:
    try:
        older = Older(home.root, path)
    except (OSError, Blocked):
        return None
    if older.size >= FROM:
        return older
    older.close()
    return None


def _receive(home: Home, file: File, start: int, chunks: Iterable[bytes]) -> str:
    """Write a content, from `start` on; why it is not there in the end, or nothing."""
    with Arrival(home, file.digest, file.size, start) as arrival:
        try:
            for chunk in chunks:
                home.step("stage", file.digest)
                arrival.write(chunk)
        except ports.PutOff:
            raise
        except ports.ContentChanged:
            arrival.spoil()
            raise
        return "" if arrival.finish() else "it arrived damaged, or changed meanwhile"


def _content(root: str, path: RelPath, file: File, start: int) -> Iterator[bytes]:
    """The content of `path` from `start` on. ContentChanged, at the latest at its end, if it is not `file`.

    Behind a beginning that is not read, the digest is for the receiving side to compare.
    """
    try:
        handle = open_root(root)
        try:
            with parent(handle, path) as (folder, name):
                descriptor = open_file(folder, name)
        finally:
            os.close(handle)
    except (RootGone, Blocked, FileNotFoundError) as error:
        raise ports.ContentChanged(f"{path}: is not there any more") from error
    with os.fdopen(descriptor, "rb", buffering=0) as source:
        seen = signature(os.fstat(source.fileno()))
        digest, left = hashlib.sha256(), file.size - start
        source.seek(start)
        while seen[0] == file.size and (block := source.read(min(BLOCK, left + 1))):
            left -= len(block)
            if left < 0:
                break  # it grows, perhaps faster than it can be sent
            digest.update(block)
            yield block
        whole = not left if start else digest.hexdigest() == file.digest
        if not whole or signature(os.fstat(source.fileno())) != seen:
            raise ports.ContentChanged(f"{path}: changed while it was read")


class _translated_root:
    """A root that is gone, or somebody else's, is a safety stop."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RootGone):
            raise ports.Halted(
                str(error), hint="bring it back, or start again from an empty folder"
            ) from error
        if isinstance(error, Taken):
            raise ports.Owned(f"the project folder {error}") from error


class _translated(_translated_root):
    """And what else goes wrong with a whole folder is an error for the user."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, Blocked):
            raise ports.DevsyncError(str(error)) from error
        if isinstance(error, OSError):
            raise ports.DevsyncError(f"the project folder cannot be used: {told(error)}") from error
        if isinstance(error, ValueError):
            raise ports.Halted(
                f"{error}: .devsync/replica.json", hint="remove it to pair the folders anew"
            ) from error
