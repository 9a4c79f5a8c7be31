"""An Azure VM as the machine; the only module that knows the Azure SDK.

The SDK is imported inside functions: it costs half a second, which only those pay who talk to Azure.
The client and its connections belong to the AzureMachine, which is used by one thread at a time. No
thread is made: the SDK's pollers, which make one each and cannot be interrupted, are not used.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from devsync.machine.azure_drive import DEALLOCATE, START, Drive, Goal, Operation
from devsync.machine.azure_errors import (
    ANSWER_LOST,
    NOT_AZURE,
    NOT_SENT,
    SIGN_IN,
    UNTRUSTED,
    Kind,
    Problem,
    Trouble,
)
from devsync.machine.azure_settings import AzureSettings
from devsync.ports import Address, NeedsUser, Power, Progress, Unavailable

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError, HttpResponseError
    from azure.core.rest import HttpResponse
    from azure.identity import (
        AzureCliCredential,
        DefaultAzureCredential,
        EnvironmentCredential,
        ManagedIdentityCredential,
    )
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.compute.models import VirtualMachineInstanceView

    SignIn = AzureCliCredential | DefaultAzureCredential | EnvironmentCredential | ManagedIdentityCredential

__all__ = ["AzureMachine", "AzureSettings"]

_NETWORK_API = "2024-01-01"
_LONGEST_AZ = 20
"""Seconds that `az` may take for a token; a cold start takes several."""


class AzureMachine:
    """The VM of `settings` (ports.Machine).

    `interval` is the seconds between two looks while waiting, `deadline` the seconds for one start or
    deallocation. Azure's limits allow 12 looks a minute. Misuse if the settings cannot be right.
    """

    provider = "azure"

    def __init__(
        self,
        settings: AzureSettings,
        *,
        ssh_port: int = 22,
        interval: float = 5.0,
        deadline: float = 600.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        settings.check()
        self._vm = _Vm(settings)
        self._ssh_port = ssh_port
        self._interval, self._deadline, self._monotonic = interval, deadline, monotonic

    def power(self) -> Power:
        try:
            return self._vm.look()
        except Trouble as trouble:
            if trouble.kind is Kind.MISSING:
                return Power.MISSING
            raise trouble.error from None

    def start(self, stop: threading.Event, progress: Progress) -> None:
        self._drive(START, stop, progress)

    def deallocate(self, stop: threading.Event, progress: Progress) -> None:
        self._drive(DEALLOCATE, stop, progress)

    def _drive(self, goal: Goal, stop: threading.Event, progress: Progress) -> None:
        pace = {"interval": self._interval, "deadline": self._deadline}
        Drive(self._vm, goal, stop, progress, monotonic=self._monotonic, **pace).run()

    def address(self) -> Address:
        """The public address, else the private one; `alias` is the VM's id: made anew, it is another host."""
        try:
            vm_id, host = self._vm.whereabouts()
        except Trouble as trouble:
            raise trouble.error from None
        return Address(host, self._ssh_port, f"devsync-{vm_id}")

    def close(self) -> None:
        self._vm.close()


class _Vm:
    """The requests about one VM. Every failure of theirs is a Trouble."""

    def __init__(self, settings: AzureSettings) -> None:
        self.name = settings.vm_name
        self._settings = settings
        self._opened: ComputeManagementClient | None = None
        self._held = ExitStack()

    @property
    def _client(self) -> ComputeManagementClient:
        if self._opened is None:
            sign_in = _sign_in(self._settings)
            self._held.callback(sign_in.close)
            self._opened = self._held.enter_context(_connect(self._settings, sign_in))
        return self._opened

    def close(self) -> None:
        self._held.close()
        self._opened = None

    def look(self) -> Power:
        machines = self._client.virtual_machines
        with self._translated("read the state of"):
            return power_of(machines.instance_view(self._settings.resource_group, self.name))

    def begin(self, verb: str) -> Operation | None:
        headers: dict[str, str] = {}
        machines = self._client.virtual_machines
        command = machines.begin_start if verb == START.verb else machines.begin_deallocate
        with self._translated(verb):
            command(
                self._settings.resource_group,
                self.name,
                polling=False,
                raw_response_hook=lambda response: headers.update(_lower(response.http_response.headers)),
            )
        url = headers.get("azure-asyncoperation") or headers.get("location")
        return Operation(url, _seconds(headers.get("retry-after"))) if url else None

    def poll(self, operation: Operation, verb: str) -> Operation | None:
        with self._translated(verb):
            response = self._get(operation.url)
            if response.status_code in (403, 404):
                # A narrow role may not read operations, and Azure forgets old ones: the state tells enough.
                return None
            response.raise_for_status()
        body = _body(response)
        status = body.get("status") or ("InProgress" if response.status_code == 202 else "Succeeded")
        if status == "Succeeded":
            return None
        if status in ("Failed", "Canceled"):
            error = body.get("error") or {}
            problem = Problem(200, error.get("code") or status, error.get("message") or "")
            raise Trouble(problem, self._settings, verb, ended=True)
        return Operation(operation.url, _seconds(response.headers.get("Retry-After")))

    def whereabouts(self) -> tuple[str, str]:
        """The VM's id and the address of its first network card."""
        machines = self._client.virtual_machines
        with self._translated("find the address of"):
            vm = machines.get(self._settings.resource_group, self.name)
            profile = vm.network_profile
            cards = sorted((profile and profile.network_interfaces) or [], key=lambda card: not card.primary)
            if not cards or not cards[0].id:
                raise self._nowhere("it has no network card")
            return vm.vm_id or "", self._host(self._properties(cards[0].id))

    def _host(self, card: Mapping[str, Any]) -> str:
        configurations = [entry.get("properties") or {} for entry in card.get("ipConfigurations") or []]
        configurations.sort(key=lambda properties: not properties.get("primary"))
        first: Mapping[str, Any] = configurations[0] if configurations else {}
        public = first.get("publicIPAddress")
        if public is None:
            host = first.get("privateIPAddress")
        else:
            host = self._properties(public["id"]).get("ipAddress")
        if not host:
            raise self._nowhere("it has none at the moment; one that is dynamic comes with the start")
        return str(host)

    def _nowhere(self, why: str) -> Unavailable:
        return Unavailable(f"VM '{self.name}' has no address: {why}", hint="start it, or set ssh.host")

    def _properties(self, resource: str) -> Mapping[str, Any]:
        response = self._get(f"{resource}?api-version={_NETWORK_API}")
        response.raise_for_status()
        properties = _body(response).get("properties")
        return properties if isinstance(properties, dict) else {}

    def _get(self, url: str) -> HttpResponse:
        from azure.core.rest import HttpRequest

        return self._client.send_request(HttpRequest("GET", url, headers={"Accept": "application/json"}))

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        from azure.core.exceptions import AzureError

        try:
            yield
        except AzureError as error:
            raise Trouble(_problem(error), self._settings, doing) from None
        except json.JSONDecodeError:
            raise Trouble(Problem(200, NOT_AZURE), self._settings, doing) from None


