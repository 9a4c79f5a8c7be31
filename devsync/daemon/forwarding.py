"""A replica by another one: the part that every wrapper shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from devsync.core.names import Named
from devsync.core.snapshot import Change, File, Outcome, Presumes, RelPath, Snapshot
from devsync.core.version import Trash
from devsync.ports import Replica, Rules, Staging


class Forwarding:
    """Implements ports.Replica, and what `replica` can besides; a subclass does some of it its own way."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        if isinstance(replica, Named):
            self.naming = replica.naming
        if isinstance(replica, Presumes):
            self.presume = replica.presume
        if isinstance(replica, Trash):
            self.versions, self.restage = replica.versions, replica.restage
            self.prune_trash = replica.prune_trash

    def claim(self, owner: str, name: str, *, take_over: bool) -> None:
        self._replica.claim(owner, name, take_over=take_over)

    def beat(self) -> None:
        self._replica.beat()

    def set_rules(self, rules: Rules) -> None:
        self._replica.set_rules(rules)

    def scan(self, scope: Collection[RelPath] | None = None) -> Snapshot:
        return self._replica.scan(scope)

    def supply(self, wanted: Sequence[tuple[RelPath, File]], staging: Staging) -> None:
        self._replica.supply(wanted, staging)

    def staging(self) -> Staging:
        return self._replica.staging()

    def apply(self, changes: Sequence[Change]) -> list[Outcome]:
        return self._replica.apply(changes)

    def marker(self) -> Mapping[str, object] | None:
        return self._replica.marker()

    def write_marker(self, marker: Mapping[str, object]) -> None:
        self._replica.write_marker(marker)

    def interrupt(self) -> None:
        self._replica.interrupt()

    def close(self) -> None:
        self._replica.close()
