"""The watchdog's own mind, turn by turn on a hand-wound clock: when it acts, when not, and what it says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from devsync.core.observation import PROBED, Observation
from devsync.probe import watchdog as room
from devsync.probe.ring import Record, Ring
from devsync.probe.sampler import boot, folder
from devsync.probe.watchdog import ABSENT, FIRST_RETRY, GRACE, LONGEST_DEED, RENEW, Watchdog, forked
from devsync.probe.watchdog_orders import Order, store, stored
from devsync.probe.watchdog_verbs import attend
from tests.probe.machine import Machine

AFTER = 2700.0
PROJECT = "0123abcd"


class Rig:
    """A watchdog on a machine of files; `deeds` is what it did, and `answer` how that goes."""

    def __init__(self, folder_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.view = Machine(folder_)
        self.view.uptime = 5 * GRACE
        self.view.write("proc/sys/kernel/random/boot_id", "11111111-2222\n")
        self.place = folder(self.view)
        self.deeds: list[str] = []
        self.answer: dict[str, Any] = {"ok": True, "why": "done"}
        monkeypatch.setattr(room, "perform", self.perform)
        self.launch: Callable[[Callable[[], None]], int | None] = lambda body: body()
        self.watchdog = self.born()

    def born(self) -> Watchdog:
        """As after a restart of its process."""
        return Watchdog(self.view, self.place, lambda: boot(self.view), lambda body: self.launch(body))  # noqa: PLW0108 (it is changed)

    def perform(self, kind: str, order: Order, environ: Mapping[str, str]) -> dict[str, Any]:
        assert environ is self.view.environ
        self.deeds.append(kind)
        return {"kind": kind, **self.answer}

    def attend(self, **changes: Any) -> Any:
        """A laptop is there; the order may be None."""
        order: dict[str, Any] = {
            "after": AFTER,
            "thresholds": {"cpu": 20.0, "gpu": 5.0, "network": 1e6, "gpu_stale": 1800.0},
            "modes": {"network": "off"},
            "lease": 10800.0,
            "root": str(self.view.folder / "work"),
            "vm": "/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v",
            "endpoint": "https://127.0.0.1:1",
            "audience": "https://management.azure.com",
            "certificates": "",
            "keep": 0.0,
        }
        told, given = changes.pop("told", False), changes.pop("order", order | changes)
        project = str(changes.get("project", PROJECT))
        return attend(self.view, {"project": project, "order": given, "told": told})

    def wait(self, seconds: float, **levels: Any) -> None:
        """Time passes, the sampler looks every minute, and the watchdog thinks."""
        left = seconds
        while left > 0:
            self.view.pass_by(min(60.0, left))
            left -= 60.0
            seen = [
                Observation(name, error="broken")
                if levels.get(name) == "?"
                else Observation(name, float(levels.get(name, 0.0)), "some")
                for name in PROBED
            ]
            record = Record(boot(self.view), self.view.monotonic(), self.view.wall(), tuple(seen))
            Ring(self.place).append(record)
            self.watchdog.turn()


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def test_it_acts_when_the_laptop_is_gone_and_nothing_has_worked(rig: Rig) -> None:
    rig.attend()
    rig.wait(AFTER - 60)
    assert "deallocate" not in rig.deeds
    rig.wait(120)
    assert rig.deeds[-1] == "deallocate"
    report = rig.attend()
    assert report["idle"]["ok"]
    assert "last sign of work" in report["idle"]["why"] or "nothing was seen" in report["idle"]["why"]
    assert "idle" not in rig.attend(told=True)


def test_it_does_nothing_while_a_laptop_is_there(rig: Rig) -> None:
    for _ in range(100):
        rig.attend()
        rig.wait(ABSENT / 2)
    assert set(rig.deeds) == {"check"}


def test_it_does_nothing_without_an_order(rig: Rig) -> None:
    rig.attend()
    rig.attend(order=None)
    rig.wait(2 * AFTER)
    assert rig.deeds == []


def test_work_pushes_the_lease_and_its_end_ends_that(rig: Rig) -> None:
    rig.attend()
    rig.wait(6 * 3600, gpu=90.0)
    pushes = rig.deeds.count("renew")
    assert 6 * 3600 / RENEW - 5 <= pushes <= 6 * 3600 / RENEW
    assert "deallocate" not in rig.deeds
    rig.wait(AFTER + 120)
    assert rig.deeds[-1] == "deallocate"


def test_what_cannot_be_read_is_neither_idle_nor_a_reason_to_push(rig: Rig) -> None:
    rig.attend()
    rig.wait(4 * 3600, gpu="?")
    assert set(rig.deeds) == {"check"}
    rig.wait(1200, gpu="?", cpu=90.0)
    assert "renew" in rig.deeds


def test_never_is_never_and_off_does_not_count(rig: Rig) -> None:
    rig.attend(after=None)
    rig.wait(3 * AFTER)
    assert set(rig.deeds) == {"check", "renew"}
    rig.attend()
    rig.wait(AFTER + 120, network=9e9)
    assert rig.deeds[-1] == "deallocate"


def test_the_machine_is_idle_only_for_all_of_its_projects(rig: Rig) -> None:
    rig.attend(project="0123abcd")
    rig.attend(project="4567abcd", after=4 * AFTER)
    rig.wait(2 * AFTER)
    assert "deallocate" not in rig.deeds
    rig.wait(2 * AFTER + 120)
    assert rig.deeds[-1] == "deallocate"


def test_a_keepalive_and_a_job_that_waits_keep_it(rig: Rig) -> None:
    rig.attend(keep=2 * AFTER)
    rig.wait(2 * AFTER - 60)
    assert "deallocate" not in rig.deeds
    rig.view.process(4711, "python3 warden.py", started=77)
    one = '{"pid": 4711, "start": "77", "boot": "11111111-2222"}'
    running = rig.view.write("work/.devsync/jobs/a1/running.json", f'{{"warden": {one}, "command": null}}')
    rig.wait(2 * AFTER)
    assert "deallocate" not in rig.deeds
    running.with_name("end.json").write_text("{}")
    rig.wait(AFTER + 120)
    assert rig.deeds[-1] == "deallocate"


def test_a_machine_that_was_just_started_is_left_alone(rig: Rig) -> None:
    rig.attend(after=60.0)
    rig.view.write("proc/sys/kernel/random/boot_id", "33333333-4444\n")
    rig.view.uptime = 0.0
    rig.watchdog = rig.born()
    rig.wait(GRACE - 60)
    assert "deallocate" not in rig.deeds
    rig.wait(120)
    assert rig.deeds[-1] == "deallocate"


def test_a_refusal_is_told_and_tried_again_more_and_more_seldom(rig: Rig) -> None:
    rig.attend()
    rig.answer = {"ok": False, "why": "the VM's identity lacks the right (403 AuthorizationFailed)"}
    rig.wait(AFTER + 60)
    tries = rig.deeds.count("deallocate")
    assert 1 <= tries <= 2
    rig.wait(3600)
    assert 5 <= rig.deeds.count("deallocate") <= 3600 / FIRST_RETRY / 6
    report = rig.attend()
    assert not report["deallocate"]["ok"]
    assert "lacks the right" in report["deallocate"]["why"]
    rig.wait(60, cpu=90.0)
    before = rig.deeds.count("deallocate")
    rig.wait(3600, cpu=90.0)
    assert rig.deeds.count("deallocate") == before, "work has come back"


def test_it_outlives_what_it_did_not_expect(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(place: str) -> list[Order]:
        raise RuntimeError(place)

    rig.attend()
    monkeypatch.setattr(room, "stored", broken)
    rig.wait(60)
    assert "RuntimeError" in rig.attend()["turn"]["why"]


def test_a_deed_that_hangs_is_given_up(rig: Rig) -> None:
    read, write = os.pipe()

    rig.launch = lambda _body: _child(read)
    rig.attend()
    for _ in range(3):
        rig.wait(LONGEST_DEED / 2)
        rig.attend()
    assert "in time" in rig.attend()["check"]["why"]
    for end in (read, write):
        os.close(end)


def _child(descriptor: int) -> int:
    """A process that waits for ever."""
    child = os.fork()
    if not child:
        os.read(descriptor, 1)
        os._exit(0)
    return child


def test_a_deed_is_done_in_a_process_of_its_own(rig: Rig) -> None:
    rig.launch = forked
    rig.attend()
    rig.wait(60)
    _, child, _ = rig.watchdog._deed or ("", None, 0.0)
    if child is not None:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        rig.attend()
        rig.wait(60)
    assert rig.deeds == [], "not in this one"
    assert rig.attend()["check"]["ok"]


@pytest.mark.parametrize(
    "change", [{"endpoint": "http://127.0.0.1"}, {"project": "../../x"}, {"after": "soon"}]
)
def test_an_order_that_makes_no_sense_is_refused(rig: Rig, change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        rig.attend(**change)
    assert stored(rig.place) == []


def test_a_torn_order_is_passed_over(rig: Rig) -> None:
    rig.attend()
    (Path(rig.place) / "orders" / "4567abcd").write_text('{"project": "4567')
    assert [order.project for order in stored(rig.place)] == [PROJECT]
    with pytest.raises(KeyError):
        store(rig.place, {"project": "89ab"})
