"""Whose folder this is: one claim at a time, each with a token that only rises. Travels (Python 3.8).

.devsync/owner.json   the present claim and its holder's last sign of life, by the clock of this side alone
.devsync/owner.lock   locked while that is read or changed, and during each commit

Who has not been heard of for a while may be replaced, and anybody may be, if a user says so. Therefore a
claim is checked under the lock at everything that it is good for: a holder that wakes after it was
replaced, or a helper of a connection that was given up, finds another token and changes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from devsync.replica.home import Home, read_own
from devsync.replica.walk import RootGone

OWNER = "owner.json"
LOCK = "owner.lock"
OWNER_LIMIT = 1 << 12  # bytes

ALIVE = 60.0
"""Seconds after its last sign of life for which a claim keeps others out."""

FRESH = 10.0
"""Seconds for which a sign of life need not be renewed."""

PATIENCE = 10.0
"""Seconds that a commit of somebody else's is waited for."""


class Taken(Exception):
    """The folder is somebody else's; the text is what people read after "the folder"."""


@dataclass(frozen=True)
class Claim:
    """Who has a folder: `owner` for programs, `name` for people. `beat`: seconds since 1970, of that side."""

    owner: str
    name: str
    token: int
    beat: float

    def is_alive(self, now: float) -> bool:
        """Whether its holder was heard of lately. A beat of the future is that of a clock that went wrong."""
        return abs(now - self.beat) < ALIVE

    def is_fresh(self, now: float) -> bool:
        """Whether the last sign of life need not be renewed yet."""
        return abs(now - self.beat) < FRESH

    def is_same(self, other: Claim) -> bool:
        """Whether the two differ in nothing but the sign of life."""
        return replace(self, beat=other.beat) == other

    def pack(self) -> bytes:
        """This claim as it stands in its file."""
        return json.dumps(
            {"owner": self.owner, "name": self.name, "token": self.token, "beat": self.beat}
        ).encode("ascii")

    @staticmethod
    def unpack(content: bytes | None) -> Claim | None:
        """The claim in a file; None if there is none, or one that a power cut has torn."""
        try:
            value: Any = json.loads(content or b"")
            return Claim(
                str(value["owner"]), _printable(str(value["name"])), int(value["token"]), float(value["beat"])
            )
        except (ValueError, KeyError, TypeError):
            return None


def _printable(name: str) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in name[:300])


def succeed(present: Claim | None, owner: str, name: str, take_over: bool, now: float) -> Claim:
    """The claim that replaces the present one. Taken if that holds.

    The same owner may always claim anew; under another name it is a copy of his state elsewhere.
    """
    name = _printable(name)  # as it is read back: a path of odd bytes must not look like a stranger's
    ours = present is not None and (present.owner, present.name) == (owner, name)
    if present is not None and not ours and not take_over and present.is_alive(now):
        raise Taken(
            f"belongs to {present.name} (last sign of life {max(0, round(now - present.beat))} s ago)"
        )
    # Where the file was lost, no earlier claim has a token from today's clock either.
    return Claim(owner, name, (present.token if present else int(now)) + 1, now)


def check(present: Claim | None, claim: Claim | None, now: float) -> None:
    """Return if `claim` holds; without one, if nobody lives here. Taken, or RootGone, if not."""
    if claim is None:
        if present is not None and present.is_alive(now):
            raise Taken(f"belongs to {present.name}")
    elif present is None:
        raise RootGone("the project folder was emptied, or another one is in its place")
    elif not claim.is_same(present):
        raise Taken(f"was taken over by {present.name}")


def read_claim(root: int) -> Claim | None:
    """The present claim to the folder `root`. Asking makes nothing."""
    return Claim.unpack(read_own(root, OWNER, OWNER_LIMIT))


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Keep everybody else from claiming and committing. Taken if a commit under way does not end soon."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(LOCK, flags, 0o600, dir_fd=home.folder)
    try:
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Taken("is just being changed by another devsync") from None
            time.sleep(0.01)
        except OSError:
            return  # a file system without locks: the tokens are left
        else:
            return


def take(home: Home, owner: str, name: str, take_over: bool) -> Claim:
    """Claim the folder; under the lock. Taken if that cannot be."""
    claim = succeed(read_claim(home.root), owner, name, take_over, time.time())
    home.replace(OWNER, claim.pack())
    return claim


def renew(home: Home, claim: Claim) -> None:
    """Show a sign of life, if the last one is not fresh any more; under the lock."""
    now, present = time.time(), read_claim(home.root)
    check(present, claim, now)
    if present is None or not present.is_fresh(now):
        try:
            home.replace(OWNER, replace(claim, beat=now).pack())
        except OSError:
            pass  # a full disk: the claim holds for as long as nobody else comes


def release(home: Home, claim: Claim) -> None:
    """Let go of a claim, if it still holds; under the lock. Its token stays, for the next one to exceed."""
    present = read_claim(home.root)
    if present is not None and claim.is_same(present):
        home.replace(OWNER, replace(claim, beat=0.0).pack())
