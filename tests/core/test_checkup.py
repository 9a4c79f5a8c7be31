"""What the machine's facts mean for whoever asks `devsync doctor`."""

from __future__ import annotations

import pytest

from devsync.core.checkup import FAILED, OK, WARNING, Check, disk, facts, judge, watches

WELL = {"python": "3.10.12", "time": "1000", "free": str(50 << 20), "watches": "524288", "jupyter": "lab 4"}


def judged(**found: str) -> dict[str, Check]:
    return {check.name: check for check in judge({**WELL, **found}, 1000.0)}


def test_a_machine_that_is_well_has_no_hints() -> None:
    checks = judged()
    assert {check.state for check in checks.values()} == {OK}
    assert not any(check.hint for check in checks.values())


@pytest.mark.parametrize(
    ("name", "found", "state", "says"),
    [
        ("python there", {"python": ""}, WARNING, "no python3"),
        ("python there", {"python": "3.6.9"}, WARNING, "3.6.9 is too old"),
        ("disk there", {"free": "1000"}, WARNING, "1000KiB free"),
        ("clocks", {"time": "4600"}, WARNING, "3600 s ahead"),
        ("clocks", {"time": "0"}, WARNING, "1000 s behind"),
        ("clocks", {"time": "?"}, WARNING, "does not tell"),
        ("watches there", {"watches": "8192"}, WARNING, "only 8192"),
        ("gpu", {"gpu": "Tesla T4, 550.54, 15360 MiB;"}, OK, "Tesla T4"),
        ("gpu", {"gpu-error": "couldn't communicate with the NVIDIA driver"}, FAILED, "NVIDIA driver"),
        ("gpu", {}, OK, "has none"),
        ("torch", {"gpu": "Tesla T4", "torch": "2.13.0 cpu"}, WARNING, "does not see the GPU"),
        ("torch", {"gpu": "Tesla T4", "torch": "2.13.0 gpu"}, OK, "on the gpu"),
        ("tensorflow", {"tensorflow": "2.19 cpu"}, OK, "on the cpu"),
        ("jupyter", {"jupyter": ""}, WARNING, "no jupyter"),
    ],
)
def test_each_finding(name: str, found: dict[str, str], state: str, says: str) -> None:
    check = judged(**found)[name]
    assert check.state == state
    assert says in check.text
    assert bool(check.hint) == (state == FAILED or (state == WARNING and "does not tell" not in says))


def test_a_profile_that_chatters_is_not_believed() -> None:
    assert facts("Welcome!\nPATH=/bin\ncheck-python=3.11.2 \nlast login=now\n") == {"python": "3.11.2"}


def test_the_limits_are_told_before_they_are_reached() -> None:
    assert watches(1000, 900).state == WARNING
    assert watches(1000, 500).state == OK
    assert disk("disk here", "/home", 1 << 20).state == WARNING
