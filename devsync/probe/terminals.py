"""Tells the user something in the user's own terminals on the machine, as `wall` does. Travels (Python 3.8).

What is written there is nobody's work: the times of the terminal, by which its use is known, are put back.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from devsync.probe.sessions import terminal_number
from devsync.probe.view import View

LONGEST = 400
"""Characters of a line."""

_VIEW = View()


def terminals(view: View) -> list[str]:
    """The terminals in which a session of this user's lives."""
    found = set()
    for process in view.processes.look().values():
        number = terminal_number(process.terminal) if process.session == process.pid else None
        path = "" if number is None else view.path("dev/pts", str(number))
        try:
            if path and os.stat(path).st_uid == os.geteuid() and view.processes.belongs(process):
                found.add(path)
        except OSError:
            continue  # it was closed meanwhile
    return sorted(found)


def write(path: str, text: str) -> bool:
    """Write one line; whether it arrived. A terminal that takes nothing is not waited for."""
    line = "".join(letter if letter.isprintable() else "?" for letter in text[:LONGEST])
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # closed, or `mesg n` of an unusual kind
    try:
        before = os.fstat(descriptor)
        os.write(descriptor, f"\r\n\a{line}\r\n".encode("utf-8", "replace"))
        # RACE: a key that is pressed between the two is not seen; the next one is, eight seconds later.
        os.utime(descriptor, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def tell(_helper: Any, request: Mapping[str, Any]) -> Any:
    """Write `text` to each of the user's terminals: to how many."""
    _VIEW.processes.forget()
    return sum(write(path, str(request["text"])) for path in terminals(_VIEW))


VERBS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {"tell": tell}
