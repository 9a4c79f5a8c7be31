"""How the user hears of what cannot wait for `status`: the log, and the desktop where there is one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from devsync.ports import Spawn

log = logging.getLogger("devsync")

PATIENCE = 3.0
"""Seconds that a desktop may take: less than the daemon has for its end."""


class DesktopNotifier:
    """A ports.Notifier. Each notification is sent in a thread of its own: a desktop may take its time."""

    def __init__(self, spawn: Spawn, environ: Mapping[str, str]) -> None:
        self._spawn = spawn
        # Without a session bus there is nobody to tell; the library would look for one elsewhere.
        self._desktop = sys.platform == "darwin" or bool(environ.get("DBUS_SESSION_BUS_ADDRESS"))

    def notify(self, title: str, text: str) -> None:
        """Log it, and show it."""
        log.warning("%s: %s", title, text)
        if self._desktop:
            self._spawn("notify", lambda: _show(title, text))


def _show(title: str, text: str) -> None:
    import asyncio

    from desktop_notifier import DesktopNotifier as Library

    async def send() -> None:
        await asyncio.wait_for(Library("devsync").send(title, text), PATIENCE)

    try:
        asyncio.run(send())
    except Exception as error:  # noqa: BLE001 - each desktop has errors of its own, and the log has told it
        log.info("the desktop was not told: %r", error)
