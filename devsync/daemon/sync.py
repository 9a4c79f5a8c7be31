"""The sync loop: hints and requests in, cycles out. Owns the store, the ancestor and both replicas."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Protocol

from devsync.core.reconcile import Mode
from devsync.core.safety import Deletions
from devsync.core.snapshot import ROOT, RelPath, within
from devsync.daemon.arrivals import Arrivals
from devsync.daemon.board import Board
from devsync.daemon.engine import LOCAL, REMOTE, Engine, Memory, Permission, Result
from devsync.daemon.guard import Guard
from devsync.daemon.identity import BEAT
from devsync.daemon.inbox import Inbox, Synchronised, Work
from devsync.daemon.keeping import DAY, tidy
from devsync.daemon.merging import Merging
from devsync.daemon.steady import Disturbed, Git, Steady
from devsync.daemon.telling import Telling
from devsync.daemon.unsettled import RETRY, Unsettled
from devsync.ports import Clock, DevsyncError, Halted, NeedsUser, Replica, Rules, Unavailable

log = logging.getLogger(__name__)

FULL_LOOK = 300.0
"""Seconds between two looks at everything, which heal hints that were lost."""

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
        self._board, self._policy, self._clock = board, policy, clock
        self._telling = Telling(board, clock, policy.mode.value, activity, policy.unnoticed)
        self._permission = permission
        self._remote: Replica | None = None
        self._fingerprint: object = None
        self._current: Rules | None = None
        self._next_full = self._next_tidy = 0.0
        self._unsettled = Unsettled()
        self._owed: set[RelPath] = set()  # what of the last look at everything waits to be carried over
        self._ending = False  # whether that is still to come to its end,
        self._counted = True  # and to be counted, once nothing is left undone
        self._whole = 0  # how many were
        self._serving = False  # whether somebody waits for what is being done
        self._deletions = {LOCAL: Deletions(), REMOTE: Deletions()}
        self._git = Git(rules, clock)
        self._resting = False  # waits for hints, and no replica is asked anything

    # ------------------------------------------------------------ the service

    def run(self, stop: threading.Event) -> None:
        """Synchronise until `stop`. Begins with a look at everything, however it was interrupted before."""
        self._telling.post(activity="connecting")
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
                self._telling.post(pending=0, in_flight=0)
        except Unavailable:
            self._telling.post(activity="connecting")
            raise
        except NeedsUser as error:
            self._telling.post(halted=error.message if isinstance(error, Halted) else None, activity="halted")
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
        self._telling.post(activity="synchronising", halted=None)
        engine = Engine(
            self._memory,
            Steady(self._local, lambda: self._git.disturbed(self._fingerprint)),
            remote,
            mode=self._policy.mode,
            max_deletions=self._policy.max_deletions,
            explain=self._rules.deleted_by_git,
            meter=self._telling,
            urgent=self._urgent,
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
        work = self._take(engine)
        if stop.is_set():
            return
        engine.beat()
        if self._clock.monotonic() >= self._next_full or work.requests:
            work.local, work.remote = {ROOT}, {ROOT}
        self._serving = bool(work.requests)
        try:
            if engine.waiting and not (work.local or work.remote):
                self._look_at_once(self._go_on(engine).again)
            else:
                self._work(engine, work, stop)
        except BaseException:
            self._inbox.give_back(work)
            raise
        self._telling.post(
            activity="synchronising" if engine.waiting else "watching", synchronised=self._whole
        )
        self._answer(engine, work)

    def _take(self, engine: Engine) -> Work:
        """What is to be looked at now. Waits for it, unless there is something else to go on with."""
        now = self._clock.monotonic()
        if engine.waiting:
            work = self._inbox.take_urgent(requests=True)
            retries = self._unsettled.retries() if self._unsettled.due(now) else set()
        else:
            pause = min(RETRY, self._next_full - now) if self._unsettled.waiting else self._next_full - now
            merging = self._policy.merging
            if merging is not None and merging.owes():
                merging.keep()
                pause = min(pause, PAUSE)
            self._resting = True
            work = self._inbox.take(max(0.0, min(pause, BEAT)))
            # RACE: before `stop` is looked at, as `interrupt` looks at both the other way.
            self._resting = False
            retries = self._unsettled.retries()
        work.local |= retries
        work.remote |= retries
        return work

    def _urgent(self) -> bool:
        """Whether a transfer makes room. Who waits for it to end needs no further requests before that."""
        requests = not self._serving
        return self._inbox.urgent(requests=requests) or self._unsettled.due(self._clock.monotonic())

    def _work(self, engine: Engine, work: Work, stop: threading.Event) -> None:
        """Look, and do what is to be done. A barrier's work has ended when nothing of it waits any more."""
        rounds = 0
        while work.local or work.remote or (work.requests and self._owed):
            if stop.is_set():
                self._inbox.give_back(work)
                work.requests = []  # whoever waits must not be told that it is done
                return
            if self._git.wait(stop):
                work.local, work.remote = {ROOT}, {ROOT}  # the hints of what it did are still coming
            self._refresh_rules(work)
            if ROOT in work.local or ROOT in work.remote:
                self._telling.post(activity="synchronising")
            try:
                if not work.local and not work.remote:
                    rounds = self._serve(engine, work, rounds)
                    continue
                result = self._cycle(engine, work)
            except Disturbed:
                work.local, work.remote = {ROOT}, {ROOT}
                continue
            rounds += 1
            waited_for = bool(work.requests) and rounds < ROUNDS
            soon = result.later | result.writing if waited_for else frozenset()
            work.local = set(result.again | soon)
            work.remote = set(work.local)
            if soon:
                stop.wait(PAUSE * rounds)
            if rounds >= ROUNDS:
                self._unsettled.look_again(work.local, self._clock.monotonic())
                work.local, work.remote = set(), set()

    def _serve(self, engine: Engine, work: Work, rounds: int) -> int:
        """A slice more of what a barrier waits for, behind what was hinted meanwhile: the rounds by now."""
        aside = self._inbox.take_urgent(requests=False)
        if self._unsettled.due(self._clock.monotonic()):
            retries = self._unsettled.retries()
            aside.local, aside.remote = aside.local | retries, aside.remote | retries
        self._refresh_rules(aside)
        if ROOT in aside.local or ROOT in aside.remote:
            work.local, work.remote = aside.local, aside.remote
            return rounds
        if aside.local or aside.remote:
            changed = {path for path in self._owed if within(path, aside.local | aside.remote)}
            self._look_at_once(self._cycle(engine, aside).again)
            rounds += bool(changed)
            if rounds >= ROUNDS:  # it changes faster than it travels
                self._owed -= changed
                self._unsettled.look_again(changed, self._clock.monotonic())
        if engine.waiting:
            result = self._go_on(engine)
            work.local, work.remote = set(result.again), set(result.again)
        return rounds

    def _look_at_once(self, paths: Collection[RelPath]) -> None:
        self._inbox.give_back(Work(set(paths), set(paths)))

    def _cycle(self, engine: Engine, work: Work) -> Result:
        full_local, full_remote = ROOT in work.local, ROOT in work.remote
        permission = reduce(or_, (request.permission for request in work.requests), self._permission)
        result = engine.begin(
            None if full_local else work.local, None if full_remote else work.remote, permission
        )
        if full_local and full_remote:
            self._next_full = self._clock.monotonic() + FULL_LOOK
            self._owed, self._ending = engine.left(), True
        self._conclude(engine, work, result)
        return result

    def _go_on(self, engine: Engine) -> Result:
        """A slice of what waits."""
        result = engine.go_on()
        paths = {change.path for change in (*result.plan.to_local, *result.plan.to_remote)}
        self._conclude(engine, Work(paths, paths), result)
        return result

    def _conclude(self, engine: Engine, work: Work, result: Result) -> None:
        """Tell what came of some work, and what of the last look at everything has come to its end."""
        for side, changes in ((LOCAL, result.plan.to_local), (REMOTE, result.plan.to_remote)):
            self._inbox.expect(side, (change.path for change in changes))
        self._telling.batch(engine, result)
        self._unsettled.take_in(work, result, engine.unknown, self._clock.monotonic())
        self._telling.post(problems={**self._unsettled.problems, **self._telling.held})
        if self._owed:
            self._owed &= engine.left()
        if self._ending and not self._owed:
            self._ending, self._counted = False, False
            self._permission = Permission()
            self._mark()
            self._tidy(engine)
        if not self._counted and not self._ending and not self._unsettled.undone:
            self._counted = True
            self._whole += 1
            engine.remember_meeting()

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

    def _answer(self, engine: Engine, work: Work) -> None:
        unsettled = self._unsettled.reasons(engine.ancestor) if work.requests else {}
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
        self._telling.engine(engine)

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
