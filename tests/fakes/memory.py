"""A replica in memory: keeps every promise of the contract, forgets everything at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from devsync import ports
from devsync.core.ignore import Rules
from devsync.core.older import Yielding
from devsync.core.snapshot import (
    ROOT,
    Change,
    Digest,
    File,
    Leaf,
    Link,
    Outcome,
    RelPath,
    Snapshot,
    parents,
    within,
)
from devsync.replica.owner import Claim, Taken, check, succeed
from devsync.replica.walk import RootGone, leaf_refusal, link_refusal


@dataclass(frozen=True)
class Content:
    """A file in memory."""

    data: bytes
    executable: bool = False

    def leaf(self) -> File:
        return File(hashlib.sha256(self.data).hexdigest(), len(self.data), self.executable)


@dataclass
class Lease:
    """Whose folder it is, for every replica of it. `now` is the time of this side."""

    claim: Claim | None = None
    now: float = 1_000_000.0


class MemoryReplica:
    """`entries` is the tree, for a test to edit as a user would; `trash` what was replaced or deleted.

    `beside` is another replica of the same folder.
    """

    def __init__(
        self,
        entries: Mapping[RelPath, Content | Link] | None = None,
        beside: MemoryReplica | None = None,
    ) -> None:
        self.entries: dict[RelPath, Content | Link] = beside.entries if beside else dict(entries or {})
        self.trash: list[tuple[RelPath, Content | Link]] = beside.trash if beside else []
        self.lease: Lease = beside.lease if beside else Lease()
        self.unreadable: dict[RelPath, str] = {}
        self.gone = False
        self.away = False
        self._rules = Rules()
        self._claim: Claim | None = None
        self._marker: dict[str, object] | None = None
        self._staged: dict[Digest, bytes] = {}

    def claim(self, owner: str, name: str, *, take_over: bool) -> None:
        self._reach()
        try:
            self._claim = self.lease.claim = succeed(self.lease.claim, owner, name, take_over, self.lease.now)
        except Taken as error:
            raise ports.Owned(f"the folder in memory {error}") from error
        self._staged.clear()

    def beat(self) -> None:
        self._reach()
        if self._claim is not None:
            self._hold()
            self.lease.claim = replace(self._claim, beat=self.lease.now)

    def _hold(self) -> None:
        try:
            check(self.lease.claim, self._claim, self.lease.now)
        except Taken as error:
            raise ports.Owned(f"the folder in memory {error}") from error
        except RootGone as error:
            raise ports.Halted(str(error)) from error

    def set_rules(self, rules: ports.Rules) -> None:
        self._rules = Rules.from_json(rules.to_json())

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        self.beat()
        wanted = {ROOT} if scope is None else set(scope)
        leaves: dict[RelPath, Leaf] = {}
        problems: dict[RelPath, str] = {}
        for place, why in self.unreadable.items():
            if within(place, wanted) or any(within(path, {place}) for path in wanted):
                problems[place] = why
        for path, entry in self.entries.items():
            if within(path, problems) or not within(path, wanted) or not self._rules.visible(path, False):
                continue
            why = link_refusal(path, entry.target) if isinstance(entry, Link) else ""
            if why:
                problems[path] = why
            else:
                leaves[path] = _leaf(entry)
        return Snapshot(leaves, problems)

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: ports.Staging) -> None:
        self._reach()
        for path, file in wanted:
            if isinstance(staging, Yielding) and staging.over():
                raise ports.PutOff
            staging.put(file, self._content(path, file))

    def _content(self, path: RelPath, file: File) -> Iterable[bytes]:
        entry = self.entries.get(path)
        if not isinstance(entry, Content) or entry.leaf().digest != file.digest:
            raise ports.ContentChanged(f"{path}: changed")
        yield entry.data

    def staging(self) -> MemoryStaging:
        self._reach()
        return MemoryStaging(self._staged)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self._reach()
        self._hold()
        falling = sorted((c for c in changes if c.new is None), key=lambda change: -change.path.count("/"))
        outcomes = {change.path: self._apply(change) for change in falling}
        outcomes.update({change.path: self._apply(change) for change in changes if change.new is not None})
        for change in changes:
            if isinstance(change.new, File):
                self._staged.pop(change.new.digest, None)
        return [outcomes[change.path] for change in changes]

    def _apply(self, change: Change) -> Outcome:
        path, old, new = change.path, change.old, change.new
        why = leaf_refusal(path, new) or self._in_the_way(path, new)
        if why:
            return Outcome(path, False, None, why)
        entry = self.entries.get(path)
        now = None if entry is None else _leaf(entry)
        if now == new:
            return Outcome(path, True, new)
        if now != old:
            return Outcome(path, False, now)
        arriving = self._arriving(entry, new)
        if isinstance(arriving, str):
            return Outcome(path, False, None, arriving)
        if entry is not None and not (
            isinstance(old, File) and isinstance(new, File) and old.digest == new.digest
        ):
            self.trash.append((path, entry))
        if arriving is None:
            self.entries.pop(path)
        else:
            self.entries[path] = arriving
        return Outcome(path, True, new)

    def _in_the_way(self, path: RelPath, new: Leaf | None) -> str:
        if within(path, self.unreadable):
            return "cannot be read"
        if new is not None and any(above in self.entries for above in parents(path)):
            return "a folder on the way is no folder"
        if new is not None and any(other.startswith(path + "/") for other in self.entries):
            return "a folder is in the way"
        return ""

    def _arriving(self, entry: Content | Link | None, new: Leaf | None) -> Content | Link | str | None:
        if not isinstance(new, File):
            return new
        if isinstance(entry, Content) and entry.leaf().digest == new.digest:
            return Content(entry.data, new.executable)
        data = self._staged.get(new.digest)
        if data is None or hashlib.sha256(data).hexdigest() != new.digest:
            return "its content has not arrived"
        return Content(data, new.executable)

    def marker(self) -> Mapping[str, object] | None:
        self._reach()
        return self._marker

    def write_marker(self, marker: Mapping[str, object]) -> None:
        self._reach()
        self._hold()
        self._marker = dict(marker)

    def interrupt(self) -> None:
        self.away = True

    def close(self) -> None:
        claim, self._claim = self._claim, None
        if claim is not None and self.lease.claim is not None and claim.is_same(self.lease.claim):
            self.lease.claim = replace(claim, beat=0.0)

    def _reach(self) -> None:
        if self.away:
            raise ports.Unavailable("the replica in memory is away")
        if self.gone:
            raise ports.Halted("the replica in memory is gone")


class MemoryStaging:
    """Contents on their way to a replica in memory."""

    def __init__(self, staged: dict[Digest, bytes]) -> None:
        self._staged = staged
        self._problems: dict[Digest, str] = {}

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        try:
            data = b"".join(chunks)
        except (ports.ContentChanged, OSError) as error:
            self._problems[file.digest] = str(error) or "it changed"
            return
        if hashlib.sha256(data).hexdigest() == file.digest:
            self._staged[file.digest] = data
        else:
            self._problems[file.digest] = "it arrived damaged"

    def finish(self) -> Mapping[Digest, str]:
        return self._problems


def _leaf(entry: Content | Link) -> Leaf:
    return entry.leaf() if isinstance(entry, Content) else entry
