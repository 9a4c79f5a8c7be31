"""The client half of the control socket: how the command line asks the daemon. Imports are light."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devsync.daemon.frames import Broken, Frames
from devsync.ports import DevsyncError, Unavailable


class Refused(DevsyncError):
    """The daemon's own error, told again here with its exit status."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", "failed")), hint=str(error.get("hint", "")))
        self.exit_status = int(error.get("exit_status", 1))
        self.kind = str(error.get("kind", ""))
        self.details: dict[str, str] = dict(error.get("details") or {})


class Client:
    """One conversation with a running daemon."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    @classmethod
    def connect(cls, path: Path, timeout: float | None = None) -> Client | None:
        """Connect to the daemon that listens on `path`; None if none does."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            return None
        connection.settimeout(timeout)
        return cls(Frames(connection))

    def call(self, op: str, on_event: Callable[[dict[str, Any]], None] | None = None, **args: object) -> Any:
        """Ask for `op` and wait for its result. Raises Refused with the daemon's error."""
        self.send(op, **args)
        while True:
            answer = self.receive()
            if "event" in answer:
                if on_event is not None:
                    on_event(answer["event"])
            elif "error" in answer:
                raise Refused(answer["error"])
            else:
                return answer.get("result")

    def send(self, op: str, **args: object) -> None:
        """Send a request without waiting."""
        try:
            self.frames.send_json({"op": op, **args})
        except Broken as error:
            raise Unavailable("the daemon went away", hint="devsync start") from error

    def receive(self) -> dict[str, Any]:
        """The next JSON answer. Raises Unavailable if the daemon went away."""
        try:
            answer = self.frames.receive_json()
        except Broken as error:
            raise Unavailable(f"the daemon went away ({error})", hint="devsync start") from error
        if answer is None:
            raise Unavailable("the daemon went away", hint="devsync start; its log says more")
        return answer

    def close(self) -> None:
        """Hang up."""
        self.frames.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
