"""Ends conflicts by merging contents: keeps the bases, asks for merges, hands out what came of them.

Owned by the thread that synchronises. A merge is planned like any other change, under the precondition
that both sides still hold what was merged; what it replaces goes to the trash of its side.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from devsync.core.merge import LARGEST, Candidate, Method, candidates, is_text, merged, method
from devsync.core.reconcile import Plan
from devsync.core.snapshot import Digest, File, Leaf, RelPath
from devsync.daemon.forwarding import Forwarding
from devsync.ports import ContentChanged, Replica, Staging, Unavailable

log = logging.getLogger(__name__)

TIME = 10.0
"""Seconds of one cycle after which no further merge is begun; the other conflicts wait for a look."""

AT_ONCE = 8
"""Contents of a side that are in memory together."""

SLICE = 0.05
"""Seconds that go to the keeping of bases at a time."""


class Bases(Protocol):
    """Where contents are kept that both sides agreed on. That one is not kept is no error."""

    def get(self, digest: Digest) -> bytes | None: ...
    def put(self, contents: Mapping[Digest, bytes | None]) -> None: ...
    def missing(self, digests: Collection[Digest]) -> set[Digest]: ...
    def keep_only(self, digests: Collection[Digest]) -> None: ...
    def full(self) -> bool: ...
    def close(self) -> None: ...


class Programs(Protocol):
    """What merges: the result, or None if the three do not go together."""

    def merge(self, method: Method, base: bytes, local: bytes, remote: bytes) -> bytes | None: ...
    def interrupt(self) -> None: ...


class Merging:
    """Of one project; engines come and go. `clock` tells seconds that only grow."""

    def __init__(self, bases: Bases, programs: Programs, clock: Callable[[], float]) -> None:
        self._bases, self._programs, self._clock = bases, programs, clock
        self._owed: dict[RelPath, File] = {}  # agreed on, and not kept yet
        self._in_vain: dict[RelPath, Candidate] = {}  # what did not merge, until a content is another
        self._results: set[Digest] = set()  # kept with the bases, on no side yet
        self._interrupted = False
        self.close = bases.close

    def between(self, local: Replica, remote: Replica) -> tuple[Replica, Replica]:
        """The two sides of a new engine, as replicas that also supply what came of merges."""
        self._interrupted, self._results = False, set()
        self._local, self._remote = local, remote
        return _Supplying(local, self._result), _Supplying(remote, self._result)

    def _result(self, digest: Digest) -> bytes | None:
        return self._bases.get(digest) if digest in self._results else None

    def interrupt(self) -> None:
        """From any thread: what goes on here for the present engine ends with Unavailable."""
        self._interrupted = True
        self._programs.interrupt()

    # ------------------------------------------------------------ merges

    def settle(self, plan: Plan, agreed: Mapping[RelPath, Leaf]) -> Plan:
        """The plan with changes in place of the conflicts that a merge ends."""
        left = [one for one in candidates(plan.conflicts, agreed) if self._in_vain.get(one.path) != one]
        found: dict[Candidate, File] = {}
        end = self._clock() + TIME
        while left and self._clock() < end:
            some, left = left[:AT_ONCE], left[AT_ONCE:]
            here = fetch(self._local, [(one.path, one.local) for one in some])
            there = fetch(self._remote, [(one.path, one.remote) for one in some])
            for one in some:
                if one.local.digest in here and one.remote.digest in there:  # else just changed again
                    file = self._merge(one, here[one.local.digest], there[one.remote.digest])
                    found.update({one: file} if file is not None else {})
        return merged(plan, found)

    def _merge(self, one: Candidate, local: bytes, remote: bytes) -> File | None:
        base = self._bases.get(one.base.digest)
        content = None if base is None else self._programs.merge(one.method, base, local, remote)
        if self._interrupted:
            raise Unavailable("merging was interrupted")
        file = self._kept(content, one, local, remote) if content is not None else None
        if file is None:
            self._in_vain[one.path] = one
        else:
            log.info(
                "%s: both sides changed this %s, and it can be merged", ascii(one.path), one.method.value
            )
        return file

    def _kept(self, content: bytes, one: Candidate, local: bytes, remote: bytes) -> File | None:
        """The result, once it is where both sides can get it."""
        file = File(hashlib.sha256(content).hexdigest(), len(content))
        # If only half of it comes to pass, what the other side held is the base of the next merge.
        self._bases.put({one.local.digest: local, one.remote.digest: remote, file.digest: content})
        if self._bases.get(file.digest) != content:
            return None
        self._results.add(file.digest)
        return file

    # ------------------------------------------------------------ bases

    def agreed(self, leaves: Iterable[tuple[RelPath, Leaf | None]]) -> None:
        """Both sides agree on these now: `keep` them."""
        for path, leaf in leaves:
            if isinstance(leaf, File) and method(path, leaf):
                self._owed[path] = leaf
            else:
                self._owed.pop(path, None)

    def keep(self) -> None:
        """Keep some of what is owed, the newest first: as many as a slice of time has room for."""
        end = self._clock() + SLICE
        while self._owed and self._clock() < end:
            some = [self._owed.popitem() for _ in range(min(AT_ONCE, len(self._owed)))]
            missing = self._bases.missing({file.digest for _, file in some})
            found = fetch(self._local, [(path, file) for path, file in some if file.digest in missing])
            self._bases.put({name: text if is_text(text) else None for name, text in found.items()})

    def owes(self) -> bool:
        """Whether there is more to keep."""
        return bool(self._owed)

    def tidy(self, agreed: Mapping[RelPath, Leaf]) -> None:
        """Forget what nobody agrees on any more; what is agreed on and was never kept is owed."""
        wanted = {
            leaf.digest: path
            for path, leaf in agreed.items()
            if isinstance(leaf, File) and method(path, leaf)
        }
        self._bases.keep_only(wanted.keys())
        missing = set() if self._bases.full() else self._bases.missing(wanted.keys())
        self.agreed((wanted[digest], agreed[wanted[digest]]) for digest in missing)


def fetch(side: Replica, wanted: Sequence[tuple[RelPath, File]]) -> dict[Digest, bytes]:
    """Contents of a side, whole, as far as they are there."""
    taken = _Taken()
    if wanted:
        side.supply(wanted, taken)
    return taken.contents


class _Taken:
    """A staging in memory, for contents that are not too large for it."""

    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        content = bytearray()
        try:
            for chunk in chunks:
                content += chunk
                if len(content) > LARGEST:
                    return
        except (ContentChanged, OSError):
            return  # it is looked at again
        if hashlib.sha256(content).hexdigest() == file.digest:
            self.contents[file.digest] = bytes(content)

    def finish(self) -> Mapping[Digest, str]:
        return {}


class _Supplying(Forwarding):
    """Another replica, which supplies some contents from elsewhere."""

    def __init__(self, replica: Replica, elsewhere: Callable[[Digest], bytes | None]) -> None:
        super().__init__(replica)
        self._elsewhere = elsewhere

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: Staging) -> None:
        found = {file: content for _, file in wanted if (content := self._elsewhere(file.digest)) is not None}
        rest = [(path, file) for path, file in wanted if file not in found]
        if rest or not wanted:
            super().supply(rest, staging)
        for file, content in found.items():
            staging.put(file, [content])
