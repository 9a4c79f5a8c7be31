"""The embedded machine: an SSH server for one user, on loopback, to try devsync out and to test it.

    python -m devsync.machine.embedded_server --state DIR --home DIR [--detach]

It is no place for work that matters: what runs on it runs on this computer, as the user who started
it, in another home folder. Commands with and without a terminal, SFTP, and connections to loopback
ports are what it offers. One key may log in; it makes that key and its own.

A process of its own that owns its threads: the main thread accepts connections and waits for the
end; each connection has one thread. It ends when it gets SIGTERM or when its
state folder is gone, and what was started on it ends with it: on Linux every process, whatever it
ignores and even if it has detached; elsewhere those that a hang-up ends.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from devsync.machine.embedded_account import Account
from devsync.machine.embedded_connection import Connection
from devsync.machine.embedded_process import end_marked
from devsync.machine.embedded_state import USER, Folder, PowerLock, Record

CHECK = 2.0
"""Seconds between two looks whether the state folder is still there."""

log = logging.getLogger(__name__)


def make_keys(folder: Folder) -> str:
    """Make the machine's own key and the one that may log in, and publish both; the machine's alias.

    The alias names the machine in known_hosts, wherever it listens.
    """
    host, client = _public_key(folder.host_key), _public_key(folder.client_key)
    alias = "devsync-embedded-" + hashlib.sha256(host).hexdigest()[:12]
    folder.client_public_key.write_bytes(client + f" {USER}@{alias}\n".encode())
    folder.known_hosts.write_bytes(alias.encode() + b" " + host + b"\n")
    return alias


def _public_key(path: Path) -> bytes:
    """The public half, as one line, of the key in the file, which is made if it is not there."""
    if not path.exists():
        made = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made)
        new.replace(path)
    key = load_ssh_private_key(path.read_bytes(), password=None)
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


class Server:
    """Takes connections until it is told to end. Owns the listener, the connections and their threads."""

    def __init__(self, folder: Folder, account: Account, port: int) -> None:
        self._folder = folder
        self._account = account
        self._listener = _listen(port)
        self._connections: dict[Connection, threading.Thread] = {}

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def run(self, wakeup: socket.socket, goes_on: Callable[[], bool]) -> None:
        """Return when `wakeup` can be read, or soon after `goes_on` has said no."""
        while goes_on():
            readable, _, _ = select.select([self._listener, wakeup], [], [], CHECK)
            if wakeup in readable:
                return
            if readable:
                self._take()

    def _take(self) -> None:
        try:
            peer, _ = self._listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(peer, self._folder.host_key, self._folder.client_key, self._account)
        except OSError as error:
            log.warning("a connection could not be taken: %s", error)
            return
        thread = threading.Thread(target=self._serve, args=(connection,), name="connection", daemon=True)
        self._connections[connection] = thread
        thread.start()

    def _serve(self, connection: Connection) -> None:
        try:
            connection.run()
        finally:
            self._connections.pop(connection, None)

    def close(self) -> None:
        """Cut every connection and end everything that runs on this machine, within 2 s."""
        self._listener.close()
        deadline = time.monotonic() + 1.0
        serving = list(self._connections.items())
        for connection, _ in serving:
            connection.close()
        end_marked(self._account.mark)
        for _, thread in serving:
            thread.join(max(0.0, deadline - time.monotonic()))


def _listen(port: int) -> socket.socket:
    """A listener on loopback; on another port if the wanted one is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    return listener


def serve(folder: Folder, home: Path, ready: Callable[[], None]) -> int:
    """Be the machine until SIGTERM comes; `ready` is called once it can be reached. The exit status."""
    folder.make()
    lock = PowerLock(folder.lock)
    if not lock.take():
        log.warning("this machine runs already")
        return 1
    port, pid = lock.remembered_port(), os.getpid()
    lock.write(Record(pid))
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    # Handlers, not SIG_IGN: commands that are started here would inherit that.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    alias = make_keys(folder)
    end_marked(alias)  # nothing runs on a machine that has just been started
    server = Server(folder, Account(home, alias), port)
    try:
        lock.write(Record(pid, server.port, alias))
        ready()
        server.run(reader, lock.in_place)
    finally:
        lock.write(Record(pid, server.port, alias, ending=True))
        server.close()
    return 0  # the lock goes with the process, and not before


def _detach() -> Callable[[], None]:
    """Go on in a process of its own; returns how to say that it can be reached.

    The first process ends when that was said, with status 0, or when the other has ended, with 1.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else 1)
    os.close(reading)
    os.setsid()

    def ready() -> None:
        os.write(writing, b"+")
        os.close(writing)

    return ready


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="An SSH server on loopback, to try devsync out.")
    parser.add_argument("--state", type=Path, required=True, help="keys, log and lock")
    parser.add_argument("--home", type=Path, required=True, help="the home folder of who logs in")
    parser.add_argument("--detach", action="store_true", help="return once it can be reached")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.WARNING)
    return serve(
        Folder(options.state.absolute()), options.home.absolute(), _detach() if options.detach else _nothing
    )


def _nothing() -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
