"""Starting and deallocating with the real SDK over TLS: waiting, states, lost answers, addresses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devsync.machine.azure import AzureMachine
from devsync.ports import DevsyncError, NeedsUser, Unavailable
from tests.fakes.arm import Answer, refusal
from tests.fakes.arm.cloud import Cloud, refused
from tests.fakes.arm.cloud import cloud as make_cloud


@pytest.fixture
def cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Cloud]:
    with make_cloud(tmp_path, monkeypatch, caplog) as made:
        yield made


# ---------------------------------------------------------------- waiting


def test_the_first_look_is_early_and_the_others_five_seconds_apart(cloud: Cloud) -> None:
    cloud.world.steps["start"] = ["starting"] * 5 + ["running"]
    cloud.start()
    assert cloud.stop.waits[0] == 1
    assert set(cloud.stop.waits[1:]) == {5}
    assert cloud.lines[0] == "VM 'dev-vm' is deallocated: starting it"
    assert cloud.lines[-1] == "VM 'dev-vm' is running"


def test_what_has_come_of_an_operation_is_read_at_once(cloud: Cloud) -> None:
    cloud.world.steps["start"] = ["starting", "running"]
    cloud.start()
    assert cloud.stop.waits == [1], "the poll tells of the end, and the look follows it"


def test_azure_may_set_the_pace(cloud: Cloud) -> None:
    cloud.world.retry_after = 11
    cloud.start()
    assert set(cloud.stop.waits) == {11}


def test_no_thread_is_left_or_made(cloud: Cloud) -> None:
    cloud.start()
    assert not [thread.name for thread in threading.enumerate() if "Poller" in thread.name]


def test_an_hour_is_too_long(cloud: Cloud) -> None:
    cloud.world.by_polls = False
    error = refused(cloud.start)
    assert type(error) is Unavailable
    assert error.message == "VM 'dev-vm' is not running after 10 min, but starting; it may cost money"
    assert 590 < cloud.stop.now - 1000 <= 600


CONFLICT = refusal(409, "OperationNotAllowed", "Cannot do it since another operation is in progress.")
TRANSIENT = {
    "conflict": CONFLICT,
    "concurrent": refusal(409, "Conflict", "The request failed due to a concurrent request."),
    "precondition": refusal(412, "PreconditionFailed", "The condition is not met."),
    "throttled": refusal(429, "OperationNotAllowed", "The server rejected the request: too many requests."),
    "server error": refusal(500, "InternalServerError", "Something went wrong."),
    "bad gateway": Answer(502, "<html>bad gateway</html>"),
    "dropped before": None,
}


@pytest.mark.parametrize("name", TRANSIENT)
def test_what_passes_is_waited_for(cloud: Cloud, name: str) -> None:
    cloud.world.fault("start", TRANSIENT[name], times=4)
    cloud.start()
    assert cloud.vm.power == "running"
    assert cloud.world.log.count("start") == 5
    assert cloud.stop.waits[:4] == [5, 10, 15, 15]
    assert any("looking again in 10 s" in line for line in cloud.lines)


def test_retry_after_is_honoured_but_not_beyond_the_deadline(cloud: Cloud) -> None:
    cloud.world.fault("start", refusal(429, "TooManyRequests", "Slow down.", Retry_After="42"))
    cloud.start()
    assert cloud.stop.waits[0] == 42
    cloud.world.put(cloud.vm, "deallocated")
    cloud.world.fault("start", refusal(429, "TooManyRequests", "Slow down.", Retry_After="3600"))
    error = refused(cloud.start)
    assert type(error) is Unavailable
    assert "for 3600 s" in error.message
    assert 3600 not in cloud.stop.waits


def test_the_last_setback_is_told_when_time_is_up(cloud: Cloud) -> None:
    cloud.world.fault("start", CONFLICT, times=999)
    error = refused(cloud.start)
    assert type(error) is Unavailable
    assert "not running after 10 min, but deallocated: cannot start" in error.message
    assert "another operation is in progress" in error.message


def test_an_answer_that_was_lost_after_azure_acted(cloud: Cloud) -> None:
    cloud.world.fault("start", None, after=True)
    cloud.start()
    assert cloud.vm.power == "running"
    assert cloud.world.log.count("start") == 1
    assert cloud.stop.waits[0] == 5


@pytest.mark.parametrize(
    "answer", [refusal(403, "AuthorizationFailed", "No."), refusal(404, "OperationNotFound", "Gone.")]
)
def test_an_operation_that_may_not_be_read_is_not_needed(cloud: Cloud, answer: Answer) -> None:
    cloud.world.fault("operation", answer, times=99)
    cloud.world.steps["start"] = ["deallocated", "deallocated", "starting", "running"]
    cloud.start()
    assert cloud.vm.power == "running"
    assert cloud.world.log.count("start") == 1


@pytest.mark.parametrize("answer", [None, Answer(500), refusal(429, "TooManyRequests", "Slow down.")])
def test_polls_that_fail_do_not_end_the_wait(cloud: Cloud, answer: Answer | None) -> None:
    cloud.world.steps["start"] = ["starting"] * 6 + ["running"]
    cloud.world.fault("operation", answer, times=3)
    cloud.start()
    assert cloud.vm.power == "running"
    assert cloud.world.log.count("start") == 1


def test_a_network_that_goes_away_meanwhile_is_waited_for(cloud: Cloud) -> None:
    cloud.world.fault("start", Answer(403, "<html>blocked</html>"), times=999)
    error = refused(cloud.start)
    assert type(error) is Unavailable
    assert "not Azure's (status 403)" in error.message
    assert "proxy" in error.hint
    assert cloud.stop.now > 1500


# ---------------------------------------------------------------- states


def test_a_state_that_is_not_told_is_asked_for_again(cloud: Cloud) -> None:
    cloud.world.hides_power = 4
    cloud.start()
    assert cloud.vm.power == "running"
    assert cloud.world.log.count("start") == 1


def test_a_state_that_becomes_known_calls_for_no_command(cloud: Cloud) -> None:
    cloud.world.hides_power = 3
    cloud.deallocate()
    assert "deallocate" not in cloud.world.log


def test_unknown_is_never_taken_for_deallocated(cloud: Cloud) -> None:
    cloud.vm.power = "running"
    cloud.world.hides_power = -1
    error = refused(cloud.deallocate)
    assert type(error) is Unavailable
    assert "but unknown; it may cost money" in error.message
    assert cloud.vm.power == "deallocated", "the command is sent all the same"


def test_stopped_for_a_moment_while_it_starts(cloud: Cloud) -> None:
    cloud.world.steps["start"] = ["stopped", "stopped", "starting", "running"]
    cloud.start()
    assert cloud.world.log.count("start") == 1


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("AllocationFailed", Unavailable, "no room for VM 'dev-vm' at the moment (AllocationFailed)"),
        ("ZonalAllocationFailed", Unavailable, "no room"),
        ("OperationNotAllowed", NeedsUser, "quota"),
        ("VMExtensionProvisioningError", NeedsUser, "(VMExtensionProvisioningError)"),
    ],
)
def test_an_operation_that_fails(cloud: Cloud, code: str, kind: type[DevsyncError], sentence: str) -> None:
    cloud.world.outcome = (
        "Failed",
        code,
        "Exceeds the quota." if sentence == "quota" else "It failed.",
    )
    error = refused(cloud.start)
    assert type(error) is kind
    assert sentence in error.message
    assert cloud.vm.power == "deallocated"


def test_an_operation_that_failed_although_the_vm_runs(cloud: Cloud) -> None:
    cloud.world.outcome = ("Failed", "VMAgentStatusCommunicationError", "No word from the agent.")
    cloud.world.on_change = lambda: _run_after_failure(cloud)
    cloud.start()
    assert cloud.world.log.count("start") == 1


def _run_after_failure(cloud: Cloud) -> None:
    if any(operation.status == "Failed" for operation in cloud.world.operations.values()):
        cloud.vm.power = "running"


def test_an_operation_that_keeps_failing_is_tried_less_often(cloud: Cloud) -> None:
    def fail_again() -> None:
        cloud.world.outcome = ("Failed", "InternalExecutionError", "An internal error occurred.")

    cloud.world.steps["start"] = ["running"]
    cloud.world.on_change = fail_again
    fail_again()
    error = refused(cloud.start)
    assert type(error) is Unavailable
    assert "internal error" in error.message
    assert cloud.world.log.count("start") <= 40, "Azure allows four a minute"


def test_a_timeout_of_the_platform_is_tried_again(cloud: Cloud) -> None:
    cloud.world.outcome = ("Failed", "VMStartTimedOut", "It took too long.")
    cloud.start()
    assert cloud.world.log.count("start") == 2


def test_a_start_that_is_superseded(cloud: Cloud) -> None:
    cloud.world.preempts = True
    cloud.world.steps["start"] = ["starting"] * 5 + ["running"]

    def progress(line: str) -> None:
        if cloud.vm.power == "starting":
            cloud.world.command(cloud.vm, "deallocate")

    error = refused(lambda: cloud.machine().start(cloud.stop, progress))
    assert type(error) is NeedsUser
    assert "newer operation" in error.message
    assert cloud.world.log.count("start") == 1


@pytest.mark.parametrize("preempts", [False, True])
def test_deallocate_while_it_starts(cloud: Cloud, preempts: bool) -> None:
    cloud.world.preempts = preempts
    cloud.world.command(cloud.vm, "start")
    cloud.deallocate()
    assert cloud.vm.power == "deallocated"


def test_a_vm_that_goes_away_meanwhile(cloud: Cloud) -> None:
    cloud.world.steps["start"] = ["starting"] * 5 + ["running"]

    def progress(line: str) -> None:
        if cloud.vm.power == "starting":
            cloud.world.vms.clear()

    error = refused(lambda: cloud.machine().start(cloud.stop, progress))
    assert type(error) is NeedsUser
    assert "there is no subscription" in error.message


# ---------------------------------------------------------------- addresses


def test_the_public_address_under_the_vms_own_name(cloud: Cloud) -> None:
    cloud.world.upper_ids = True
    cloud.vm.public_ip = "127.0.0.9"
    machine = AzureMachine(cloud.settings, ssh_port=2222)
    address = machine.address()
    assert (address.host, address.port, address.alias) == ("127.0.0.9", 2222, f"devsync-{cloud.vm.vm_id}")
    cloud.vm.vm_id = "made-anew"
    assert machine.address().alias == "devsync-made-anew"
    machine.close()


def test_without_a_public_address_the_private_one(cloud: Cloud) -> None:
    cloud.vm.has_public_ip = False
    assert cloud.machine().address().host == "10.0.0.4"


def test_a_dynamic_address_is_away_while_deallocated(cloud: Cloud) -> None:
    cloud.vm.public_ip = None
    error = refused(cloud.machine().address)
    assert type(error) is Unavailable
    assert "comes with the start" in error.message


def test_no_network_card(cloud: Cloud) -> None:
    cloud.vm.card = False
    assert "no network card" in refused(cloud.machine().address).message


def test_a_card_that_may_not_be_read(cloud: Cloud) -> None:
    text = "… does not have authorization to perform action 'Microsoft.Network/networkInterfaces/read' over …"
    cloud.world.fault("nic", refusal(403, "AuthorizationFailed", text))
    error = refused(cloud.machine().address)
    assert type(error) is NeedsUser
    assert (
        "find the address of VM 'dev-vm': the right Microsoft.Network/networkInterfaces/read" in error.message
    )


def test_a_card_that_is_gone(cloud: Cloud) -> None:
    text = (
        "The Resource 'Microsoft.Network/networkInterfaces/x' under resource group 'science' was not found."
    )
    cloud.world.fault("nic", refusal(404, "ResourceNotFound", text))
    assert "a network resource of VM 'dev-vm'" in refused(cloud.machine().address).message
