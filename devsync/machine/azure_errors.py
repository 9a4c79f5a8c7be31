"""What Azure refuses, as one pure table: status and code in; kind of trouble and a sentence for people out.

The exception classes of the SDK say too little (every 409 is a ResourceExistsError, an operation that
failed carries status 200), so nothing but the status, ARM's code and its message decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from devsync.machine.azure_settings import AzureSettings
from devsync.ports import DevsyncError, NeedsUser, Unavailable

SIGN_IN = "SignIn"
"""The credential gave no token: a code of ours, as the next four. No request was made."""
NOT_SENT = "NotSent"
UNTRUSTED = "Untrusted"
ANSWER_LOST = "AnswerLost"
NOT_AZURE = "NotAzure"


@dataclass(frozen=True)
class Problem:
    """What came back: the HTTP status (None: nothing did), a code, a message, and Retry-After in seconds."""

    status: int | None
    code: str
    message: str = ""
    retry_after: float | None = None


class Kind(Enum):
    """What is to be done about a problem."""

    LOGIN = "login"
    LOGIN_AWAY = "login away"
    FORBIDDEN = "forbidden"
    LOCKED = "locked"
    DISABLED = "disabled"
    MISSING = "missing"
    CONFLICT = "conflict"
    THROTTLED = "throttled"
    CAPACITY = "capacity"
    QUOTA = "quota"
    SUPERSEDED = "superseded"
    OUTAGE = "outage"
    LOST = "lost"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    FOREIGN = "foreign"
    REFUSED = "refused"

    @property
    def passing(self) -> bool:
        """Whether asking again in a moment may well succeed."""
        return self in _PASSING

    @property
    def away(self) -> bool:
        """Whether Azure was not reached at all, so that nothing has happened there."""
        return self in (Kind.UNREACHABLE, Kind.UNTRUSTED, Kind.FOREIGN, Kind.LOGIN_AWAY)


_PASSING = {
    Kind.CONFLICT,
    Kind.THROTTLED,
    Kind.OUTAGE,
    Kind.LOST,
    Kind.UNREACHABLE,
    Kind.FOREIGN,
    Kind.LOGIN_AWAY,
}

_CODES: Mapping[Kind, tuple[str, ...]] = {
    Kind.UNREACHABLE: (NOT_SENT,),
    Kind.UNTRUSTED: (UNTRUSTED,),
    Kind.LOST: (ANSWER_LOST,),
    Kind.FOREIGN: (NOT_AZURE,),
    Kind.LOCKED: ("ScopeLocked",),
    Kind.DISABLED: ("ReadOnlyDisabledSubscription",),
    Kind.CAPACITY: (
        "AllocationFailed",
        "ZonalAllocationFailed",
        "OverconstrainedAllocationRequest",
        "OverconstrainedZonalAllocationRequest",
        "SkuNotAvailable",
        "SpotPriceGreaterThanProvidedMaxPrice",
    ),
    Kind.QUOTA: ("QuotaExceeded", "ResourceQuotaExceeded", "PublicIPCountLimitReached"),
    Kind.SUPERSEDED: ("OperationPreempted", "Canceled"),
    Kind.CONFLICT: (
        "Conflict",
        "ConflictingConcurrentWriteNotAllowed",
        "AnotherOperationInProgress",
        "DeploymentActive",
        "ResourceGroupBeingDeleted",
    ),
    Kind.OUTAGE: (
        "RetryableError",
        "InternalExecutionError",
        "InternalOperationError",
        "InternalServerError",
        "VMStartTimedOut",
        "OSProvisioningTimedOut",
        "VMAgentStatusCommunicationError",
    ),
}
_BY_CODE = {code.lower(): kind for kind, codes in _CODES.items() for code in codes}

_IN_A_MOMENT = re.compile(
    r"in progress|ongoing operation|after some time|try again|retry later|concurrent"
    r"|marked to be deallocated",
    re.I,
)
_NETWORK = re.compile(
    r"max retries|failed to establish|connection (error|refused|reset|aborted)|timed out|timeout|getaddrinfo"
    r"|name resolution|name or service|network is unreachable|failed to invoke the azure cli",
    re.I,
)


def classify(problem: Problem) -> Kind:
    """The kind of a problem. An error page that is not ARM's own (it has no code) is no verdict of ARM's."""
    status, code, message = problem.status, problem.code, problem.message
    if code == SIGN_IN:
        return Kind.LOGIN_AWAY if _NETWORK.search(message) else Kind.LOGIN
    if status == 401:
        return Kind.LOGIN
    if status == 429:
        return Kind.THROTTLED
    if code.lower() in _BY_CODE:
        return _BY_CODE[code.lower()]
    if status is not None and status >= 500:
        return Kind.OUTAGE
    if status == 408:
        return Kind.LOST
    if not code:
        return Kind.FOREIGN
    if status == 403:
        return Kind.FORBIDDEN
    if status == 404 or "marked for deletion" in message:
        return Kind.MISSING
    if "quota" in message.lower():
        return Kind.QUOTA
    if status == 412 or (status == 409 and _IN_A_MOMENT.search(message)):
        return Kind.CONFLICT
    return Kind.REFUSED


class Trouble(Exception):
    """A request that did not do what it should; stays inside this package. `error` is what the user reads.

    `ended` says that it is the end of an operation that had been accepted.
    """

    def __init__(self, problem: Problem, settings: AzureSettings, doing: str, *, ended: bool = False) -> None:
        super().__init__(problem.code)
        self.kind = classify(problem)
        self.error = explain(problem, settings, doing)
        self.retry_after = problem.retry_after
        self.ended = ended


def explain(problem: Problem, settings: AzureSettings, doing: str) -> DevsyncError:
    """The error a user reads; `doing` is a verb for the VM: start, deallocate, read the state of, …."""
    kind = classify(problem)
    error = _signing_in(kind, problem, settings) or _rights(kind, problem, settings, doing)
    error = error or _away(kind, problem, settings) or _power(kind, problem, settings, doing)
    if doing == "deallocate" and kind is not Kind.MISSING:
        error.hint = f"{error.hint}; until it is deallocated the VM may cost money"
    return error


def _signing_in(kind: Kind, problem: Problem, settings: AzureSettings) -> DevsyncError | None:
    said = plain(problem.message)
    if kind is Kind.LOGIN_AWAY:
        return Unavailable(
            f"cannot get a token for Azure: {said}",
            hint="it is tried again; if this computer is online, run: az login",
        )
    if kind is not Kind.LOGIN:
        return None
    return NeedsUser(f"not signed in to Azure: {said}", hint=_login_hint(problem.message, settings))


def _login_hint(message: str, settings: AzureSettings) -> str:
    if settings.credential == "managed-identity":
        return 'give this computer a managed identity in Azure, or set machine.azure.credential = "cli"'
    if settings.credential == "environment":
        return "set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET where devsync is started"
    if "not found on path" in message:
        return "install the Azure CLI, then run: az login"
    challenge = re.search(r"az login --claims-challenge [\w=+/-]+(?: --(?:tenant|scope) [\w.:/-]+)*", message)
    return f"run: {challenge.group() if challenge else 'az login'}"


def _rights(kind: Kind, problem: Problem, settings: AzureSettings, doing: str) -> DevsyncError | None:
    vm = settings.subject
    if kind is Kind.FORBIDDEN:
        action = re.search(r"action '([\w./*-]+)'", problem.message)
        missing = f"the right {action.group(1)} is missing" if action else plain(problem.message)
        return NeedsUser(
            f"no right to {doing} {vm}: {missing}",
            hint=_ROLES.get(doing, "ask for the role Virtual Machine Contributor on it")
            + "; a new role takes some minutes to work",
        )
    if kind is Kind.LOCKED:
        return NeedsUser(
            f"cannot {doing} {vm}: a lock on it, its group or its subscription forbids it",
            hint=f"find it and remove it: az lock list --resource-group {settings.resource_group}",
        )
    if kind is Kind.DISABLED:
        return NeedsUser(
            f"cannot {doing} {vm}: subscription {settings.subscription_id} is disabled and read-only",
            hint="its owner can enable it in the Azure portal",
        )
    return None


_TO_DEPLOY = (
    "ask for the role Owner of the resource group (docs/azure.md), "
    "or deploy with --no-identity and the role Contributor"
)
_ROLES = {
    "deploy": _TO_DEPLOY,
    "check the plan for": _TO_DEPLOY,
    "destroy": "ask for the role Owner of the resource group",
    "let this computer reach": "ask for the role Network Contributor on its network security group",
}
"""What to ask for, beside what starting and deallocating needs."""


def _away(kind: Kind, problem: Problem, settings: AzureSettings) -> DevsyncError | None:
    where = settings.endpoint or "https://management.azure.com"
    if kind is Kind.UNREACHABLE:
        return Unavailable(
            f"cannot reach Azure at {where}", hint="is this computer online? it is tried again"
        )
    if kind is Kind.UNTRUSTED:
        return Unavailable(
            f"the certificate of {where} is not trusted",
            hint="a proxy in between? name its certificate as machine.azure.ca_bundle",
        )
    if kind is Kind.FOREIGN:
        return Unavailable(
            f"the answer of {where} is not Azure's (status {problem.status})",
            hint="a proxy or a sign-in page of the network may be in between; it is tried again",
        )
    if kind is Kind.LOST:
        return Unavailable(
            f"the answer of {where} was lost",
            hint="Azure may have acted all the same; the state is read again",
        )
    return None


def _power(kind: Kind, problem: Problem, settings: AzureSettings, doing: str) -> DevsyncError:
    vm, said = settings.subject, plain(problem.message) or problem.code
    match kind:
        case Kind.MISSING:
            return NeedsUser(
                _missing(problem, settings), hint="check [machine.azure] in devsync.toml, and: az vm list"
            )
        case Kind.CONFLICT:
            return Unavailable(
                f"cannot {doing} {vm} yet: {said}", hint="another operation has it; it is tried again"
            )
        case Kind.THROTTLED:
            wait = f" for {problem.retry_after:.0f} s" if problem.retry_after else ""
            return Unavailable(f"Azure takes no more requests{wait}", hint="it is tried again after that")
        case Kind.OUTAGE:
            return Unavailable(f"Azure failed to {doing} {vm}: {said}", hint="it is tried again")
        case Kind.CAPACITY:
            return Unavailable(
                f"Azure has no room for {vm} at the moment ({problem.code}): {said}",
                hint="try again later, or give the deallocated VM another size: devsync vm resize SIZE",
            )
        case Kind.QUOTA:
            return NeedsUser(
                f"cannot {doing} {vm}: the subscription's quota is used up: {said}",
                hint="deallocate another VM, or ask for more: see Quotas in the Azure portal",
            )
        case Kind.SUPERSEDED:
            return NeedsUser(
                f"cannot {doing} {vm}: somebody's newer operation has replaced this one",
                hint="see who: the VM's activity log in the Azure portal",
            )
        case _:
            return NeedsUser(
                f"Azure refuses to {doing} {vm} ({problem.code}): {said}",
                hint="the VM's page in the Azure portal may tell more",
            )


def _missing(problem: Problem, settings: AzureSettings) -> str:
    group, subscription = (
        f"resource group '{settings.resource_group}'",
        f"subscription {settings.subscription_id}",
    )
    if problem.code == "SubscriptionNotFound":
        return f"there is no {subscription}, or this account does not see it"
    if problem.code == "ResourceGroupNotFound":
        return f"there is no {group} in {subscription}"
    where = f"{settings.subject} in {group} of {subscription}"
    if "marked for deletion" in problem.message:
        return f"{where} is being deleted"
    if re.search(r"Microsoft\.Network/", problem.message, re.I):
        return f"a network resource of {where} is gone: {plain(problem.message)}"
    return f"there is no {where}"


_SECRETS = (
    (re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]+"), r"\1"),
    (re.compile(r"eyJ[\w-]{8,}[\w.-]*"), "…"),
    (re.compile(r"(?i)(bearer|accesstoken\W+|client_secret\W+)\s*[\w.~+/=-]{8,}"), r"\1 …"),
)


def plain(message: str) -> str:
    """One printable line of at most 300 characters: no token, no signed address, no final full stop."""
    line = next((line for line in message.splitlines() if line.strip()), "")
    line = "".join(char for char in line if char.isprintable()).strip()
    for pattern, instead in _SECRETS:
        line = pattern.sub(instead, line)
    return (line if len(line) <= 300 else f"{line[:299]}…").rstrip(".").removeprefix("ERROR: ")
