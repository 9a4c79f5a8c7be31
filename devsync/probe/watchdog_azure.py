"""What a VM can do to itself at Azure, by its managed identity: look, push the lease, deallocate. Travels.

Python 3.8. Each deed runs in a process of its own, so that a network that hangs stops no look, and what
TLS takes of memory is given back. The token is in that process alone; it is neither stored nor told.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from devsync.core import lease
from devsync.probe.watchdog_orders import Order

METADATA = "http://169.254.169.254"
"""The service on a VM's own link that knows who it is, and gives its identity's tokens."""

METADATA_AT = "AZURE_POD_IDENTITY_AUTHORITY_HOST"
"""The environment variable that says another address of it, as Azure's own libraries read it."""

COMPUTE_API = "2024-03-01"
PATIENCE = 20.0
"""Seconds that one answer may take."""

NEAR = 3.0
"""Seconds that the metadata service may take, which is on the VM's own host."""

LARGEST = 1 << 20


class Refused(Exception):
    """A deed that was not done; the text says why."""


def ask_metadata(environ: Mapping[str, str], path: str) -> Mapping[str, Any]:
    """What the metadata service says; empty if that is no JSON object. Raises Refused."""
    import http.client
    import urllib.error
    import urllib.request

    place = (environ.get(METADATA_AT) or METADATA).rstrip("/")
    request = urllib.request.Request(place + path, headers={"Metadata": "true"})  # noqa: S310 (the link's own)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is never behind a proxy
    try:
        with opener.open(request, timeout=NEAR) as answer:
            return _json(answer.read(LARGEST))
    except urllib.error.HTTPError as error:
        with error:
            if "/identity/" in path and error.code in (400, 404):
                raise Refused("the VM has no managed identity") from None
            raise Refused(f"the VM's metadata service answers {error.code}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Refused(
            f"the VM's metadata service does not answer: {_why(getattr(error, 'reason', error))}"
        ) from None


class Cloud:
    """Azure, as the identity of this VM sees it."""

    def __init__(self, order: Order, environ: Mapping[str, str]) -> None:
        self._order, self._environ = order, environ
        self._token = ""

    def check(self) -> str:
        """See that the identity is there and may see this VM; a text for the record. Raises Refused."""
        self._sign_in()
        self._send("GET", f"{self._order.vm}/instanceView?api-version={COMPUTE_API}")
        return "the identity may act"

    def deallocate(self) -> str:
        """Ask for this VM's deallocation. An answer that is lost is one that went down with it."""
        self._sign_in()
        self._send("POST", f"{self._order.vm}/deallocate?api-version={COMPUTE_API}", last=True)
        return "asked for"

    def renew(self) -> str:
        """Push the schedule forward, if it is devsync's."""
        self._sign_in()
        name = self._order.vm.rpartition("/")[2]
        group = self._order.vm.partition("/providers/")[0]
        url = f"{group}/providers/Microsoft.DevTestLab/schedules/{lease.NAME}{name}?api-version={lease.API}"
        schedule, now = self._send("GET", url)
        if not lease.is_ours(schedule) or self._order.lease is None:
            return "the schedule is not devsync's"
        at = lease.wanted(lease.standing(schedule, now), now, self._order.lease)
        if at is not None:
            self._send("PUT", url, lease.moved(schedule, at, self._order.vm, ""))
        return "pushed" if at is not None else "not due"

    def _sign_in(self) -> None:
        """Get a token, if this is the VM that the order is for: a copy of its disk may run elsewhere."""
        found = ask_metadata(self._environ, "/metadata/instance/compute?api-version=2021-02-01")
        if str(found.get("resourceId", "")).lower() != self._order.vm.lower():
            raise Refused("this is not the VM that the order was given for")
        resource = self._order.audience.rstrip("/")
        token = ask_metadata(
            self._environ, f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}"
        ).get("access_token")
        if not token:
            raise Refused("the VM has no managed identity")
        self._token = str(token)

    def _send(
        self, method: str, path: str, body: object = None, *, last: bool = False
    ) -> tuple[Mapping[str, Any], float]:
        """The answer, and the time of day at Azure. `last`: whoever asks may not live to hear it."""
        import http.client
        import ssl
        import urllib.error
        import urllib.request

        data = (
            b"" if body is None and method == "POST" else None if body is None else json.dumps(body).encode()
        )
        headers = {"Authorization": f"Bearer {self._token}", "User-Agent": "devsync-watchdog"}
        headers.update({} if body is None else {"Content-Type": "application/json"})
        url = self._order.endpoint.rstrip("/") + path
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 (an order's is https)
        context = ssl.create_default_context(cadata=self._order.certificates or None)
        try:
            with urllib.request.urlopen(  # noqa: S310 (see above)
                request, timeout=PATIENCE, context=context
            ) as answer:
                return _json(answer.read(LARGEST)), _date(answer.headers.get("Date"))
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(_refusal(error.code, error.read(LARGEST))) from None
        except urllib.error.URLError as error:
            raise Refused(f"Azure cannot be reached: {_why(error.reason)}") from None
        except (OSError, http.client.HTTPException) as error:
            if last:
                return {}, time.time()
            raise Refused(f"Azure's answer was lost: {_why(error)}") from None


DEEDS = {"check": Cloud.check, "renew": Cloud.renew, "deallocate": Cloud.deallocate}


def perform(kind: str, order: Order, environ: Mapping[str, str]) -> dict[str, Any]:
    """Do it: `ok`, and `why` in words."""
    try:
        return {"kind": kind, "ok": True, "why": DEEDS[kind](Cloud(order, environ))}
    except Refused as error:
        return {"kind": kind, "ok": False, "why": str(error)}


def _refusal(status: int, content: bytes) -> str:
    error = _json(content).get("error") or {}
    code = "".join(sign for sign in str(error.get("code", "")) if sign.isalnum())[:60]
    if status == 403:
        return f"the VM's identity lacks the right (403 {code})"
    return f"Azure refuses ({status} {code})".replace(" )", ")")


def _json(content: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(content or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _date(header: str | None) -> float:
    try:
        return parsedate_to_datetime(header or "").timestamp()
    except (ValueError, TypeError, IndexError):  # which of them, depends on the version of Python
        return time.time()


def _why(error: object) -> str:
    number = getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else type(error).__name__
