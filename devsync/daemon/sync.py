"""The sync loop: hints and requests in, cycles out. Owns the store, the ancestor and both replicas."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, Protocol

from devsync.core.reconcile import Mode
from devsync.core.safety import Deletions
from devsync.core.snapshot import ROOT, WRITING, RelPath, within
from devsync.daemon.arrivals import Arrivals
from devsync.daemon.board import Board, SyncFacts
from devsync.daemon.engine import LOCAL, REMOTE, Engine, Memory, Permission, Result
from devsync.daemon.guard import Guard, summed
from devsync.daemon.identity import BEAT
from devsync.daemon.inbox import EVERYTHING, Inbox, Synchronised, Work
from devsync.daemon.keeping import DAY, tidy
from devsync.daemon.merging import Merging
from devsync.daemon.steady import Disturbed, Git, Steady
from devsync.ports import Clock, DevsyncError, Halted, NeedsUser, Replica, Rules, Unavailable

log = logging.getLogger(__name__)

FULL_LOOK = 300.0
"""Seconds between two looks at everything, which heal hints that were lost."""

RETRY = 0.3
"""Seconds until a path that could not be dealt with, or is still being written, is looked at again."""

ROUNDS = 20
"""Cycles after which a barrier gives up on files that never keep still."""

PAUSE = 0.02
"""Seconds before the second of them; each time as many more."""


MARK = "commit"
"""The fact under which the store keeps the commit of the last full cycle."""


class RulesSource(Protocol):
    """What is mirrored, and when to ask again."""

    def load(self) -> Rules: ...

    def governs(self, path: RelPath) -> bool:
        """Whether a change of `path` can change the rules."""

    def fingerprint(self) -> object:
        """Differs whenever an input of the rules outside the mirrored files has changed."""

    def deleted_by_git(self) -> Collection[RelPath]:
        """The paths that git itself has removed since the last `mark`."""

    def mark(self) -> str | None:
        """A full cycle has ended: from here on count what git removes. A name for this point, or None."""

    def busy(self) -> bool:
        """Whether git holds its index just now."""


class FollowsRules(Protocol):
    """A watcher, which prunes what is ignored."""

    def set_rules(self, rules: Rules) -> None: ...


@dataclass(frozen=True)
class SyncPolicy:
    """The part of the configuration that the loop obeys; `max_deletions` is a share from 0 to 1.

    Old versions are kept for `keep` seconds, as long as they are no more than `keep_size` bytes.
    """

    mode: Mode
    max_deletions: float
    guard: Guard | None = None
    arrivals: Arrivals | None = None
    keep: float = 30 * DAY
    keep_size: int = 5 << 30
    claimant: str = "another devsync"
    """What others are told of who has the folders: this project's computer and folder."""

    unnoticed: Callable[[RelPath], bool] = lambda _: False
    """Whether a change of this path is no sign of work."""

    merging: Merging | None = None


