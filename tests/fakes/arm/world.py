"""What the endpoint knows: VMs, the operations that change them, and the faults that a test has ordered.

Time is a count of ticks. By default each look at a VM or an operation is one tick, after it was answered;
with `by_polls` off only `wind` moves the world.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP = "science"
VM_NAME = "dev-vm"


@dataclass(frozen=True)
class Answer:
    """What goes over the wire; `body` is JSON, or text as it is. None as an answer drops the connection."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(status: int, code: str, message: str = "", **headers: str) -> Answer:
    """An error as ARM words it; header names are given with '_' for '-'."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"error": {"code": code, "message": message}}, names)


@dataclass
class Vm:
    """A virtual machine with its network card and its address. `power` is the word after PowerState/."""

    name: str = VM_NAME
    group: str = GROUP
    subscription: str = SUBSCRIPTION
    power: str | None = "deallocated"
    public_ip: str | None = "127.0.0.1"
    has_public_ip: bool = True
    private_ip: str = "10.0.0.4"
    location: str = "westeurope"
    vm_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    card: bool = True
    size: str = "Standard_NC4as_T4_v3"
    spot: bool = False
    principal: str | None = None
    """The id of the machine's identity, if it has one."""


@dataclass
class Operation:
    """A start, deallocate or powerOff on its way: one power state for each tick that is left."""

    vm: Vm
    verb: str
    steps: list[str]
    outcome: tuple[str, str, str] | None
    before: str | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "InProgress"
    error: dict[str, str] | None = None


@dataclass
class Fault:
    """Instead of answering `request` the endpoint gives `answer`, `times` times; `after` it has acted."""

    request: str
    answer: Answer | None
    times: int
    after: bool


_STEPS = {
    "start": ["starting", "starting", "running"],
    "deallocate": ["deallocating", "deallocating", "deallocated"],
    "powerOff": ["stopping", "stopped"],
}
_ONGOING = (
    "An ongoing operation is changing power state of Virtual Machine {0} to {1}. "
    "Please perform operation {2} after some time."
)
_MARKED = (
    "Cannot start VM '{0}' since the VM is either deallocated or marked to be deallocated. "
    "For more information, refer to the documentation."
)

_SIZES: Mapping[str, Mapping[str, str]] = {
    "Standard_NC4as_T4_v3": {"vCPUs": "4", "MemoryGB": "28", "GPUs": "1"},
    "Standard_NC8as_T4_v3": {"vCPUs": "8", "MemoryGB": "56", "GPUs": "1"},
    "Standard_D2s_v5": {"vCPUs": "2", "MemoryGB": "8"},
    "Standard_ND96isr_H100_v5": {"vCPUs": "96", "limit": "NotAvailableForSubscription"},
}
_PRICES = [
    {"productName": product, "skuName": sku, "meterName": meter, "retailPrice": price, "armSkuName": size}
    | {"currencyCode": "USD", "unitOfMeasure": unit, "type": "Consumption", "serviceName": service}
    for service, product, sku, meter, size, price, unit in (
        (
            "Virtual Machines",
            "NCasT4 v3 Windows",
            "NC4as T4 v3",
            "NC4as T4 v3",
            "Standard_NC4as_T4_v3",
            0.71,
            "1 Hour",
        ),
        (
            "Virtual Machines",
            "NCasT4 v3",
            "NC4as T4 v3 Spot",
            "NC4as T4 v3 Spot",
            "Standard_NC4as_T4_v3",
            0.18,
            "1 Hour",
        ),
        (
            "Virtual Machines",
            "NCasT4 v3",
            "NC4as T4 v3",
            "NC4as T4 v3",
            "Standard_NC4as_T4_v3",
            0.526,
            "1 Hour",
        ),
        ("Storage", "Standard SSD Managed Disks", "E15 LRS", "E15 LRS Disk", "", 19.2, "1/Month"),
        (
            "Virtual Network",
            "IP Addresses",
            "Standard",
            "Standard IPv4 Static Public IP",
            "",
            0.005,
            "1 Hour",
        ),
    )
]

Hook = Callable[[Vm], None]


