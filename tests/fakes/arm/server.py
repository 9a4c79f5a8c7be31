"""The endpoint: HTTPS on a loopback port. Owns the listening thread and one for each connection."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.fakes.arm import certificates
from tests.fakes.arm.routes import Request, answer
from tests.fakes.arm.world import Answer, World


class Arm:
    """A running endpoint: `url`, the PEM file `ca` that clients must trust, and the `world` behind it."""

    def __init__(self, folder: Path, world: World, port: int = 0) -> None:
        files = certificates.make(folder)
        self.world = world
        self.ca = str(files.authority)
        self._server = _Server(("127.0.0.1", port), files.server, world)
        self.url = self._server.url
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="arm")
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.hang_up()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, address: tuple[str, int], certificate: Path, world: World) -> None:
        super().__init__(address, _Handler)
        self.world = world
        self.url = f"https://127.0.0.1:{self.server_address[1]}"
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        # The handshake is left to the connection's own thread: a client that is slow holds up nobody.
        wrapped = self._context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self._open.add(wrapped)
        return wrapped, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection, so that the threads of idle ones come back."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or does not trust the certificate, is no error of the endpoint's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: tests read the world's log."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(self.server.world.now() if timestamp is None else timestamp)

    def _serve(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(content) if content else None
        request = Request(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), headers, body)
        given = answer(self.server.world, self.server.url, request)
        if given is None:
            self.close_connection = True
        else:
            self._send(given)

    def _send(self, given: Answer) -> None:
        kind, content = "application/json; charset=utf-8", b""
        if isinstance(given.body, str):
            kind, content = "text/html", given.body.encode()
        elif given.body is not None:
            content = json.dumps(given.body).encode()
        self.send_response(given.status)
        if content:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in given.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
