"""What the cloud has announced that it will do with a machine, as its metadata service writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENDING = ("Preempt", "Terminate", "Reboot", "Redeploy")
"""The kinds that end what runs there; a `Freeze` is over after seconds, and nothing is lost by it."""


@dataclass(frozen=True)
class Scheduled:
    """One event. `not_before` is an HTTP date, empty once it has begun; `resources` are names of VMs."""

    identity: str
    kind: str
    resources: tuple[str, ...]
    not_before: str

    @classmethod
    def from_json(cls, value: Any) -> Scheduled:
        """ValueError for what is no event."""
        if not isinstance(value, Mapping) or not isinstance(value.get("Resources"), list):
            raise ValueError("no scheduled event")
        texts = [value.get("EventId"), value.get("EventType"), value.get("NotBefore"), *value["Resources"]]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("no scheduled event")
        identity, kind, not_before, *resources = texts
        return cls(identity, kind, tuple(resources), not_before)

    def ends(self, vm: str) -> bool:
        """Whether it ends what runs on this VM: a document also tells of the VM's neighbours."""
        ours = vm.lower() in {name.lower() for name in self.resources}
        return self.kind in ENDING and (ours or not self.resources)
