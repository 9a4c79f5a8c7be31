"""Broken engines, replicas and memories, each in one way that has been seen in a real synchroniser.

Each names the invariants that it is allowed to be caught by; the enumeration must catch every one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from devsync.core import reconcile as core
from devsync.core.reconcile import Verdict
from devsync.core.snapshot import Change, File, Leaf, Outcome, RelPath, Snapshot
from devsync.daemon.carrying import Carrier, Done
from devsync.daemon.engine import Engine
from devsync.ports import ContentChanged, Unavailable
from tests.fakes.memory import Content, MemoryStaging
from tests.model.effects import Ledger, Stepped
from tests.model.model import REFERENCE, Parts


@dataclass(frozen=True)
class Mutant:
    """`patches` are put in place of names of the product, by dotted name."""

    name: str
    broken: str
    parts: Parts = REFERENCE
    patches: Mapping[str, object] = field(default_factory=dict)
    equal_sizes: bool = False


# ---------------------------------------------------------------- memories


class NoIntent(Ledger):
    def begin(self, side: str, changes: Iterable[Change]) -> None:
        self.step("begin")


class NeverSettles(Ledger):
    def settle(
        self, agreed: Sequence[tuple[RelPath, Leaf | None]], ended: Iterable[tuple[str, RelPath]] = ()
    ) -> None:
        super().settle((), ended)


# ---------------------------------------------------------------- engines


class AncestorFirst(Carrier):
    """Remembers what it is about to do as done."""

    def _apply(self, side: str, changes: list[Change]) -> Done:
        self._settle([(change.path, change.new) for change in changes], ())
        return super()._apply(side, changes)


class HalfMerge(Carrier):
    """Keeps the old ancestor when half of a merge was refused."""

    def _conclude(self, outcomes: Done, problems: dict[RelPath, str]) -> set[RelPath]:
        undone = {change.path for _, change, outcome in outcomes if not outcome.done}
        problems.update((change.path, out.problem) for _, change, out in outcomes if out.problem)
        done = [(change.path, change.new) for _, change, _ in outcomes if change.path not in undone]
        self._settle(done, [(side, change.path) for side, change, _ in outcomes])
        return undone - problems.keys()


class UndoneIsDone(Carrier):
    """Does not read the outcomes."""

    def _conclude(self, outcomes: Done, problems: dict[RelPath, str]) -> set[RelPath]:
        done = [(side, change, Outcome(change.path, True, change.new)) for side, change, _ in outcomes]
        return super()._conclude(done, problems)


class PresumesAlways(Engine):
    """Never looks at the machine: it holds what it held."""

    def _look_there(self, scope: set[RelPath] | None, remote: set[RelPath] | None) -> Snapshot:
        return super()._look_there(scope, set())


class IntentMeansDone(Engine):
    """After a crash, takes every change that was begun for made."""

    def _recover(self, looks: Mapping[str, Snapshot]) -> None:
        self._settle(
            [(change.path, change.new) for _, change in self._intents],
            [(side, change.path) for side, change in self._intents],
        )
        self._intents = []


# ---------------------------------------------------------------- policies


core_decide = core.decide


def delete_wins(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    verdict = core_decide(ancestor, local, remote)
    if verdict is Verdict.TAKE_REMOTE and local is None and ancestor is not None:
        return Verdict.TAKE_LOCAL
    if verdict is Verdict.TAKE_LOCAL and remote is None and ancestor is not None:
        return Verdict.TAKE_REMOTE
    return verdict


def newest_wins(ancestor: Leaf | None, local: Leaf | None, remote: Leaf | None) -> Verdict:
    verdict = core_decide(ancestor, local, remote)
    return Verdict.TAKE_LOCAL if verdict is Verdict.CONFLICT else verdict


# ---------------------------------------------------------------- replicas


class Blind(Stepped):
    """Can do a change without asking what is there."""

    def force(self, change: Change) -> Outcome:
        arriving = self._arriving(self.entries.get(change.path), change.new)
        if isinstance(arriving, str):
            return Outcome(change.path, False, None, arriving)
        if arriving is None:
            self.entries.pop(change.path, None)
        else:
            self.entries[change.path] = arriving
        return Outcome(change.path, True, change.new)

    def now(self, path: RelPath) -> Leaf | None:
        entry = self.entries.get(path)
        return entry.leaf() if isinstance(entry, Content) else entry


class IgnoresPrecondition(Blind):
    def commit(self, change: Change) -> Outcome:
        return self.force(change)


class ClobberingCreate(Blind):
    """A new file is renamed over whatever has appeared there."""

    def commit(self, change: Change) -> Outcome:
        return self.force(change) if change.old is None else super().commit(change)


class CheckThenRename(Blind):
    """Looks, keeps a copy of what it saw, and renames over it a moment later."""

    def commit(self, change: Change) -> Outcome:
        if change.new is None or self.now(change.path) != change.old or change.old is None:
            return super().commit(change)
        self.trash.append((change.path, self.entries[change.path]))
        self.step("rename")
        return self.force(change)


class NoRecheck(Blind):
    """Looks, and deletes a moment later."""

    def commit(self, change: Change) -> Outcome:
        if change.new is not None or self.now(change.path) != change.old:
            return super().commit(change)
        self.trash.append((change.path, self.entries[change.path]))
        self.step("unlink")
        return self.force(change)


class NoTrash(Stepped):
    def commit(self, change: Change) -> Outcome:
        kept = len(self.trash)
        outcome = super().commit(change)
        del self.trash[kept:]
        return outcome


class SaysDone(Stepped):
    """Answers that a change is made although it was refused."""

    def commit(self, change: Change) -> Outcome:
        super().commit(change)
        return Outcome(change.path, True, change.new)


class DownIsEmpty(Stepped):
    """A listing that fails shows nothing."""

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        try:
            return super().scan(scope)
        except Unavailable:
            return Snapshot({})


class StatCache(Stepped):
    """Knows a file again by its size."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]  # passed through as they come
        self._cache: dict[tuple[RelPath, int, bool], Leaf] = {}

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        found = super().scan(scope)
        return Snapshot(
            {path: self._known(path, leaf) for path, leaf in found.leaves.items()}, found.problems
        )

    def _known(self, path: RelPath, leaf: Leaf) -> Leaf:
        if not isinstance(leaf, File):
            return leaf
        return self._cache.setdefault((path, leaf.size, leaf.executable), leaf)


