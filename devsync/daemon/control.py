"""The control socket: the user's own commands, from the same computer and the same user only."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from devsync.daemon.frames import Broken, Frames
from devsync.ports import DevsyncError, Spawn, Unavailable

log = logging.getLogger(__name__)

Handler = Callable[["Session", dict[str, Any]], object]
"""Answers one request: the result as a JSON value. Raises DevsyncError."""


class Session:
    """One client. A handler may send events and bytes before its result."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def event(self, value: object) -> None:
        """Tell the client something before the result. Raises Broken when it has gone."""
        self.frames.send_json({"event": value})


class Control:
    """The service that listens. Each client gets a thread of the supervisor's."""

    name = "control"

    def __init__(self, path: Path, handlers: Mapping[str, Handler], spawn: Spawn) -> None:
        self._path, self._handlers, self._spawn = path, handlers, spawn
        self._sessions: set[Frames] = set()
        self._lock = threading.Lock()
        self._listener = self._listen()

    def _listen(self) -> socket.socket:
        # The project's lock is held, so a socket that lies here belongs to nobody.
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        listener.listen(16)
        return listener

    def run(self, stop: threading.Event) -> None:
        """Accept clients until `stop`."""
        while not stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if stop.is_set():
                    return
                raise Unavailable(f"no client can be answered: {error}") from error
            if not _same_user(connection):
                connection.close()
                continue
            frames = Frames(connection)
            with self._lock:
                self._sessions.add(frames)
            if stop.is_set():
                frames.close()  # RACE: `interrupt` may have hung up on the others before this one came
            self._spawn("control-session", lambda frames=frames: self._serve(frames))  # type: ignore[misc]  # bound now

    def interrupt(self) -> None:
        """Stop listening and hang up on every client."""
        self._path.unlink(missing_ok=True)
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # never connected: close is enough
        self._listener.close()
        with self._lock:
            sessions = list(self._sessions)
        for frames in sessions:
            frames.close()

    def _serve(self, frames: Frames) -> None:
        session = Session(frames)
        try:
            while (request := frames.receive_json()) is not None:
                frames.send_json(self._answer(session, request))
        except Broken:
            pass  # the client has hung up
        finally:
            frames.close()
            with self._lock:
                self._sessions.discard(frames)

    def _answer(self, session: Session, request: dict[str, Any]) -> dict[str, object]:
        op = str(request.pop("op", ""))
        handler = self._handlers.get(op)
        if handler is None:
            unknown = DevsyncError(
                f"the running daemon does not know '{op}'",
                hint="it is of another version: devsync stop, then devsync start",
            )
            return {"error": as_json(unknown)}
        try:
            return {"result": handler(session, request)}
        except DevsyncError as error:
            return {"error": as_json(error)}


def as_json(error: DevsyncError) -> dict[str, object]:
    """An error for the other end of the socket."""
    return {
        "kind": getattr(error, "kind", type(error).__name__),
        "message": error.message,
        "hint": error.hint,
        "exit_status": error.exit_status,
        "details": dict(getattr(error, "details", {})),
    }


def _same_user(connection: socket.socket) -> bool:
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True  # the socket's mode (0600, in a 0700 folder) is what protects it there
    packed = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    return bool(struct.unpack("3i", packed)[1] == os.getuid())
