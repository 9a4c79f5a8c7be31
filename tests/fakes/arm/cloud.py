"""One VM behind an endpoint, an `az` that is logged in, and machines that talk to them: what a test needs."""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from devsync.machine.azure import AzureMachine, AzureSettings
from devsync.ports import DevsyncError
from tests.fakes import az
from tests.fakes.arm.server import Arm
from tests.fakes.arm.world import GROUP, SUBSCRIPTION, VM_NAME, Vm, World

TOKEN = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.not-for-any-eye"
_SECRETS = (TOKEN, "MIIHMIIH", "aB3-aB3-")
"""The token of `az`, and what the signatures of operations are made of."""


class WoundStop(threading.Event):
    """A stop whose waits take no time: they are noted, and its clock goes on by as much."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None, "every wait has an end"
        if timeout:
            self.waits.append(timeout)
        self.now += timeout
        return self.is_set()

    def monotonic(self) -> float:
        return self.now


@dataclass
class Cloud:
    """`machine` gives AzureMachines whose waits take no time; `lines` is the progress that they told."""

    arm: Arm
    az: az.Az
    vm: Vm
    settings: AzureSettings
    stop: WoundStop = field(default_factory=WoundStop)
    lines: list[str] = field(default_factory=list)
    opened: ExitStack = field(default_factory=ExitStack)

    @property
    def world(self) -> World:
        return self.arm.world

    def machine(self, **changes: Any) -> AzureMachine:
        machine = AzureMachine(replace(self.settings, **changes), monotonic=self.stop.monotonic)
        self.opened.callback(machine.close)
        return machine

    def start(self) -> None:
        self.machine().start(self.stop, self.lines.append)

    def deallocate(self) -> None:
        self.machine().deallocate(self.stop, self.lines.append)


@contextmanager
def cloud(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Cloud]:
    """A deallocated VM. The stand-in for `az` is the first on PATH, and no proxy is used.

    At the end no secret may be in the log, nor in what was told.
    """
    caplog.set_level(logging.DEBUG)
    program = az.install(folder / "bin")
    program.log_in(TOKEN)
    monkeypatch.setenv("PATH", f"{program.folder}:/usr/bin:/bin")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    vm = Vm()
    with Arm(folder, World(vm)) as arm:
        made = Cloud(arm, program, vm, AzureSettings(SUBSCRIPTION, GROUP, VM_NAME, "cli", arm.url, arm.ca))
        with made.opened:
            yield made
    assert not any(secret in text for secret in _SECRETS for text in (caplog.text, *made.lines))


def refused(call: Callable[[], object]) -> DevsyncError:
    """The error of a call that must fail: one line, no secret, nothing of the SDK's in its trace."""
    with pytest.raises(DevsyncError) as caught:
        call()
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + error.hint
    assert not any(secret in shown for secret in _SECRETS)
    assert "/azure/core/" not in shown
    assert "\n" not in error.message + error.hint
    assert error.message == str(error)
    return error
