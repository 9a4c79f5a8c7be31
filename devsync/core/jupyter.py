"""Jupyter on the machine: a server, its kernels, where one can be started; what is believed of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PORT = 8888
"""Where Jupyter listens by custom."""


@dataclass(frozen=True)
class Server:
    """One that runs on the machine's loopback and shows the project. `page` is the path of its start page."""

    pid: int
    port: int
    token: str = field(repr=False)
    page: str

    def url(self, local: int) -> str:
        """What opens it by way of this port here."""
        return f"http://localhost:{local}{self.page}?token={self.token}"


@dataclass(frozen=True)
class Kernel:
    """`state` is Jupyter's word (idle, busy, starting, dead); `notebook` is relative to the server's folder.

    `memory` is in bytes, all its processes together; None where nobody can say.
    """

    id: str
    name: str
    state: str
    notebook: str | None
    memory: int | None

    def to_json(self) -> dict[str, Any]:
        """The kernel as a JSON value."""
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """A Jupyter that `words` start there; or, if there is none, the commands that `installs` one."""

    words: tuple[str, ...] = ()
    installs: tuple[str, ...] = ()


def server_from_json(value: object) -> Server | None:
    """A server, or None if there is none. ValueError for what no honest far end says."""
    if value is None:
        return None
    told = _mapping(value)
    pid, port = _whole(told, "pid"), _whole(told, "port")
    token, page = _text(told, "token"), _text(told, "page")
    if not 0 < port < 65536:
        raise ValueError("no server")
    # What is opened in the browser leads to this server, whatever it calls itself.
    if not token or not (token + page).isascii() or set(token + page) & set(" \"'<>\\?#&"):
        raise ValueError("a server with a token or a page that is none")
    if not page.startswith("/") or page.startswith("//"):
        raise ValueError("a server with a page that is none")
    return Server(pid, port, token, page)


def kernels_from_json(value: object) -> list[Kernel]:
    """The kernels of a server. ValueError as above."""
    if not isinstance(value, list):
        raise ValueError("no kernels")
    return [_kernel(_mapping(one)) for one in value]


def _kernel(told: Mapping[str, Any]) -> Kernel:
    notebook = None if told.get("notebook") is None else _text(told, "notebook")
    memory = None if told.get("memory") is None else _whole(told, "memory")
    return Kernel(_text(told, "id"), _text(told, "name"), _text(told, "state"), notebook, memory)


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not what was asked for")
    return value


def _text(told: Mapping[str, Any], key: str) -> str:
    found = told.get(key)
    if not isinstance(found, str):
        raise ValueError(f"{key} is missing or makes no sense")
    return found


def _whole(told: Mapping[str, Any], key: str) -> int:
    found = told.get(key)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise ValueError(f"{key} is missing or makes no sense")
    return found
