"""What is known right now, for whoever asks: facts that services post and `status` reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from devsync.ports import DevsyncError, NeedsUser


@dataclass(frozen=True)
class Trouble:
    """What keeps a service from its work, in the words of its error."""

    kind: str
    message: str
    hint: str
    exit_status: int
    needs_user: bool
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SyncFacts:
    """Counts of the sync loop. `synchronised` is the number of full cycles that left nothing undone.

    `rate` is in bytes a second, `remaining` in seconds, of what is on its way; None where nobody can tell.
    """

    mode: str = "two-way"
    files: int = 0
    pending: int = 0
    in_flight: int = 0
    conflicts: int = 0
    held: int = 0
    skipped: int = 0
    last_sync: str | None = None
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    halted: str | None = None
    activity: str = "starting"
    synchronised: int = 0
    planned_bytes: int = 0
    moved_bytes: int = 0
    rate: float | None = None
    remaining: float | None = None
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkFacts:
    """The connection: away | connecting | connected | off, and what the machine is doing meanwhile."""

    state: str = "away"
    rtt: float | None = None
    power: str = "unknown"
    billed: bool | None = None
    host: str | None = None
    progress: str = ""


@dataclass(frozen=True)
class IdleFacts:
    """The last verdict as `idle --json` shows it; `warned` while a deallocation is being announced."""

    verdict: Mapping[str, object] = field(default_factory=dict)
    warned: bool = False
    keepalive_until: str | None = None
    failure: str | None = None
    last: Mapping[str, object] = field(default_factory=dict)
    """What the last deallocation ended: `at`, `reason`, `ended`, and `left`, what only its disk has."""


@dataclass(frozen=True)
class FailsafeFacts:
    """Who deallocates without us: until when the cloud waits, the watchdog ("on", or why not), and in lines.

    `settled`: what can be known of them is.
    """

    lease_until: str | None = None
    watchdog: str = "off"
    lines: tuple[str, ...] = ()
    settled: bool = False


@dataclass(frozen=True)
class Facts:
    """Everything on the board at one moment."""

    sync: SyncFacts = SyncFacts()
    link: LinkFacts = LinkFacts()
    idle: IdleFacts = IdleFacts()
    failsafe: FailsafeFacts = FailsafeFacts()
    runs: int = 0
    jobs: int | None = None
    """How many detached jobs run there; None while nobody knows."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    notices: Mapping[str, str] = field(default_factory=dict)
    """What people should know although nothing is in the way, by who says it."""


class Board:
    """Facts with a version; any thread may post, read or wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._facts = Facts()
        self._version = 0

    def read(self) -> Facts:
        """The facts now."""
        with self._changed:
            return self._facts

    def post(
        self,
        *,
        sync: SyncFacts | None = None,
        link: LinkFacts | None = None,
        idle: IdleFacts | None = None,
        failsafe: FailsafeFacts | None = None,
    ) -> None:
        """Replace the facts of one group; each group has one service that posts it."""
        self._post(
            lambda old: replace(
                old,
                sync=sync or old.sync,
                link=link or old.link,
                idle=idle or old.idle,
                failsafe=failsafe or old.failsafe,
            )
        )

    def runs(self, difference: int) -> None:
        """One command more or less runs on the machine."""
        self._post(lambda old: replace(old, runs=old.runs + difference))

    def detached(self, running: int | None) -> None:
        """So many detached jobs run on the machine; None: nobody knows."""
        self._post(lambda old: replace(old, jobs=running))

    def notice(self, service: str, text: str) -> None:
        """What `service` wants people to know from now on; empty when that is over."""

        def change(old: Facts) -> Facts:
            others = {name: value for name, value in old.notices.items() if name != service}
            return replace(old, notices={**others, service: text} if text else others)

        self._post(change)

    def trouble(self, service: str, error: DevsyncError | None) -> None:
        """What keeps `service` from its work; None when it works."""

        def change(old: Facts) -> Facts:
            troubles = {name: value for name, value in old.troubles.items() if name != service}
            if error is not None:
                details = {
                    name: str(value) for name in ("fingerprint",) if (value := getattr(error, name, None))
                }
                troubles[service] = Trouble(
                    kind=type(error).__name__,
                    message=error.message,
                    hint=error.hint,
                    exit_status=error.exit_status,
                    needs_user=isinstance(error, NeedsUser),
                    details=details,
                )
            return replace(old, troubles=troubles)

        self._post(change)

    def acted(self) -> None:
        """The user has done something about it: what waited for that is no trouble until it fails again."""
        self._post(
            lambda old: replace(
                old, troubles={name: one for name, one in old.troubles.items() if not one.needs_user}
            )
        )

    def wait(self, seen: int, timeout: float) -> tuple[int, Facts]:
        """Wait until there is something newer than version `seen`, or `timeout` seconds: (version, facts)."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, timeout)
            return self._version, self._facts

    def _post(self, change: Callable[[Facts], Facts]) -> None:
        with self._changed:
            new = change(self._facts)
            if new != self._facts:
                self._facts = new
                self._version += 1
                self._changed.notify_all()
