"""The metadata service of a VM, on loopback: who it is, its identity's tokens, and scheduled events."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


class Imds:
    """Running at `url`. `token` is None for a VM without an identity; `asked` are the paths, in order."""

    def __init__(self, resource_id: str, token: str | None = "the-vm's-own") -> None:
        self.resource_id, self.token = resource_id, token
        self.asked: list[str] = []
        self.incarnation, self.events = 1, list[dict[str, Any]]()
        self.malformed: bytes | None = None  # said instead of any document
        self.hangs = False  # takes the request, and never answers
        self._ending = threading.Event()
        imds = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = imds.answer(self.path, self.headers.get("Metadata"))
                content = imds.malformed or json.dumps(body).encode()
                if imds.hangs:
                    imds._ending.wait(20)
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Silent: tests read `asked`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="imds")
        self._thread.start()

    def answer(self, path: str, header: str | None) -> tuple[int, dict[str, Any]]:
        """Status and body, as the service gives them."""
        parts = urlsplit(path)
        query = dict(parse_qsl(parts.query))
        self.asked.append(parts.path)
        if header != "true" or "api-version" not in query:
            return 400, {"error": "invalid_request", "error_description": "Required metadata header missing"}
        if parts.path == "/metadata/instance/compute":
            return 200, {"resourceId": self.resource_id, "name": self.resource_id.rpartition("/")[2]}
        if parts.path == "/metadata/scheduledevents":
            return 200, {"DocumentIncarnation": self.incarnation, "Events": self.events}
        if parts.path != "/metadata/identity/oauth2/token":
            return 404, {"error": "Not found"}
        if self.token is None or not query.get("resource"):
            return 400, {"error": "invalid_request", "error_description": "Identity not found"}
        return 200, {
            "access_token": self.token,
            "expires_in": "86399",
            "expires_on": "1790086399",
            "resource": query["resource"],
            "token_type": "Bearer",
        }

    def announce(self, kind: str, *resources: str, **more: Any) -> dict[str, Any]:
        """One more event, half a minute ahead."""
        event = {
            "EventId": f"C7061BAC-AFDC-4513-B24B-AA5F13A1612{self.incarnation}",
            "EventStatus": "Scheduled",
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": list(resources),
            "NotBefore": "Sat, 11 Apr 2026 22:26:58 GMT",
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
            **more,
        }
        self.events = [*self.events, event]
        self.incarnation += 1
        return event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
