"""Holds back what nobody can have meant to be mirrored: giants, floods of new files, mass rewrites.

What is held back waits, and all other paths go on. Nothing of it is held against a project's first
meeting, apart from giants. Owned by the thread that synchronises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from devsync.core.quantity import show_size
from devsync.core.reconcile import Plan
from devsync.core.safety import WINDOW
from devsync.core.snapshot import Digest, File, Leaf, RelPath
from devsync.daemon.storms import LOCAL, REMOTE

FILES = 80_000
"""So many new files a side may get within the window, however small they are."""

FREE_REWRITES = 100
"""So many of git's files may be rewritten on the machine within the window, however few there are."""

REWRITES = 0.5
"""The part of git's files that may be rewritten there within the window."""

ACCEPT = "let it come with: devsync start --accept-arrivals"
PLACES = {LOCAL: "come here", REMOTE: "go to the machine"}

Files = Mapping[RelPath, File]


@dataclass(frozen=True)
class Limits:
    """Bytes of one new file, and of all that are new on a side within the window; how many files."""

    file: int = 2 << 30
    size: int = 10 << 30
    files: int = FILES


class Arrivals:
    """Says which arrivals are held back, and why. `tracked` names the paths that git keeps here."""

    def __init__(self, limits: Limits, tracked: Callable[[], Collection[RelPath]]) -> None:
        self._limits, self._tracked = limits, tracked
        self._new = {LOCAL: _Flow(), REMOTE: _Flow()}
        self._rewritten = _Flow()

    def allow(self) -> None:
        """What waits may come."""
        for flow in (*self._new.values(), self._rewritten):
            flow.waiting = {}

    def held(
        self, plan: Plan, agreed: Mapping[RelPath, Leaf], now: float, *, first: bool, everything: bool
    ) -> dict[RelPath, str]:
        """Of a plan's changes: path -> why it is held back.

        `first`: the sides have not met before, so that all is new. `everything`: the plan is of a look
        at everything.
        """
        known = _Known(self._tracked, agreed)
        reasons: dict[RelPath, str] = {}
        for side, changes in ((LOCAL, plan.to_local), (REMOTE, plan.to_remote)):
            new = {
                change.path: change.new
                for change in changes
                if change.old is None and isinstance(change.new, File) and change.path not in agreed
            }
            giants = self._giants(new, known)
            reasons.update(giants)
            if not first:
                rest = {path: file for path, file in new.items() if path not in giants}
                reasons.update(self._flood(side, rest, known, now, everything))
        if not first:
            reasons.update(self._rewrites(plan, known, now, everything))
        return reasons

    def _giants(self, new: Files, known: _Known) -> dict[RelPath, str]:
        return {
            path: f"is new and {show_size(file.size)} large (sync.max_file): not mirrored; ignore it, or "
            + ACCEPT
            for path, file in new.items()
            if file.size > self._limits.file and not known.explains(path, file)
        }

    def _flood(
        self, side: str, new: Files, known: _Known, now: float, everything: bool
    ) -> dict[RelPath, str]:
        def exceeded(files: Collection[File]) -> bool:
            return len(files) > self._limits.files or sum(file.size for file in files) > self._limits.size

        limit = _Limit(exceeded, lambda path, file: not known.explains(path, file))
        held = self._new[side].judge(new, now, limit, everything)
        size = show_size(sum(file.size for file in held.values()))
        why = (
            f"{len(held)} new files, {size}, would {PLACES[side]} (sync.max_arrivals): not mirrored; "
            f"ignore what is not wanted, or {ACCEPT}"
        )
        return dict.fromkeys(held, why)

    def _rewrites(self, plan: Plan, known: _Known, now: float, everything: bool) -> dict[RelPath, str]:
        def exceeded(files: Collection[File]) -> bool:
            return len(files) > FREE_REWRITES and len(files) > REWRITES * len(known.tracked)

        rewritten = {
            change.path: change.new
            for change in plan.to_local
            if isinstance(change.old, File)
            and isinstance(change.new, File)
            and change.old.digest != change.new.digest
        }
        limit = _Limit(exceeded, lambda path, _: path in known.tracked)
        held = self._rewritten.judge(rewritten, now, limit, everything)
        why = (
            f"{len(held)} files that git keeps were rewritten on the machine: "
            f"here they are as they were; {ACCEPT}"
        )
        return dict.fromkeys(held, why)


class _Known:
    """What explains that something is new; asked only when it matters."""

    def __init__(self, tracked: Callable[[], Collection[RelPath]], agreed: Mapping[RelPath, Leaf]) -> None:
        self._ask, self._agreed = tracked, agreed

    @cached_property
    def tracked(self) -> frozenset[RelPath]:
        """What git keeps."""
        return frozenset(self._ask())

    @cached_property
    def contents(self) -> frozenset[Digest]:
        """What is on both sides, under whatever name: it was moved or copied."""
        return frozenset(leaf.digest for leaf in self._agreed.values() if isinstance(leaf, File))

    def explains(self, path: RelPath, file: File | None) -> bool:
        """Whether a new file needs no further reason; without `file`, by its path alone."""
        if path in self.tracked:
            return True
        return file is not None and file.size > 0 and file.digest in self.contents


class _Limit(NamedTuple):
    """How many are too many, and which of them count; what passed before is judged by its path alone."""

    exceeded: Callable[[Collection[File]], bool]
    counts: Callable[[RelPath, File | None], bool]


class _Flow:
    """What passed in one direction within the window, and what waits."""

    def __init__(self) -> None:
        self._passed: dict[RelPath, tuple[float, File]] = {}  # the oldest first
        self.waiting: dict[RelPath, File] = {}

    def judge(self, files: Files, now: float, limit: _Limit, everything: bool) -> Files:
        """The part of `files` that has to wait.

        What waits already is judged by itself, so that something new need not wait for it.
        """
        self._forget(now)
        if everything:
            self.waiting = {path: file for path, file in files.items() if path in self.waiting}
        held = self._surplus(files, limit) if files else {}
        for path, file in files.items():
            self.waiting.pop(path, None)
            if path not in held:
                self._passed.pop(path, None)
                self._passed[path] = (now, file)
        self.waiting.update(held)
        return held

    def _forget(self, now: float) -> None:
        """What has left the window."""
        while self._passed:
            path = next(iter(self._passed))
            if now - self._passed[path][0] < WINDOW:
                break
            del self._passed[path]

    def _surplus(self, files: Files, limit: _Limit) -> Files:
        earlier = {path: file for path, (_, file) in self._passed.items() if path not in files}
        if self.waiting.keys().isdisjoint(files) and not limit.exceeded([*earlier.values(), *files.values()]):
            return {}  # however little explains them
        before = [file for path, file in earlier.items() if limit.counts(path, None)]
        suspects = {path: file for path, file in files.items() if limit.counts(path, file)}
        old = {path: file for path, file in suspects.items() if path in self.waiting}
        fresh = {path: file for path, file in suspects.items() if path not in self.waiting}
        held: dict[RelPath, File] = {}
        if old and limit.exceeded([*before, *{**self.waiting, **old}.values()]):
            held.update(old)
        if fresh and limit.exceeded([*before, *fresh.values()]):
            held.update(fresh)
        return held