class World:
    """The truth behind the endpoint. Every method may be called from any thread."""

    def __init__(self, *vms: Vm) -> None:
        self.lock = threading.RLock()
        from tests.fakes.arm.estate import Estate  # which knows what a Vm is
        from tests.fakes.arm.schedules import Schedules

        self.vms = list(vms)
        self.estate = Estate(self)
        self.schedules = Schedules(self)
        self.clock: float | None = None
        """Seconds since 1970, wound by `pass_time`; None: the computer's."""
        self.pending: dict[str, list[Any]] = {}
        """What takes its time: looks until it is done, what is done then, and the body that tells of it."""
        self.images = ["24.10.2", "25.05.19", "25.4.15"]
        self.image_plan: dict[str, str] | None = None
        self.accepted = False
        """Whether the terms of the image's plan are."""
        self.sizes = {name: dict(has) for name, has in _SIZES.items()}
        self.address = "127.0.0.1"
        """Where requests are seen to come from."""
        self.prices: list[dict[str, object]] = [dict(one) for one in _PRICES]
        self.operations: dict[str, Operation] = {}
        self.steps = {verb: list(steps) for verb, steps in _STEPS.items()}
        self.by_polls = True
        self.preempts = False
        """Whether a newer command replaces the one that is on its way; otherwise it is refused with 409."""
        self.hides_power = 0
        """How many looks find no PowerState; -1 for all of them."""
        self.retry_after: int | None = None
        """Retry-After of every 202 and of every poll."""
        self.upper_ids = False
        """Whether ids come back in another case than they were asked for."""
        self.tokens: set[str] | None = None
        """The tokens that are good; None: any is."""
        self.outcome: tuple[str, str, str] | None = None
        """Status, code and message with which the next operation ends, instead of Succeeded."""
        self.faults: list[Fault] = []
        self.log: list[str] = []
        """The requests: 'instanceView', 'start', 'operation', …; in order."""
        self.seen_tokens: set[str] = set()
        self.on_start: Hook = lambda vm: None
        """Called before a VM is seen to run: the place to start what answers at its address."""
        self.on_deallocate: Hook = lambda vm: None
        """Called when a deallocation or power-off has begun."""
        self.on_change: Callable[[], None] = lambda: None

    def fault(self, request: str, answer: Answer | None, *, times: int = 1, after: bool = False) -> None:
        with self.lock:
            self.faults.append(Fault(request, answer, times, after))

    def take_fault(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.request in (request, "*") and fault.times > 0:
                    fault.times -= 1
                    return fault
            return None

    def put(self, vm: Vm, power: str | None) -> None:
        """Somebody else did it, and it is done."""
        with self.lock:
            for operation in self._ongoing(vm):
                operation.status = "Succeeded"
            vm.power = power
            self.on_change()

    def command(self, vm: Vm, verb: str) -> Operation | Answer:
        """Take a command, as Azure does: the operation, or the refusal."""
        with self.lock:
            for ongoing in self._ongoing(vm):
                if ongoing.verb == verb:
                    return ongoing
                if not self.preempts:
                    text = _MARKED if ongoing.verb == "deallocate" else _ONGOING
                    return refusal(409, "OperationNotAllowed", text.format(vm.name, ongoing.steps[-1], verb))
                ongoing.status = "Canceled"
                ongoing.error = {
                    "code": "OperationPreempted",
                    "message": "Operation execution has been preempted by a more recent operation.",
                }
            operation = Operation(vm, verb, list(self.steps[verb]), self.outcome, vm.power)
            if vm.power == operation.steps[-1]:
                operation.steps = operation.steps[-1:]
            self.outcome = None
            self.operations[operation.id] = operation
            if verb != "start":
                self.on_deallocate(vm)
            self._advance(operation)
            return operation

    def looked(self) -> None:
        if self.by_polls:
            self.wind()

    def wind(self, ticks: int = 1) -> None:
        with self.lock:
            for _ in range(ticks):
                for operation in [
                    entry for entry in self.operations.values() if entry.status == "InProgress"
                ]:
                    self._advance(operation)

    def now(self) -> float:
        """The time of day in the cloud."""
        return time.time() if self.clock is None else self.clock

    def pass_time(self, seconds: float) -> None:
        """The hand-wound clock goes on, and what is due by it happens."""
        with self.lock:
            before = self.now()
            self.clock = before + seconds
            self.schedules.pass_time(before, self.clock)

    def _advance(self, operation: Operation) -> None:
        vm, last = operation.vm, len(operation.steps) == 1
        if last and operation.outcome is not None:
            operation.status, code, message = operation.outcome
            operation.error = {"code": code, "message": message}
            vm.power = operation.before
        else:
            state = operation.steps.pop(0)
            if state == "running" and vm.power != "running":
                self.on_start(vm)
            vm.power = state
            if last:
                operation.status = "Succeeded"
        self.on_change()

    def _ongoing(self, vm: Vm) -> list[Operation]:
        return [
            entry for entry in self.operations.values() if entry.vm is vm and entry.status == "InProgress"
        ]

    def to_json(self) -> object:
        with self.lock:
            return {"vms": [asdict(vm) for vm in self.vms], "log": self.log[-100:]}
