"""The side of the machine: the helper looks and commits, SFTP carries the contents."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from devsync import ports
from devsync.core.names import Naming
from devsync.core.snapshot import Change, Digest, File, Leaf, Outcome, RelPath, Snapshot, from_json
from devsync.core.version import Version
from devsync.replica import trash, wire
from devsync.replica.channel import Answer, HelperChannel, Refusal, nonsense
from devsync.replica.fetch import Fetching
from devsync.replica.luggage import begin_helper, command_line
from devsync.replica.parcels import Parcel, Parcels, parts_from_json
from devsync.replica.sums import deal, groups_for, sums

T = TypeVar("T")

PART = 2048
"""So many changes are asked for in one message."""

RELEASE = 2.0
"""Seconds that giving the folder back may take at the end."""


@dataclass(frozen=True)
class Greeting:
    """What the helper says of the machine. `root` is the folder as its SFTP server may be asked for it."""

    python: str
    platform: str
    home: str
    root: str
    euid: int
    free: int
    exists: bool
    temporary_disk: bool
    codecs: tuple[str, ...]
    inside: str
    """The folder of another project that `root` lies in; empty if there is none."""

    @staticmethod
    def from_json(value: Any) -> Greeting:
        """ValueError for anything that no helper says."""
        if not isinstance(value, dict):
            raise ValueError("no greeting")
        texts = {name: wire.text(value.get(name)) for name in ("platform", "home", "inside")}
        root, version = value.get("root"), value.get("python")
        numbers = {name: value.get(name) for name in ("euid", "free")}
        facts = {name: value.get(name) for name in ("exists", "temporary_disk")}
        if not isinstance(root, str) or not root.startswith("/") or "\0" in root or "/../" in root + "/":
            raise ValueError("a root that is no folder's path")
        os.fsencode(root)
        if not isinstance(version, list) or not all(type(number) is int for number in version):
            raise ValueError("no version")
        if any(type(n) is not int for n in numbers.values()) or any(
            type(f) is not bool for f in facts.values()
        ):
            raise ValueError("a number or a fact that is none")
        codecs = tuple(wire.text(name) for name in value["codecs"]) if "codecs" in value else ()
        return Greeting(".".join(map(str, version)), root=root, codecs=codecs, **texts, **numbers, **facts)  # type: ignore[arg-type]  # checked above


class RemoteReplica:
    """Implements ports.Replica. Owns one helper process and one SFTP channel; made anew after a lost link."""

    def __init__(
        self,
        open_helper: Callable[[str], ports.Process],
        open_sftp: Callable[[], ports.Sftp],
        root: str,
        *,
        create: bool = False,
        ahead: Callable[[RemoteReplica], None] = lambda _: None,
        verbs: Sequence[tuple[str, tuple[str, ...]]] = (),
    ) -> None:
        """Bring the helper to life. `root` may begin with `~`; it is made if `create`. See `greeting`.

        Meanwhile `ahead` may ask what will be needed: by `set_rules`, `ask_claim`, `presume`.
        Raises Unavailable; DevsyncError if there is no Python that can run the helper.
        """
        self._claimed = False
        self._given: list[Answer] = []
        self._rules: ports.Rules | None = None
        self._claiming: tuple[tuple[str, str, bool], Answer] | None = None
        self._presumed: Mapping[RelPath, Leaf] = {}
        self._places: Mapping[Digest, RelPath] | None = None
        self._begun: tuple[list[list[RelPath]], Answer] | None = None  # a look at everything
        self._early = False  # whether it was begun before anybody wanted it
        self.helper: HelperChannel = begin_helper(open_helper(command_line()), verbs)
        try:
            hello = self._ask("hello", root=root, create=create)
            self._asked: dict[str, Answer] = {"naming": self._ask("naming")}
            ahead(self)
            self._early = self._begun is not None
            self._sftp = open_sftp()  # while the helper comes to life
        except BaseException:
            self.helper.close()
            raise
        try:
            self.greeting: Greeting = self._greet(hello, root)
        except BaseException:
            self._claimed = False  # nothing was, or the link is lost
            self.close()
            raise
        self._folder = os.fsencode(self.greeting.root.rstrip("/"))
        self._parcels = Parcels(
            self._sftp, self.helper, self._folder + b"/.devsync/tmp/", self.greeting.codecs
        )
        self._fetching = Fetching(self._sftp, self._path, self.helper)
        self._flying: Parcel | None = None

    def _greet(self, hello: Answer, root: str) -> Greeting:
        try:
            return self._believe(Greeting.from_json, hello.result())
        except Refusal as error:
            raise ports.NeedsUser(
                f"the folder {root} on the machine cannot be used: {error.message.partition(': ')[2]}",
                hint="correct sync.path in devsync.toml, or make that folder there, writable for you",
            ) from error

    def claim(self, owner: str, name: str, *, take_over: bool) -> None:
        if self._claiming is None or self._claiming[0] != (owner, name, take_over):
            self.ask_claim(owner, name, take_over=take_over)
        assert self._claiming is not None
        (_, answer), self._claiming = self._claiming, None
        self._parcels.parts = self._believe(parts_from_json, answer.result())
        self._parcels.forget()  # healing has swept the staging folder

    def ask_claim(self, owner: str, name: str, *, take_over: bool) -> None:
        """The same without waiting, for a `claim` to come."""
        self._claiming = (
            (owner, name, take_over),
            self._ask("claim", owner=owner, name=name, take_over=take_over),
        )
        self._claimed = True  # perhaps; to give back what one has not does no harm
        self._asked["marker"] = self._ask("marker")  # which is what an owner looks at first

    def beat(self) -> None:
        if self._flying is not None and self._flying.is_unpacking:
            # The helper waits for what this side is about to send, so this side must not wait for it. It
            # shows the sign of life by itself, with each block that comes.
            return
        self._judged(lambda _: None, "beat")

    def set_rules(self, rules: ports.Rules) -> None:
        if rules is not self._rules:
            self._rules, self._begun = rules, None  # what was begun was by other rules
            self._given.append(self._ask("rules", rules=rules.to_json()))

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        if scope is None:
            return self._scan_all()
        wanted = sorted(scope)
        return self._judged(lambda value: wire.snapshot_from_json(value, wanted), "scan", scope=wanted)

    def presume(self, leaves: Mapping[RelPath, Leaf]) -> None:
        """Begin a look at everything, of which only what differs from `leaves` travels."""
        early, self._early = self._early, False  # good for one look: a second one wants to see anew
        if early and self._begun is not None and self._presumed == leaves:
            return
        self._presumed, self._places = leaves, None
        dealt = deal(leaves, groups_for(len(leaves)))
        self._begun = dealt, self._ask("scan", scope=None, sums=sums(leaves, dealt))

    def _scan_all(self) -> Snapshot:
        if self._begun is None:
            self.presume({})
        assert self._begun is not None
        (dealt, answer), self._begun = self._begun, None
        if "marker" not in self._asked:
            self._asked["marker"] = self._ask("marker")  # whose folder this is will be asked next
        self._settle_given()
        return self._believe(lambda value: wire.news_from_json(value, self._presumed, dealt), answer.result())

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: ports.Staging) -> None:
        self._fetching.supply(wanted, staging)

    def _path(self, path: RelPath) -> bytes:
        return self._folder + b"/" + os.fsencode(path)

    def staging(self) -> Parcel:
        self._flying = self._parcels.parcel(self._place)
        return self._flying

    def _place(self, file: File) -> RelPath | None:
        """Where the machine has this content already, as was presumed at the last look at everything."""
        if self._places is None:
            files = ((path, leaf) for path, leaf in self._presumed.items() if isinstance(leaf, File))
            self._places = {leaf.digest: path for path, leaf in files if leaf.size}
        return self._places.get(file.digest)

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        self._begun = None  # it was for before this
        flying, self._flying = self._flying, None
        if flying is not None:
            flying.send()
        answer = self._ask_commit(changes)
        if flying is not None:
            flying.land()  # if it fails, the helper is told so, which waits for it
            self._parcels.prepare()  # for the next save
        self._settle_given()
        return self._believe(lambda value: wire.outcomes_from_json(value, changes), answer.result())

    def _ask_commit(self, changes: Sequence[Change]) -> Answer:
        """One batch there, but no message for all of it here: that would be large."""
        last = max(len(changes) - 1, 0) // PART * PART
        for before in range(0, last, PART):
            part = wire.changes_to_json(changes[before : before + PART])
            self._given.append(self._ask("commit", changes=part, before=before, more=True))
        return self._ask("commit", changes=wire.changes_to_json(changes[last:]), before=last, more=False)

    def marker(self) -> Mapping[str, object] | None:
        def judge(value: Any) -> Mapping[str, object] | None:
            if value is not None and not isinstance(value, dict):
                raise ValueError("no marker")
            return value

        return self._judged(judge, "marker")

    def write_marker(self, marker: Mapping[str, object]) -> None:
        self._asked.pop("marker", None)  # what was asked ahead is the one of before
        self._asked["write-marker"] = self._ask("write-marker", marker=dict(marker))
        if self._begun is not None:  # behind that look, after which it will be asked for
            self._asked["marker"] = self._ask("marker")
        self._judged(lambda _: None, "write-marker")

    def naming(self) -> Naming:
        """How the machine's file system takes names."""

        def judge(value: Any) -> Naming:
            *facts, longest = value
            if len(facts) != 3 or any(type(f) is not bool for f in facts) or type(longest) is not int:
                raise ValueError("no naming")
            return Naming(facts[0], facts[1], facts[2], longest)

        return self._judged(judge, "naming")

    def versions(self) -> list[Version]:
        """What is in the machine's trash, the oldest first."""
        return self._judged(lambda value: [Version.from_json(row) for row in value], "versions")

    def restage(self, version: str) -> Leaf:
        """Stage an old version there and say what it is: a Change to it can then be applied."""

        def judge(value: Any) -> Leaf:
            leaf = from_json(value)
            if leaf is None:
                raise ValueError("no version")
            return leaf

        return self._judged(judge, "restage", version=version)

    def prune_trash(self, days: float = trash.DAYS, size: int = trash.SIZE) -> int:
        """Throw away versions older than `days`, and the oldest beyond `size` bytes."""
        return self._judged(int, "prune", days=days, size=size)

    def interrupt(self) -> None:
        self._claimed = False  # nobody is left to give it back; it runs out by itself
        self.helper.interrupt()
        self._sftp.interrupt()

    def close(self) -> None:
        if self._claimed:
            self._claimed = False
            self._parcels.close()
            self.helper.finish("release", RELEASE)
        self.helper.close()
        self._sftp.close()

    def _ask(self, verb: str, **arguments: Any) -> Answer:
        return self.helper.ask(verb, **arguments)

    def _judged(self, judge: Callable[[Any], T], verb: str, **arguments: Any) -> T:
        """Ask, unless that was done ahead; wait, and believe nothing."""
        ahead = self._asked.pop(verb, None)
        answer = self._ask(verb, **arguments) if ahead is None else ahead
        self._settle_given()
        return self._believe(judge, answer.result())

    def _settle_given(self) -> None:
        """What was told without waiting must have been taken, too."""
        for given in self._given:
            given.result()
        self._given.clear()

    @staticmethod
    def _believe(judge: Callable[[Any], T], value: Any) -> T:
        try:
            return judge(value)
        except (ValueError, TypeError) as error:
            raise nonsense(str(error)) from error


__all__ = ["Greeting", "Refusal", "RemoteReplica"]
