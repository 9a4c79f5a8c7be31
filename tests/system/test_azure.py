"""Getting at Azure, with the real SDK over TLS: what is refused, signing in, and the way there."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from devsync.machine.azure_errors import plain
from devsync.ports import DevsyncError, Misuse, NeedsUser, Power, Unavailable
from tests.fakes import az
from tests.fakes.arm import Answer, refusal
from tests.fakes.arm.cloud import TOKEN, Cloud, refused
from tests.fakes.arm.cloud import cloud as make_cloud


@pytest.fixture
def cloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Cloud]:
    with make_cloud(tmp_path, monkeypatch, caplog) as made:
        yield made


# ---------------------------------------------------------------- refusals

FORBIDDEN = refusal(
    403,
    "AuthorizationFailed",
    "The client 'ada@example.org' with object id '1' does not have authorization to perform action "
    "'Microsoft.Compute/virtualMachines/start/action' over scope '/subscriptions/1/x'.",
)
QUOTA = refusal(
    409,
    "OperationNotAllowed",
    "Operation results in exceeding approved standardNCASv3_T4Family Cores quota.",
)
LOCKED = refusal(
    409, "ScopeLocked", "The scope '/subscriptions/1' cannot perform write operation because ..."
)
REFUSALS = {
    "forbidden": (FORBIDDEN, NeedsUser, "Microsoft.Compute/virtualMachines/start/action is missing", "role"),
    "locked": (LOCKED, NeedsUser, "a lock", "az lock list --resource-group science"),
    "quota": (QUOTA, NeedsUser, "standardNCASv3_T4Family", "Quotas"),
    "capacity": (
        refusal(409, "SkuNotAvailable", "Not here."),
        Unavailable,
        "no room for VM 'dev-vm'",
        "size",
    ),
    "disabled": (
        refusal(409, "ReadOnlyDisabledSubscription", "The subscription is disabled."),
        NeedsUser,
        "is disabled",
        "owner",
    ),
    "being deleted": (
        refusal(409, "OperationNotAllowed", "Cannot start VM since the VM is marked for deletion."),
        NeedsUser,
        "is being deleted",
        "az vm list",
    ),
    "bad request": (
        refusal(400, "InvalidParameter", "The value is odd."),
        NeedsUser,
        "(InvalidParameter): The value is odd",
        "portal",
    ),
    "for good": (
        refusal(409, "OperationNotAllowed", "This is not supported for VMs with an ephemeral disk."),
        NeedsUser,
        "ephemeral disk",
        "portal",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_start_says_why_and_what_to_do(cloud: Cloud, name: str) -> None:
    answer, kind, sentence, hint = REFUSALS[name]
    cloud.world.fault("start", answer, times=99)
    error = refused(cloud.start)
    assert cloud.world.log.count("start") == 1, "it is not tried again"
    assert type(error) is kind
    assert sentence in error.message
    assert hint in error.hint


def test_a_refused_deallocation_says_that_it_costs(cloud: Cloud) -> None:
    cloud.vm.power = "running"
    cloud.world.fault("deallocate", LOCKED)
    error = refused(cloud.deallocate)
    assert type(error) is NeedsUser
    assert "cannot deallocate VM 'dev-vm'" in error.message
    assert "cost money" in error.hint


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"vm_name": "other"},
            "there is no VM 'other' in resource group 'science' of subscription 11111111-",
        ),
        ({"resource_group": "arts"}, "there is no resource group 'arts' in subscription 11111111-"),
        ({"subscription_id": "99999999-0000"}, "there is no subscription 99999999-0000"),
    ],
)
def test_what_is_missing_is_named(cloud: Cloud, change: dict[str, str], sentence: str) -> None:
    machine = cloud.machine(**change)
    assert machine.power() is Power.MISSING
    error = refused(lambda: machine.start(cloud.stop, cloud.lines.append))
    assert type(error) is NeedsUser
    assert sentence in error.message


def test_a_page_that_is_no_answer_of_azures_is_not_missing(cloud: Cloud) -> None:
    for status in (200, 404):
        cloud.world.fault("instanceView", Answer(status, "<html>Please sign in to the hotel</html>"))
        error = refused(cloud.machine().power)
        assert type(error) is Unavailable
        assert "not Azure's" in error.message


# ---------------------------------------------------------------- signing in


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        (az.LOGGED_OUT, NeedsUser, "az login"),
        (az.EXPIRED, NeedsUser, "AADSTS700082"),
        (az.OFFLINE, Unavailable, "name resolution"),
    ],
)
def test_az_that_gives_no_token(cloud: Cloud, words: str, kind: type[DevsyncError], sentence: str) -> None:
    cloud.az.fail(words)
    error = refused(cloud.start)
    assert type(error) is kind
    assert sentence in error.message
    assert "run: az login" in error.hint
    assert cloud.az.calls == 1
    assert cloud.world.log == []


def test_az_that_talks_nonsense_does_not_give_its_token_away(cloud: Cloud) -> None:
    cloud.az.say(f'{{"accessToken": "{TOKEN}", "and": "nothing else"}}')
    assert type(refused(cloud.machine().power)) is NeedsUser


def test_no_az_at_all(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    error = refused(cloud.machine().power)
    assert type(error) is NeedsUser
    assert "install the Azure CLI" in error.hint


def test_a_token_that_azure_does_not_take(cloud: Cloud) -> None:
    cloud.world.tokens = {"another"}
    error = refused(cloud.machine().power)
    assert type(error) is NeedsUser
    assert "The access token is invalid" in error.message
    assert error.hint == "run: az login"


def test_a_challenge_names_the_command_that_answers_it(cloud: Cloud) -> None:
    claims = base64.b64encode(b'{"access_token": {"acrs": {"essential": true, "value": "p1"}}}').decode()
    challenge = f'Bearer realm="", error="insufficient_claims", claims="{claims}"'
    cloud.world.fault("instanceView", refusal(401, "InvalidToken", "Claims.", WWW_Authenticate=challenge))
    error = refused(cloud.machine().power)
    assert type(error) is NeedsUser
    assert error.hint.startswith("run: az login --claims-challenge ")
    assert "--scope https://management.azure.com/.default" in error.hint


def test_one_token_serves_a_whole_start(cloud: Cloud) -> None:
    cloud.start()
    assert cloud.az.calls == 1
    assert cloud.world.seen_tokens == {TOKEN}


def test_a_login_that_ends_on_the_way_is_told_at_once(cloud: Cloud) -> None:
    cloud.az.log_in(TOKEN, seconds=60)
    cloud.world.fault(
        "operation", Answer(401, {"error": {"code": "ExpiredAuthenticationToken", "message": "Old."}})
    )
    assert type(refused(cloud.start)) is NeedsUser


def test_the_default_credential_told_nonsense(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "nonsense")
    error = refused(cloud.machine(credential="default").power)
    assert type(error) is NeedsUser
    assert "nonsense" in error.message


def test_the_environment_without_its_variables(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    error = refused(cloud.machine(credential="environment").power)
    assert type(error) is NeedsUser
    assert "AZURE_CLIENT_SECRET" in error.hint


def test_a_managed_identity_is_asked_without_a_proxy(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Metadata"] == "true"
            body = b'{"access_token": "%s", "expires_in": "3600", "token_type": "Bearer"}' % TOKEN.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Metadata) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", cloud.arm.url.removeprefix("https://"))
        assert cloud.machine(credential="managed-identity").power() is Power.DEALLOCATED
        thread.join()


@pytest.mark.parametrize(
    ("endpoint", "resource"),
    [
        ("https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net"),
        ("https://arm.example.org", "https://management.azure.com"),
    ],
)
def test_the_token_is_for_the_cloud_of_the_endpoint(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, endpoint: str, resource: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # so that nothing leaves this computer
    error = refused(cloud.machine(endpoint=endpoint).power)
    assert type(error) is Unavailable
    assert endpoint in error.message
    assert f"--resource {resource} " in (cloud.az.folder / "calls").read_text()


# ---------------------------------------------------------------- the way there


def test_nobody_listens(cloud: Cloud) -> None:
    error = refused(
        lambda: cloud.machine(endpoint="https://127.0.0.1:9").start(cloud.stop, cloud.lines.append)
    )
    assert type(error) is Unavailable
    assert "cannot reach Azure at https://127.0.0.1:9" in error.message
    assert cloud.stop.waits == [], "nothing was begun, so nothing is waited for"


def test_a_certificate_that_is_not_trusted(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(cloud.machine(ca_bundle=None).power)
    assert type(error) is Unavailable
    assert "is not trusted" in error.message
    assert "ca_bundle" in error.hint


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"endpoint": "http://127.0.0.1:80"}, "machine.azure.endpoint"),
        ({"ca_bundle": "/nowhere.pem"}, "machine.azure.ca_bundle"),
        ({"subscription_id": "semi;colon"}, "machine.azure.subscription_id"),
    ],
)
def test_settings_that_cannot_be_used(cloud: Cloud, change: dict[str, str], key: str) -> None:
    error = refused(lambda: cloud.machine(**change))
    assert type(error) is Misuse
    assert key in error.message


def test_a_connection_that_broke_while_idle_is_not_noticed(cloud: Cloud) -> None:
    cloud.world.fault("instanceView", None)
    assert cloud.machine().power() is Power.DEALLOCATED


def test_a_server_error_and_a_throttle_are_told_by_power_at_once(cloud: Cloud) -> None:
    cloud.world.fault("instanceView", Answer(503, "<html>busy</html>"))
    assert type(refused(cloud.machine().power)) is Unavailable
    cloud.world.fault("instanceView", refusal(429, "TooManyRequests", "Slow down.", Retry_After="17"))
    error = refused(cloud.machine().power)
    assert type(error) is Unavailable
    assert "for 17 s" in error.message


# ---------------------------------------------------------------- the house


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("It failed.", "It failed"),
        ("\n\nERROR: first line\nsecond line", "first line"),
        (
            "see https://management.azure.com/x/operations/1?t=6&c=MIIH&s=aB3 now",
            "see https://management.azure.com/x/operations/1 now",
        ),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer …"),
        ("token eyJ0eXAiOiJKV1Qi.eyJhdWQi.sig-nature was refused", "token … was refused"),
        ("a \x1b[31mred\x07 word", "a [31mred word"),
        ("x" * 400, "x" * 299 + "…"),
        ("", ""),
    ],
)
def test_a_message_is_one_line_without_secrets(said: str, shown: str) -> None:
    assert plain(said) == shown


def test_the_sdk_is_not_loaded_before_it_is_used() -> None:
    program = (
        "import sys; from devsync.machine.azure import AzureMachine, AzureSettings;"
        "AzureMachine(AzureSettings('s', 'g', 'v')).close();"
        "sys.exit(any(name.split('.')[0] in ('azure', 'msal', 'requests') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
