"""Whose both folders are, and whether they are the ones that the ancestor speaks of."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Protocol

from devsync.ports import Halted, Replica

BEAT = 20.0
"""Seconds between two signs of life."""


class Facts(Protocol):
    """What is remembered of earlier meetings."""

    def fact(self, name: str) -> str | None: ...
    def set_fact(self, name: str, value: str) -> None: ...


class Pairing:
    """The claim to both folders, and the marks by which they are known again."""

    def __init__(
        self, facts: Facts, local: Replica, remote: Replica, claimant: str, clock: Callable[[], float]
    ) -> None:
        """`claimant` is what others are told of who has the folders."""
        self._facts, self._local, self._remote = facts, local, remote
        self._claimant, self._clock = claimant, clock
        self._next_beat = 0.0

    def enter(self, *, agreed: bool, rejoin: bool, take_over: bool) -> None:
        """Make both folders ours, if they are the right ones. Raises Owned or Halted if not.

        `agreed`: there is something that the two agreed on. With `rejoin` any two folders are right.
        """
        if take_over and not rejoin:
            self._judge(agreed)  # nobody is to be stopped in vain
        name_owner(self._facts)
        for replica in (self._remote, self._local):  # where a folder is shared, its owner is told best
            replica.claim(self._owner, self._claimant, take_over=take_over)
        self._next_beat = self._clock() + BEAT
        if not rejoin:
            self._judge(agreed)

    def _judge(self, agreed: bool) -> None:
        if agreed:
            self.recognise()
        else:
            self._meet()

    def beat(self) -> None:
        """Show both sides that we live, if it is time. Raises Owned if one is not ours any more."""
        if self._clock() >= self._next_beat:
            self._next_beat = self._clock() + BEAT
            self._local.beat()
            self._remote.beat()

    def recognise(self) -> None:
        """Raises Halted if a folder is not the one, and of the time, that is remembered."""
        known, generation = self._facts.fact("pair"), int(self._facts.fact("generation") or 0)
        for side, replica in (("local", self._local), ("remote", self._remote)):
            recognise(side, replica.marker(), known, generation)

    def _meet(self) -> None:
        """With nothing agreed on: raises Halted if the machine's folder is that of another project."""
        mark = self._remote.marker()
        if mark is not None and mark.get("owner") != self._owner:
            raise Halted(
                f"the folder on the machine was synchronised by another project: {mark.get('name')}",
                hint="for a project of its own, set another sync.path; if it is this one after all, "
                "'devsync start --rejoin' compares both sides anew and deletes nothing",
            )

    def mark(self, *, anew: bool) -> None:
        """Give both folders the mark of the next generation, or of a new pair."""
        pair, generation = self._facts.fact("pair"), int(self._facts.fact("generation") or 0)
        if pair is None or anew:
            pair, generation = uuid.uuid4().hex, 0
        # The replicas learn of it first: a crash in between leaves them one ahead, never behind.
        mark = {"pair": pair, "generation": generation + 1, "owner": self._owner, "name": self._claimant}
        self._remote.write_marker(mark)
        self._local.write_marker(mark)
        self._facts.set_fact("pair", pair)
        self._facts.set_fact("generation", str(generation + 1))

    @property
    def _owner(self) -> str:
        return self._facts.fact("owner") or ""


def name_owner(facts: Facts) -> str:
    """Who we are to whoever looks at a folder that is ours; made up at the first time."""
    owner = facts.fact("owner") or uuid.uuid4().hex
    facts.set_fact("owner", owner)
    return owner


def recognise(side: str, mark: Mapping[str, object] | None, pair: str | None, generation: int) -> None:
    """Hold a folder's mark against what is remembered of the pair. Raises Halted if it is another."""
    found = None if mark is None else mark.get("pair")
    if found != pair:
        seen = "has no mark of devsync's" if mark is None else "belongs to another pair"
        raise Halted(
            f"the {side} folder is not the one that was synchronised before: it {seen}",
            hint="a new machine, a fresh clone or a wiped disk? 'devsync start --rejoin' compares both sides "
            "anew and deletes nothing",
        )
    there = mark.get("generation") if mark else None
    if isinstance(there, int) and not generation <= there <= generation + 1:
        older = f"the {side} folder" if there < generation else "this computer's memory of it"
        raise Halted(
            f"{older} is older than what was synchronised last: restored from a backup or a snapshot?",
            hint="'devsync start --rejoin' compares both sides anew and deletes nothing",
        )
