"""Merges for a world of contents without lines: some go together, and the oracle is told what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from devsync.core.merge import Method
from devsync.core.snapshot import Digest
from devsync.daemon.merging import Merging
from tests.model.world import World


class Mixing:
    """Implements daemon.merging.Programs: two contents in three go together."""

    def __init__(self, world: World) -> None:
        self._world = world

    def merge(self, method: Method, base: bytes, local: bytes, remote: bytes) -> bytes | None:
        if (len(local) + 2 * len(remote)) % 3 == 0:
            return None
        mixed = b"(" + local + b" " + remote + b")"
        self._world.mixed[mixed] = (local, remote)
        return mixed

    def interrupt(self) -> None: ...


class Kept:
    """Implements daemon.merging.Bases."""

    def __init__(self) -> None:
        self._contents: dict[Digest, bytes | None] = {}

    def get(self, digest: Digest) -> bytes | None:
        return self._contents.get(digest)

    def put(self, contents: Mapping[Digest, bytes | None]) -> None:
        self._contents.update(contents)

    def missing(self, digests: Collection[Digest]) -> set[Digest]:
        return {digest for digest in digests if digest not in self._contents}

    def keep_only(self, digests: Collection[Digest]) -> None:
        self._contents = {name: content for name, content in self._contents.items() if name in digests}

    def full(self) -> bool:
        return False

    def close(self) -> None: ...


def mixing(world: World) -> Merging:
    """What merges in this world, for all the engines that it sees."""
    return Merging(Kept(), Mixing(world), lambda: 0.0)
