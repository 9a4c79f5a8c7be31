"""The far end of Jupyter: the server that shows the project, its kernels, a port and a token for a new one.

Travels (Python 3.8). A server is found by the file that it leaves itself, so that nothing of devsync's has
to be remembered; `.devsync/jupyter/token` is where a new one reads its token.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import Any

from devsync.probe.jupyter import Server, ask, servers
from devsync.probe.view import View

ANSWERS_WITHIN = 10.0
"""Seconds for the start page, which a fresh server has yet to put together."""

FURTHER = 100
"""So many ports above a taken one are tried."""

LOOPBACK = "127.0.0.1"


def server(_helper: Any, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The server that shows the project, by a port of the loopback and a token; null if none runs."""
    view = View()
    found = _find(view, _root(request))
    if found is None:
        return None
    return {"pid": found.pid, "port": found.address[1], "token": found.token, "page": _page(view, found)}


def kernels(_helper: Any, request: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The kernels of that server; null if none runs."""
    view = View()
    found = _find(view, _root(request))
    if found is None:
        return None
    notebooks = {
        one["kernel"].get("id"): one.get("path")
        for one in ask(view, found, "sessions") or []
        if isinstance(one.get("kernel"), dict) and one.get("type", "notebook") == "notebook"
    }
    rows = ask(view, found, "kernels") or []
    memory = _memory(view, [str(row.get("id")) for row in rows])
    return [
        {
            "id": str(row.get("id")),
            "name": str(row.get("name")),
            "state": str(row.get("execution_state")),
            "notebook": notebooks.get(row.get("id")),
            "memory": memory.get(str(row.get("id"))),
        }
        for row in rows
    ]


def prepare(_helper: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """A fresh token in a file that nobody else can read, and the first free port from `port` on."""
    root = _root(request)
    folder = os.path.join(root, ".devsync", "jupyter")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, "token")
    new = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(new, flags, 0o600), "w") as file:
        file.write(secrets.token_hex(24))
    os.replace(new, path)
    return {"root": root, "token_file": path, "port": _free(request["port"]), "superuser": os.geteuid() == 0}


VERBS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "jupyter-server": server,
    "jupyter-kernels": kernels,
    "jupyter-prepare": prepare,
}


def _root(request: Mapping[str, Any]) -> str:
    return os.path.realpath(os.path.expanduser(str(request["root"])))


def _find(view: View, root: str) -> Server | None:
    """One that the tunnel can reach and that answers by its token. Those of a hub have none."""
    for one in sorted(servers(view), key=lambda one: one.pid):
        shows = bool(one.root) and os.path.realpath(one.root) == root
        if shows and one.token and not one.tls and one.address[0] == LOOPBACK:
            try:
                if ask(view, one, "kernels") is not None:
                    return one
            except (OSError, ValueError):
                continue  # it is starting, or somebody else has its port by now
    return None


def _page(view: View, found: Server) -> str:
    """Where it begins: JupyterLab's page if it has that, else the classic one."""
    base = str(found.base).rstrip("/")
    try:
        headers = {"Authorization": f"token {found.token}"}
        status, _ = view.http(found.address, f"{base}/lab", headers, ANSWERS_WITHIN, False)
    except OSError:
        status = 0
    return base + ("/lab" if status == 200 else "/tree")


def _free(first: int) -> int:
    for port in range(first, min(first + FURTHER, 65536)):
        try:
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((LOOPBACK, port))
                sock.listen(1)
        except OSError:
            continue
        if not _taken_for_ipv6(port):
            return port
    raise OSError(f"the ports {first} to {first + FURTHER - 1} are all in use on the machine")


def _taken_for_ipv6(port: int) -> bool:
    """Whether somebody is `localhost` for those who ask for its IPv6 address, as the tunnel may."""
    try:
        socket.create_connection(("::1", port), 1.0).close()
    except OSError:
        return False
    return True


# ---------------------------------------------------------------- memory


def _memory(view: View, kernels: list[str]) -> dict[str, int]:
    """Bytes by kernel, where the system tells. Its processes name its id, or are below one that does."""
    table = view.processes.look()
    below = {}  # type: dict[int, list[int]]
    for process in table.values():
        below.setdefault(process.parent, []).append(process.pid)
    found = {}
    words = {pid: _words(view, pid) for pid in table} if kernels else {}
    for kernel in kernels:
        left = [pid for pid, line in words.items() if kernel in line]
        tree = set()  # type: set[int]
        while left:
            pid = left.pop()
            if pid not in tree:
                tree.add(pid)
                left += below.get(pid, [])
        if tree:
            found[kernel] = sum(_resident(view, pid) for pid in tree)
    return found


def _words(view: View, pid: int) -> str:
    try:
        return " ".join(view.processes.words(pid))
    except OSError:
        return ""  # it ended meanwhile, or is not ours to look at


def _resident(view: View, pid: int) -> int:
    try:
        return int(view.read("proc", str(pid), "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
