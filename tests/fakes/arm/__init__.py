"""An ARM endpoint on loopback that behaves as Azure's does, for the few requests that devsync makes."""

from __future__ import annotations

from tests.fakes.arm.server import Arm
from tests.fakes.arm.world import GROUP, SUBSCRIPTION, VM_NAME, Answer, Vm, World, refusal

__all__ = ["GROUP", "SUBSCRIPTION", "VM_NAME", "Answer", "Arm", "Vm", "World", "refusal"]
