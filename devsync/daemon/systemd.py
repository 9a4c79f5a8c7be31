"""Tells systemd how a Type=notify service is doing. Does nothing where nobody asked."""

from __future__ import annotations

import socket


class Notify:
    """A sender of notifications to the socket that systemd named (the value of NOTIFY_SOCKET)."""

    def __init__(self, address: str | None) -> None:
        # '@' stands for the zero byte of Linux's abstract names.
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def ready(self) -> None:
        """The service is up."""
        self._send("READY=1")

    def stopping(self) -> None:
        """The service is going down."""
        self._send("STOPPING=1")

    def status(self, line: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={line}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(text.encode(), self._address)
            except OSError:
                pass  # systemd is away: nothing that the daemon could do better
