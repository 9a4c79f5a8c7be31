"""The Jupyter servers of this user: kernels that compute, terminals with output. Travels (Python 3.8).

Each server leaves a file that says where it listens and by which token. `execution_state` is what counts:
the `last_activity` of a kernel that computes in silence does not move, and an open tab is no work. The
questions ask the server not to take them for activity.
"""

from __future__ import annotations

import json
import os
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass
from time import strptime
from typing import Any

from devsync.core.observation import Observation
from devsync.probe.view import View

NAME = "jupyter-kernels"
TIMEOUT = 5.0
NOW = 20.0
"""Seconds within which a terminal's output is taken for now."""

RUNTIME = "JUPYTER_RUNTIME_DIR"
SERVERS = ("jupyter", "python", "jupyterhub")
"""What the names of a server's process begin with."""

HERE = ("", "*", "0.0.0.0", "::", "localhost", "127.0.0.1")  # noqa: S104 (read, not bound)


@dataclass(frozen=True)
class Server:
    """What the file of a server says."""

    pid: int
    address: tuple[str, int] | str
    base: str
    token: str
    tls: bool
    root: str
    """The folder that it shows."""


def parse_server(text: str) -> Server:
    """A runtime file. Raises ValueError."""
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("no server")
    port, sock = told.get("port"), told.get("sock")
    host = str(told.get("hostname", ""))
    if not sock and (not isinstance(port, int) or not 0 < port < 65536):
        raise ValueError("no port")
    return Server(
        pid=int(told["pid"]),
        address=str(sock) if sock else ("127.0.0.1" if host in HERE else host, int(port or 0)),
        base="/" + str(told.get("base_url", "/")).strip("/"),
        token=str(told.get("token") or ""),
        tls=bool(told.get("secure")),
        root=str(told.get("root_dir") or told.get("notebook_dir") or ""),
    )


def moment(stamp: Any) -> float | None:
    """A time of Jupyter's as seconds of the time of day."""
    try:
        return float(timegm(strptime(str(stamp)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None


def judge(
    kernels: list[dict[str, Any]],
    sessions: list[dict[str, Any]],
    terminals: list[dict[str, Any]],
    wall: float,
) -> Observation:
    """What the kernels and terminals of every server do."""
    names = {
        str(one["kernel"].get("id")): os.path.basename(str(one.get("path") or one.get("name") or ""))
        for one in sessions
        if isinstance(one.get("kernel"), dict)
    }
    busy = [kernel for kernel in kernels if kernel.get("execution_state") == "busy"]
    stamps = [moment(one.get("last_activity")) for one in terminals]
    ages = [max(0.0, wall - stamp) for stamp in stamps if stamp is not None]
    output = [age for age in ages if age <= NOW]
    if busy:
        called = [names.get(str(kernel.get("id"))) or str(kernel.get("name", "?")) for kernel in busy]
        begun = [moment(kernel.get("last_activity")) for kernel in busy]
        lengths = [max(0.0, wall - one) for one in begun if one is not None]
        shown = ", ".join(called)
        many = "s" if len(busy) > 1 else ""
        return Observation(
            NAME,
            float(len(busy)),
            f"{len(busy)} busy kernel{many}: {shown}",
            age=0.0,
            since=max(lengths, default=None),
            doing=f"kernel {called[0]} has run" if len(busy) == 1 else f"kernels {shown} have run",
        )
    value = "no kernel"
    if kernels:
        # Their memory ends with the machine: people want to know whose.
        named = sorted(
            {names.get(str(kernel.get("id"))) or str(kernel.get("name", "?")) for kernel in kernels}
        )
        value = f"0 busy of {len(kernels)} kernel{'' if len(kernels) == 1 else 's'}: {', '.join(named)}"
    doing = "a Jupyter terminal has been in use" if output else ""
    return Observation(NAME, float(len(output)), value, age=min(ages, default=None), doing=doing)


class Jupyter:
    """Looks for servers each time anew."""

    name = NAME

    def look(self, view: View) -> Observation:
        kernels: list[dict[str, Any]] = []
        sessions: list[dict[str, Any]] = []
        terminals: list[dict[str, Any]] = []
        found = servers(view)
        for server in found:
            try:
                alive = ask(view, server, "kernels")
                if alive is None:
                    continue  # nobody listens there any more
                kernels += alive
                if alive:
                    sessions += ask(view, server, "sessions") or []
                terminals += ask(view, server, "terminals") or []
            except (OSError, ValueError) as error:
                where = server.address if isinstance(server.address, str) else f"port {server.address[1]}"
                reason = str(error) or type(error).__name__
                return Observation(NAME, error=f"the Jupyter server on {where} does not answer: {reason}")
        if not found:
            return Observation(NAME, 0.0, "no server")
        return judge(kernels, sessions, terminals, view.wall())


def servers(view: View) -> list[Server]:
    """Those of this user that live."""
    table = view.processes.look()
    found = {}
    for folder in _folders(view):
        try:
            names = os.listdir(folder)
        except OSError:
            continue  # there is none
        for name in names:
            if not (name.startswith(("jpserver-", "nbserver-")) and name.endswith(".json")):
                continue
            try:
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    server = parse_server(file.read())
            except (OSError, ValueError, KeyError, TypeError):
                continue  # it is just being written, or of another kind
            if server.pid in table:  # else it died without a chance to clean up
                found[server.pid] = server
    return list(found.values())


def _folders(view: View) -> set[str]:
    """Where servers of this user leave their files; a server may have been told another place."""
    environ: Mapping[str, str] = view.environ
    data = environ.get("XDG_DATA_HOME") or os.path.join(view.home, ".local/share")
    folders = {os.path.join(data, "jupyter/runtime")}
    if environ.get("JUPYTER_DATA_DIR"):
        folders.add(os.path.join(environ["JUPYTER_DATA_DIR"], "runtime"))
    if environ.get(RUNTIME):
        folders.add(environ[RUNTIME])
    for process in view.processes.look().values():
        if process.name.startswith(SERVERS) and view.processes.belongs(process):
            told = view.processes.variable(process.pid, RUNTIME)
            if told and os.path.isabs(told):
                folders.add(told)
    return folders


def ask(view: View, server: Server, what: str) -> list[dict[str, Any]] | None:
    """A list of the server's; None if nobody listens, or it has no such thing. Raises OSError, ValueError."""
    # A server under JupyterHub has no token in its file: it knows its own one of the hub.
    token = server.token or view.processes.variable(server.pid, "JUPYTERHUB_API_TOKEN") or ""
    headers = {"Authorization": f"token {token}"} if token else {}
    path = f"{server.base.rstrip('/')}/api/{what}?no_track_activity=1"
    try:
        status, body = view.http(server.address, path, headers, TIMEOUT, server.tls)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
    if status == 404:
        return None
    if status != 200:
        raise ValueError(f"HTTP status {status}")
    told = json.loads(body)
    if not isinstance(told, list):
        raise ValueError("no list")
    return [one for one in told if isinstance(one, dict)]