class TornRead(Stepped):
    """Takes what was read for what was announced."""

    def staging(self) -> MemoryStaging:
        staged = self._staged

        class Lax(MemoryStaging):
            def put(self, file: File, chunks: Iterable[bytes]) -> None:
                with suppress(ContentChanged, OSError):
                    staged[file.digest] = b"".join(chunks)

        return Lax(staged)

    def commit(self, change: Change) -> Outcome:
        torn = self._torn(change)
        if torn is None or self.entries.get(change.path) is not None:
            return super().commit(change)
        self.entries[change.path] = torn
        return Outcome(change.path, True, change.new)

    def _torn(self, change: Change) -> Content | None:
        if not isinstance(change.new, File):
            return None
        data = self._staged.get(change.new.digest, b"")
        return Content(data) if hashlib.sha256(data).hexdigest() != change.new.digest else None


POLICY = "devsync.core.reconcile.decide"
CARRIER = "devsync.daemon.engine.Carrier"

MUTANTS = [
    Mutant("no_intent", "cause", Parts(ledger=NoIntent)),
    Mutant("never_settles", "memory", Parts(ledger=NeverSettles)),
    Mutant("ancestor_first", "cause", patches={CARRIER: AncestorFirst}),
    Mutant("half_merge", "merge", patches={CARRIER: HalfMerge}),
    Mutant("undone_is_done", "cause", patches={CARRIER: UndoneIsDone}),
    Mutant("presume_always", "convergence", Parts(engine=PresumesAlways)),
    Mutant("intent_means_done", "cause", Parts(engine=IntentMeansDone)),
    Mutant("delete_wins", "merge", patches={POLICY: delete_wins}),
    Mutant("newest_wins", "merge", patches={POLICY: newest_wins}),
    Mutant("ignore_precondition", "lost", Parts(replica=IgnoresPrecondition)),
    Mutant("clobber_create", "lost", Parts(replica=ClobberingCreate)),
    Mutant("check_then_rename", "lost", Parts(replica=CheckThenRename)),
    Mutant("no_recheck", "lost", Parts(replica=NoRecheck)),
    Mutant("no_trash", "lost", Parts(replica=NoTrash)),
    Mutant("says_done", "merge", Parts(replica=SaysDone)),
    Mutant("down_is_empty", "cause", Parts(replica=DownIsEmpty)),
    Mutant("stat_cache", "convergence", Parts(replica=StatCache), equal_sizes=True),
    Mutant("torn_read", "invented", Parts(replica=TornRead)),
]