def power_of(view: VirtualMachineInstanceView) -> Power:
    """The power state in an instance view; UNKNOWN if it has none, or one that nobody has heard of."""
    for status in view.statuses or ():
        kind, _, state = (status.code or "").lower().partition("/")
        if kind == "powerstate":
            return next((power for power in Power if power.value == state), Power.UNKNOWN)
    return Power.UNKNOWN


def _connect(settings: AzureSettings, sign_in: SignIn) -> ComputeManagementClient:
    from azure.core import AzureClouds
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.core.tools import get_arm_endpoints

    # The SDK logs failures that are translated here (at WARNING, some with a traceback), and at DEBUG
    # urllib3 prints the signed addresses of operations whole.
    for name in ("azure", "msal", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.ERROR))
    endpoint, scopes = (
        settings.endpoint,
        get_arm_endpoints(AzureClouds.AZURE_PUBLIC_CLOUD)["credential_scopes"],
    )
    for cloud in AzureClouds:
        known = get_arm_endpoints(cloud)
        if endpoint and urlsplit(known["resource_manager"]).hostname == urlsplit(endpoint).hostname:
            scopes = known["credential_scopes"]
    return ComputeManagementClient(
        sign_in,
        settings.subscription_id,
        base_url=endpoint,
        credential_scopes=scopes,
        connection_verify=settings.ca_bundle or True,
        connection_timeout=5,
        read_timeout=10,
        # One more try if a connection broke while reading, as idle ones do. Every other repetition, and
        # Retry-After above all, is waited for by the drive, which can be interrupted; the SDK's sleep cannot.
        retry_total=1,
        retry_status=0,
        polling_interval=5,
        user_agent="devsync",
    )


def _sign_in(settings: AzureSettings) -> SignIn:
    from azure import identity

    try:
        match settings.credential:
            case "cli":
                return identity.AzureCliCredential(
                    subscription=settings.subscription_id, process_timeout=_LONGEST_AZ
                )
            case "managed-identity":
                # The service that gives its tokens is on the VM's own link and never behind a proxy.
                return identity.ManagedIdentityCredential(use_env_settings=False)
            case "environment":
                return identity.EnvironmentCredential()
            case "default":
                return identity.DefaultAzureCredential()
    except ValueError as error:
        # AZURE_TOKEN_CREDENTIALS may hold a word that the default credential does not know.
        raise NeedsUser(
            f"cannot sign in to Azure: {error}",
            hint='set machine.azure.credential = "cli", and run: az login',
        ) from None


def _problem(error: AzureError) -> Problem:
    from azure.core import exceptions

    match error:
        case exceptions.ClientAuthenticationError(response=None):
            return Problem(None, SIGN_IN, error.message)
        case exceptions.ServiceRequestError():
            untrusted = "CERTIFICATE_VERIFY_FAILED" in error.message
            return Problem(None, UNTRUSTED if untrusted else NOT_SENT)
        case exceptions.DecodeError():
            return Problem(error.status_code, NOT_AZURE)
        case exceptions.HttpResponseError(status_code=int()):
            return _answer(error)
        case _:
            return Problem(None, ANSWER_LOST)


def _answer(error: HttpResponseError) -> Problem:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    retry_after = _seconds(headers.get("Retry-After"))
    said = error.error
    if said is None:
        return Problem(error.status_code, "", "", retry_after)
    return Problem(error.status_code, said.code or "", said.message or "", retry_after)


def _body(response: HttpResponse) -> Mapping[str, Any]:
    """The JSON object of an answer; an empty one if it has none."""
    body = response.json() if response.content else {}
    return body if isinstance(body, dict) else {}


def _lower(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isascii() and header.isdigit() else None
