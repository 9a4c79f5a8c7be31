"""Requests to Azure as one account: signing in, sending, and every failure as a Trouble.

The only module that knows the Azure SDK. The SDK is imported inside functions: it costs half a second,
which only those pay who talk to Azure. An AzureClient owns its connections and is used by one thread at a
time. No thread is made: the SDK's pollers, which make one each and cannot be interrupted, are not used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from devsync.machine.azure_errors import (
    ANSWER_LOST,
    NOT_AZURE,
    NOT_SENT,
    SIGN_IN,
    UNTRUSTED,
    Problem,
    Trouble,
)
from devsync.machine.azure_settings import AzureSettings
from devsync.ports import NeedsUser

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
    from azure.mgmt.resource.deployments import DeploymentsMgmtClient

    SignIn = AzureCliCredential | DefaultAzureCredential | EnvironmentCredential | ManagedIdentityCredential

_LONGEST_AZ = 20
"""Seconds that `az` may take for a token; a cold start takes several."""


@dataclass(frozen=True)
class Reply:
    """An answer of Azure's: the status, the JSON object (empty if there was none), headers in lower case."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def pause(self) -> float | None:
        """Seconds to wait before asking again, as Azure wishes."""
        return _seconds(self.headers.get("retry-after"))

    @property
    def operation(self) -> str | None:
        """Where to ask about what has begun. The address is signed: never shown, never stored."""
        return self.headers.get("azure-asyncoperation") or self.headers.get("location")


def word(value: object) -> str:
    """The text of what the SDK gives as a text, or as a member of an enumeration if it knows the text."""
    return str(getattr(value, "value", value) or "")


class AzureClient:
    """An ARM and an account. Whatever fails inside `translated` is a Trouble."""

    def __init__(self, settings: AzureSettings) -> None:
        settings.check()
        self.settings = settings
        self._signed_in: SignIn | None = None
        self._compute: ComputeManagementClient | None = None
        self._deployments: DeploymentsMgmtClient | None = None
        self._held = ExitStack()

    def close(self) -> None:
        """End every connection; a later request opens them anew."""
        self._held.close()
        self._signed_in = self._compute = self._deployments = None

    @property
    def compute(self) -> ComputeManagementClient:
        """The SDK's client for machines."""
        if self._compute is None:
            from azure.mgmt.compute import ComputeManagementClient

            made = ComputeManagementClient(
                self._sign_in(), self.settings.subscription_id, **_options(self.settings)
            )
            self._compute = self._held.enter_context(made)
        return self._compute

    @property
    def deployments(self) -> DeploymentsMgmtClient:
        """The SDK's client for deployments."""
        if self._deployments is None:
            from azure.mgmt.resource.deployments import DeploymentsMgmtClient

            made = DeploymentsMgmtClient(
                self._sign_in(), self.settings.subscription_id, **_options(self.settings)
            )
            self._deployments = self._held.enter_context(made)
        return self._deployments

    def _sign_in(self) -> SignIn:
        if self._signed_in is None:
            self._signed_in = _credential(self.settings)
            self._held.callback(self._signed_in.close)
        return self._signed_in

    def send(
        self, method: str, url: str, body: object = None, *, doing: str, allow: Collection[int] = ()
    ) -> Reply:
        """One request by hand; `url` is whole, or begins at the endpoint.

        Raises Trouble for a status of 400 or more that is not in `allow`; `doing` as in `explain`.
        """
        from azure.core.rest import HttpRequest

        request = HttpRequest(method, url, json=body, headers={"Accept": "application/json"})
        with self.translated(doing):
            response = self.compute.send_request(request)
            if response.status_code not in allow:
                response.raise_for_status()
            return _reply(response)

    def begin(self, command: Callable[..., Any], *arguments: object, doing: str) -> Reply:
        """Send a command of the SDK's that opens an operation; its first answer."""
        seen: list[Any] = []  # the SDK's PipelineResponse
        with self.translated(doing):
            command(*arguments, polling=False, raw_response_hook=seen.append)
            return _reply(seen[-1].http_response)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """Turn what the SDK raises into Trouble; `doing` as in `explain`."""
        from azure.core.exceptions import AzureError

        try:
            yield
        except AzureError as error:
            raise Trouble(_problem(error), self.settings, doing) from None
        except json.JSONDecodeError:
            raise Trouble(Problem(200, NOT_AZURE), self.settings, doing) from None


def _options(settings: AzureSettings) -> dict[str, Any]:
    from azure.core import AzureClouds
    from azure.mgmt.core.tools import get_arm_endpoints

    # The SDK logs failures that are translated here (at WARNING, some with a traceback), and at DEBUG
    # urllib3 prints the signed addresses of operations whole.
    for name in ("azure", "msal", "urllib3"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.ERROR))
    endpoint = settings.endpoint
    scopes = get_arm_endpoints(AzureClouds.AZURE_PUBLIC_CLOUD)["credential_scopes"]
    for cloud in AzureClouds:
        known = get_arm_endpoints(cloud)
        if endpoint and urlsplit(known["resource_manager"]).hostname == urlsplit(endpoint).hostname:
            scopes = known["credential_scopes"]
    return {
        "base_url": endpoint,
        "credential_scopes": scopes,
        "connection_verify": settings.ca_bundle or True,
        "connection_timeout": 5,
        "read_timeout": 10,
        # One more try if a connection broke while reading, as idle ones do. Every other repetition, and
        # Retry-After above all, is waited for by the drive, which can be interrupted; the SDK's sleep cannot.
        "retry_total": 1,
        "retry_status": 0,
        "polling_interval": 5,
        "user_agent": "devsync",
    }


def _credential(settings: AzureSettings) -> SignIn:
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
    while said.details:  # a deployment's reason is the innermost of several
        said = said.details[0]
    return Problem(error.status_code, said.code or "", said.message or "", retry_after)


def _reply(response: HttpResponse) -> Reply:
    found = response.json() if response.content else {}
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, found if isinstance(found, dict) else {}, headers)


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isascii() and header.isdigit() else None