class SyncLoop:
    """The service that synchronises. `activity(side)` is told of edits that were not devsync's own."""

    name = "sync"

    def __init__(
        self,
        *,
        open_remote: Callable[[threading.Event], Replica],
        local: Replica,
        memory: Memory,
        rules: RulesSource,
        watchers: Collection[FollowsRules],
        inbox: Inbox,
        board: Board,
        policy: SyncPolicy,
        clock: Clock,
        activity: Callable[[str], None],
        permission: Permission,
    ) -> None:
        self._open_remote, self._local, self._memory = open_remote, local, memory
        self._rules, self._watchers, self._inbox = rules, watchers, inbox
        self._board, self._policy, self._clock, self._activity = board, policy, clock, activity
        self._permission = permission
        self._remote: Replica | None = None
        self._facts = SyncFacts(mode=policy.mode.value)
        self._fingerprint: object = None
        self._current: Rules | None = None
        self._next_full = self._next_tidy = 0.0
        self._retry: set[RelPath] = set()
        self._problems: dict[RelPath, str] = {}
        self._held: dict[RelPath, str] = {}  # shown with the problems, and never tried again
        self._unseen: set[RelPath] = set()  # the problems that are of looking, not of changing
        self._whole = 0  # full cycles that left nothing undone
        self._deletions = {LOCAL: Deletions(), REMOTE: Deletions()}
        self._git = Git(rules, clock)
        self._resting = False  # waits for hints, and no replica is asked anything

    # ------------------------------------------------------------ the service

    def run(self, stop: threading.Event) -> None:
        """Synchronise until `stop`. Begins with a look at everything, however it was interrupted before."""
        self._post(activity="connecting")
        try:
            remote = self._remote = self._open_remote(stop)
            try:
                engine = self._begin(remote)
                self._inbox.block(None)
                self._board.trouble(self.name, None)
                while not stop.is_set():
                    self._turn(engine, stop)
            finally:
                self._remote = None
                remote.close()
                self._post(pending=0, in_flight=0)
        except Unavailable:
            self._post(activity="connecting")
            raise
        except NeedsUser as error:
            self._post(halted=error.message if isinstance(error, Halted) else None, activity="halted")
            self._inbox.block(error)
            raise

    def interrupt(self) -> None:
        """Called by the supervisor from its own thread."""
        remote = self._remote
        if remote is not None and not self._resting:
            remote.interrupt()
            if self._policy.merging is not None:
                self._policy.merging.interrupt()
        self._inbox.wake()

    def _begin(self, remote: Replica) -> Engine:
        self._post(activity="synchronising", halted=None)
        engine = Engine(
            self._memory,
            Steady(self._local, lambda: self._git.disturbed(self._fingerprint)),
            remote,
            mode=self._policy.mode,
            max_deletions=self._policy.max_deletions,
            explain=self._rules.deleted_by_git,
            meter=self,
            clock=self._clock.monotonic,
            guard=self._policy.guard,
            arrivals=self._policy.arrivals,
            deletions=self._deletions,
            merging=self._policy.merging,
            claimant=self._policy.claimant,
        )
        self._permission |= self._inbox.permissions()
        engine.identify(self._permission)
        self._current = None
        self._read_rules(remote)
        self._next_full = 0.0
        return engine

    # ------------------------------------------------------------ one turn

    def _turn(self, engine: Engine, stop: threading.Event) -> None:
        now = self._clock.monotonic()
        pause = min(RETRY, self._next_full - now) if self._retry else self._next_full - now
        merging = self._policy.merging
        if merging is not None and merging.owes():
            merging.keep()
            pause = min(pause, PAUSE)
        self._resting = True
        work = self._inbox.take(max(0.0, min(pause, BEAT)))
        self._resting = False  # RACE: before it looks at `stop`, as `interrupt` looks at both the other way
        if stop.is_set():
            return
        engine.beat()
        work.local |= self._retry
        work.remote |= self._retry
        self._retry = set()
        if self._clock.monotonic() >= self._next_full or work.requests:
            work.local, work.remote = {ROOT}, {ROOT}
        try:
            self._work(engine, work, stop)
        except BaseException:
            self._inbox.give_back(work)
            raise

    def _work(self, engine: Engine, work: Work, stop: threading.Event) -> None:
        rounds = 0
        while work.local or work.remote:
            if stop.is_set():
                self._inbox.give_back(work)  # whoever waits must not be told that it is done
                return
            if self._git.wait(stop):
                work.local, work.remote = {ROOT}, {ROOT}  # the hints of what it did are still coming
            self._refresh_rules(work)
            if ROOT in work.local or ROOT in work.remote:
                self._post(activity="synchronising")
            try:
                result = self._cycle(engine, work)
            except Disturbed:
                work.local, work.remote = {ROOT}, {ROOT}
                continue
            self._keep(engine, work, result)
            rounds += 1
            waited_for = bool(work.requests) and rounds < ROUNDS
            soon = result.later | result.writing if waited_for else frozenset()
            work.local = set(result.again | soon)
            work.remote = set(work.local)
            if soon:
                stop.wait(PAUSE * rounds)
            if rounds >= ROUNDS:
                self._retry |= work.local
                work.local, work.remote = set(), set()
        self._post(activity="watching", synchronised=self._whole)
        self._answer(engine, work)

    def _cycle(self, engine: Engine, work: Work) -> Result:
        full_local, full_remote = ROOT in work.local, ROOT in work.remote
        permission = reduce(or_, (request.permission for request in work.requests), self._permission)
        result = engine.cycle(
            None if full_local else work.local,
            None if full_remote else work.remote,
            permission=permission,
        )
        self._note(engine, result)
        if full_local and full_remote:
            self._permission = Permission()
            self._next_full = self._clock.monotonic() + FULL_LOOK
            self._mark()
            self._tidy(engine)
            if result.complete:
                self._whole += 1
        self._post(
            pending=len(result.again) + len(result.later),
            last_sync=self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        self._tell(engine)
        return result

    def _tell(self, engine: Engine) -> None:
        """Say what the engine knows by now; what it has begun to hold back is logged once."""
        shown = summed(engine.held)
        for path, why in shown.items():
            if path not in self._held:
                log.warning("%s: %s", ascii(path), why)
        self._held = shown
        self._post(
            files=len(engine.ancestor),
            in_flight=0,
            conflicts=len(engine.conflicts),
            held=len(engine.held),
            skipped=sum(map(len, engine.skipped.values())),
        )

    def _mark(self) -> None:
        """Remember the commit up to which git's deletions are known: a branch may change while we are off."""
        marked = self._rules.mark() or ""
        if marked != self._memory.fact(MARK):
            self._memory.set_fact(MARK, marked)

    def _tidy(self, engine: Engine) -> None:
        """At the start and once a day."""
        now = self._clock.monotonic()
        if now >= self._next_tidy:
            self._next_tidy = now + DAY
            if self._policy.merging is not None:
                self._policy.merging.tidy(engine.ancestor.leaves)
            tidy(engine.sides, self._policy.keep, self._policy.keep_size)

    def _note(self, engine: Engine, result: Result) -> None:
        plan = result.plan
        # What cannot be carried over is tried again and again, and is no sign of work.
        for side, changes in (("local", plan.to_remote), ("remote", plan.to_local)):
            agreed = (path for path, _ in plan.agreed)
            carried = (change.path for change in changes if change.path not in result.problems)
            if not all(map(self._policy.unnoticed, chain(agreed, carried))):
                self._activity(f"{side}-edits")
        if plan.to_local or plan.to_remote:
            log.info(
                "synchronised: %d here, %d on the machine, %d conflicts",
                len(plan.to_local),
                len(plan.to_remote),
                len(engine.conflicts),
            )

    def _keep(self, engine: Engine, work: Work, result: Result) -> None:
        """Take over the problems of what was looked at. A new one gets one more look soon.

        After that hints and the full look decide.
        """
        everything = ROOT in work.local and ROOT in work.remote
        looked = EVERYTHING if everything else (work.local | work.remote) - EVERYTHING
        fresh = {path: why for path, why in result.problems.items() if self._problems.get(path) != why}
        for path, why in fresh.items():
            log.warning("%s: %s", ascii(path), why)
        kept = {path: why for path, why in self._problems.items() if not within(path, looked)}
        self._problems = {**kept, **result.problems}
        self._unseen = self._unseen.intersection(kept).union(engine.unknown)
        waiting = {path for path in self._retry if not within(path, looked)}
        self._retry = waiting.union(result.later, result.writing, fresh)
        self._post(problems={**self._problems, **self._held})

    def _answer(self, engine: Engine, work: Work) -> None:
        left = {**dict.fromkeys(self._retry, "keeps changing"), **self._problems}
        # What cannot be seen and never was on both sides (a link that leads out of the root) is no news.
        unsettled = {
            path: why
            for path, why in left.items()
            if path not in self._unseen or why == WRITING or engine.ancestor.region([path])
        }
        for request in work.requests:
            if request.task is None:
                request.reply.set_result(Synchronised(tuple(sorted(engine.conflicts)), unsettled))
            else:
                self._perform(engine, request.task, request.reply)

    def _perform(self, engine: Engine, task: Callable[[Engine], object], reply: Future[Any]) -> None:
        """What somebody asked for besides. A lost link ends the asking, and this loop as well."""
        try:
            reply.set_result(task(engine))
        except (Unavailable, NeedsUser) as error:
            reply.set_exception(error)
            raise
        except DevsyncError as error:
            reply.set_exception(error)
        except Disturbed:
            reply.set_exception(DevsyncError("git was at work just then", hint="ask again"))
        self._tell(engine)

    # ------------------------------------------------------------ rules

    def _refresh_rules(self, work: Work) -> None:
        asked = any(self._rules.governs(path) for path in (*work.local, *work.remote))
        if not asked and self._rules.fingerprint() == self._fingerprint:
            return
        if self._remote is not None and self._read_rules(self._remote):
            work.local, work.remote = {ROOT}, {ROOT}

    def _read_rules(self, remote: Replica) -> bool:
        """Hand out the rules as they are now; whether they have changed."""
        self._fingerprint = self._rules.fingerprint()
        rules = self._rules.load()
        if rules == self._current:
            return False
        self._current = rules
        for follower in (self._local, remote, *self._watchers):
            follower.set_rules(rules)
        return True

    # ------------------------------------------------------------ what is told

    def planned(self, files: int, size: int) -> None:
        """Meter: so many files and bytes are about to move."""
        self._post(pending=files, in_flight=files, planned_bytes=size, moved_bytes=0)

    def moved(self, side: str, size: int) -> None:
        """Meter: so many bytes have moved towards `side`."""
        facts = replace(self._facts, moved_bytes=self._facts.moved_bytes + size)
        if side == "local":
            self._facts = replace(facts, downloaded_bytes=facts.downloaded_bytes + size)
        else:
            self._facts = replace(facts, uploaded_bytes=facts.uploaded_bytes + size)
        self._board.post(sync=self._facts)

    def _post(self, **facts: object) -> None:
        self._facts = replace(self._facts, **facts)  # type: ignore[arg-type]  # replace refuses unknown names
        self._board.post(sync=self._facts)
