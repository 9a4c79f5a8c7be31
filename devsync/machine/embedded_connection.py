"""One client of the embedded machine: its SSH connection and the channels on it. Alone knows paramiko there.

Owns paramiko's thread; the thread that serves the connection is the server's.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_REQUEST,
)

from devsync.machine.embedded_account import Account
from devsync.machine.embedded_process import Command, Forward, Session, Size
from devsync.machine.embedded_state import USER

LOGIN_GRACE = 30.0
"""Seconds until a client that has not logged in is sent away."""

NEVER = 1 << 62
"""More bytes than a connection will ever carry."""

LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Transport(paramiko.Transport):
    """paramiko's, and what its server side leaves out: signals both ways, and when a channel closes."""

    def _send_user_message(self, data: paramiko.Message) -> None:
        # What is said to a client that is gone is lost; that it is gone shows as closed channels.
        with suppress(EOFError, OSError):
            super()._send_user_message(data)  # type: ignore[misc]  # the stubs leave it out

    def send_exit_signal(self, channel: paramiko.Channel, name: str) -> None:
        """Tell the client which signal ended its command (RFC 4254, section 6.10)."""
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("exit-signal")
        message.add_boolean(False)
        message.add_string(name)
        message.add_boolean(False)
        message.add_string("")
        message.add_string("")
        self._send_user_message(message)


def _on_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    connection = _connection(channel)
    request = paramiko.Message(message.get_remainder())
    kind = request.get_text()
    request.get_boolean()  # whether a reply is wanted
    if kind == "signal":
        connection.signalled(channel.get_id(), request.get_text())
    channel._handle_request(message)  # type: ignore[attr-defined]  # the stubs leave it out
    # The command starts only now: its end must never overtake the answer to the request for it.
    connection.answered(channel.get_id())


def _on_close(channel: paramiko.Channel, message: paramiko.Message) -> None:
    channel._handle_close(message)  # type: ignore[attr-defined]  # the stubs leave it out
    _connection(channel).closed(channel.get_id())


# paramiko has no public hook for either.
Transport._channel_handler_table = {  # type: ignore[attr-defined]
    **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
    MSG_CHANNEL_REQUEST: _on_request,
    MSG_CHANNEL_CLOSE: _on_close,
}


@dataclass
class Line:
    """One channel: what was asked for on it so far, and what it is connected to."""

    channel: paramiko.Channel | None = None  # paramiko itself holds it by a weak reference only
    environment: dict[str, str] = field(default_factory=dict)
    terminal: Size | None = None
    target: socket.socket | None = None
    session: Session | None = None
    started: Session | Forward | None = None


class Connection(paramiko.ServerInterface):
    """One client: its login, its channels, and what they are connected to.

    paramiko's thread calls the `check_` methods, `answered`, `signalled` and `closed`; none of them waits.
    """

    def __init__(self, peer: socket.socket, host_key: Path, client_key: Path, account: Account) -> None:
        self._transport = Transport(peer)
        # New keys when the client asks for them. When the server asks, paramiko goes on answering requests
        # that are on their way, which breaks the connection.
        self._transport.packetizer.REKEY_BYTES = NEVER
        self._transport.add_server_key(paramiko.Ed25519Key(filename=host_key))
        self._client_key = paramiko.Ed25519Key(filename=client_key)
        self._account = account
        self._lock = threading.Lock()
        self._lines: dict[int, Line] = {}

    def run(self) -> None:
        """Serve the client until it is gone."""
        deadline = time.monotonic() + LOGIN_GRACE
        try:
            self._transport.start_server(event=threading.Event(), server=self)
            while self._transport.is_active():
                if not self._transport.is_authenticated() and time.monotonic() > deadline:
                    break
                channel = self._transport.accept(1.0)
                if channel is not None:
                    self._accept(channel)
        finally:
            self.close()

    def close(self) -> None:
        """Cut the connection; what runs on it is hung up on."""
        self._transport.close()
        for number in list(self._lines):
            self.closed(number)

    def _accept(self, channel: paramiko.Channel) -> None:
        with self._lock:
            line = self._lines.get(channel.get_id())
            if line is None:
                return  # closed already
            line.channel = channel
            if line.target is not None:
                line.started = Forward(channel, line.target)
                line.started.start()

    # ---- called by paramiko's thread

    def get_allowed_auths(self, *_: object) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        welcome = username == USER and key == self._client_key
        return AUTH_SUCCESSFUL if welcome else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind != "session":
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self._lines[chanid] = Line()
        return OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, _origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if destination[0] not in LOOPBACK:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            # On loopback the answer is immediate; the limit is for a listener with a full queue.
            target = socket.create_connection(destination, timeout=2.0)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        target.settimeout(None)
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines[chanid] = Line(target=target)
        return OPEN_SUCCEEDED

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        key = os.fsdecode(name)
        if key != "LANG" and not key.startswith("LC_"):
            return False
        self._lines[channel.get_id()].environment[key] = os.fsdecode(value)
        return True

    def check_channel_pty_request(
        self, channel: paramiko.Channel, term: bytes, width: int, height: int, *_: object
    ) -> bool:
        line = self._lines[channel.get_id()]
        line.terminal = Size(width, height)
        line.environment["TERM"] = os.fsdecode(term)
        return True

    def check_channel_window_change_request(
        self, channel: paramiko.Channel, width: int, height: int, *_: object
    ) -> bool:
        session = self._lines[channel.get_id()].session
        if session is not None:
            session.resize(Size(width, height))
        return session is not None

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        line = self._lines[channel.get_id()]
        return self._prepare(
            channel, self._account.command(os.fsdecode(command), line.environment, line.terminal)
        )

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        line = self._lines[channel.get_id()]
        return self._prepare(channel, self._account.login(line.environment, line.terminal))

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        return name == "sftp" and self._prepare(channel, self._account.sftp())

    def _prepare(self, channel: paramiko.Channel, command: Command) -> bool:
        line = self._lines[channel.get_id()]
        if line.session is not None:
            return False  # one channel, one command
        line.session = Session(channel, command, lambda status: self._report(channel, status))
        return True

    def answered(self, number: int) -> None:
        """The client has its answer to a request; what it asked for may begin."""
        line = self._lines.get(number)
        if line is not None and line.session is not None and line.started is None:
            line.started = line.session
            line.session.start()

    def signalled(self, number: int, name: str) -> None:
        """The client sends its command a signal, by name and without "SIG"."""
        line, wanted = self._lines.get(number), signal.__dict__.get(f"SIG{name}")
        if line is not None and line.session is not None and isinstance(wanted, signal.Signals):
            line.session.signal(wanted)

    def closed(self, number: int) -> None:
        """A channel is closed on both sides, or the connection is gone."""
        with self._lock:
            line = self._lines.pop(number, None)
        if line is not None and line.started is not None:
            line.started.hang_up()
        elif line is not None and line.target is not None:
            line.target.close()

    def _report(self, channel: paramiko.Channel, status: int) -> None:
        # RACE: a client that closes the channel just now gets a message about it that it ignores.
        if channel.closed:
            return
        name = _signal_name(-status)
        if name:
            self._transport.send_exit_signal(channel, name)
        else:
            channel.send_exit_status(status if status >= 0 else 128 - status)


def _connection(channel: paramiko.Channel) -> Connection:
    connection = channel.get_transport().server_object
    assert isinstance(connection, Connection)
    return connection


def _signal_name(number: int) -> str:
    """Without "SIG", as SSH has it; empty for what is none of the named signals."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return ""
