"""People at work: terminals with input or output, editors with a live connection. Travels (Python 3.8).

A terminal that is open and silent is nobody's work, and devsync's own connections have no terminal. What
happens inside tmux and screen needs nobody: it counts by its use of the processors, and what a person types
there passes through their own terminal.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from devsync.core.observation import Observation
from devsync.probe.processes import Process
from devsync.probe.view import View

NAME = "sessions"
NOW = 20.0
"""Seconds within which something is taken for now: terminals are stamped every eight, seen every ten."""

MULTIPLEXERS = ("tmux", "screen")
EDITORS = (
    (".vscode-server", "VS Code"),
    (".vscode-server-insiders", "VS Code"),
    (".cursor-server", "Cursor"),
    (".windsurf-server", "Windsurf"),
    ("JetBrains/RemoteDev", "JetBrains"),
)
EDITOR_PROGRAMS = ("node", "code", "MainThread", "java", "remote-dev-serv", "idea", "pycharm")
ESTABLISHED, LISTENING = "01", "0A"


def terminal_number(device: int) -> int | None:
    """Of a process's controlling terminal, the number below /dev/pts; None if it is of another kind."""
    major, minor = (device >> 8) & 0xFFF, (device & 0xFF) | ((device >> 12) & 0xFFF00)
    return minor + ((major - 136) << 8) if 136 <= major <= 143 else None


def connected(text: str, inodes: set[str]) -> bool:
    """Of /proc/net/tcp: whether one of these sockets listens and another one of them has a client there."""
    rows = [line.split() for line in text.splitlines()[1:]]
    mine = [row for row in rows if len(row) > 9 and row[9] in inodes]
    ports = {row[1].rpartition(":")[2] for row in mine if row[3] == LISTENING}
    return any(row[3] == ESTABLISHED and row[1].rpartition(":")[2] in ports for row in mine)


class Sessions:
    """Remembers nothing: the kernel keeps the times."""

    name = NAME

    def look(self, view: View) -> Observation:
        table = view.processes.look()
        terminals = self._terminals(view, table)
        editors = self._editors(view, table)
        ages = {terminal: max(0.0, view.wall() - last) for terminal, last in terminals.items()}
        used = [terminal for terminal, age in ages.items() if age <= NOW]
        parts = []
        if terminals:
            latest = min(ages, key=lambda terminal: ages[terminal])
            parts.append(f"{len(terminals)} open, pts/{latest} used {ages[latest]:.0f} s ago")
        parts += [f"{editor} is connected" for editor in editors]
        doing = f"{editors[0]} has been connected" if editors else ""
        if used and not editors:
            doing = f"the terminal pts/{used[0]} has been in use"
        return Observation(
            NAME,
            float(len(used) + len(editors)),
            "; ".join(parts) or "none open",
            age=0.0 if editors else min(ages.values(), default=None),
            doing=doing,
        )

    @staticmethod
    def _terminals(view: View, table: Mapping[int, Process]) -> dict[int, float]:
        """When each terminal of a person's was used last, in the time of day."""
        try:
            present = {int(name) for name in os.listdir(view.path("dev/pts")) if name.isdigit()}
        except OSError:
            return {}
        found = {}
        for process in table.values() if present else ():
            number = terminal_number(process.terminal) if process.session == process.pid else None
            if number not in present or number is None:
                continue
            if view.processes.below(process, MULTIPLEXERS) or not view.processes.belongs(process):
                continue
            try:
                stamps = os.stat(view.path("dev/pts", str(number)))
            except OSError:
                continue  # it was closed meanwhile
            found[number] = max(stamps.st_atime, stamps.st_mtime)
        return found

    @staticmethod
    def _editors(view: View, table: Mapping[int, Process]) -> list[str]:
        """The editors whose server here has a client."""
        servers: dict[str, set[str]] = {}
        for process in table.values():
            if not process.name.startswith(EDITOR_PROGRAMS):
                continue
            try:
                line = " ".join(view.processes.words(process.pid))
                editor = next((name for mark, name in EDITORS if mark in line), None)
                if editor is not None:
                    servers.setdefault(editor, set()).update(_sockets(view, process.pid))
            except OSError:
                continue  # it ended meanwhile, or is another user's
        if not servers:
            return []
        tables = []
        for name in ("tcp", "tcp6"):
            try:
                tables.append(view.read("proc/net", name))
            except OSError:
                continue  # a machine without that family
        return [
            editor for editor, inodes in servers.items() if any(connected(text, inodes) for text in tables)
        ]


def _sockets(view: View, pid: int) -> set[str]:
    folder = view.path("proc", str(pid), "fd")
    found = set()
    for name in os.listdir(folder):
        try:
            target = os.readlink(os.path.join(folder, name))
        except OSError:
            continue  # it was closed meanwhile
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
