"""SSH sessions: the one module that knows paramiko, which runs a thread for each connection.

Whoever holds a Session owns that thread: `close` ends it. The answered heartbeat runs in the thread of
whoever calls `wait_closed`. How a session comes about is in `connect`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import paramiko
from paramiko.common import (
    MSG_CHANNEL_REQUEST,
    MSG_GLOBAL_REQUEST,
    MSG_NEWKEYS,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer, MessageOrderError

from devsync.ports import DevsyncError, NeedsUser, Terminal, Unavailable
from devsync.ssh.dial import Wire
from devsync.ssh.process import ChannelProcess, ChannelStream, signal_status

HEARTBEAT = 5.0
"""Seconds between two heartbeats."""

PATIENCE = 10.0
"""Seconds without a byte after a heartbeat was sent: with HEARTBEAT, a dead path is noticed within 15 s."""

WINDOW = 4 * 1024 * 1024
PACKET = 32 * 1024

REKEY_BYTES = 32 * 1024**3
"""New keys after so much. RFC 4344 allows 64 GiB for AES; paramiko's 512 MiB halts every long transfer."""

LIMIT_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds to wait before a session that was refused is asked for again."""

OPEN_TIMEOUT = 30.0
AUTH_TIMEOUT = 30.0

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
DIGESTS = ("hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")

# paramiko logs the traceback of every lost connection; what a user must know is raised here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

Key = paramiko.PKey
"""A private key, or an agent's stand-in for one."""


class LockedKey(Exception):
    """The key file is protected by a passphrase."""


class UnusableKey(Exception):
    """The file holds no private key that can be used."""


def load_key(path: Path) -> Key:
    """The private key in `path`. Raises OSError, LockedKey, UnusableKey."""
    try:
        return paramiko.PKey.from_path(path)
    except TypeError as error:  # what its library says of a missing passphrase
        raise LockedKey from error
    except (ValueError, UnknownKeyType, paramiko.SSHException) as error:
        raise UnusableKey from error


@contextmanager
def agent_keys() -> Iterator[Sequence[tuple[str, Key]]]:
    """The keys that the user's SSH agent holds, each with its comment; none where there is no agent."""
    if not os.path.exists(os.environ.get("SSH_AUTH_SOCK", "")):
        yield ()
        return
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError):  # a broken agent is no agent
        yield ()
        return
    try:
        yield [(key.comment or key.fingerprint, key) for key in agent.get_keys()]
    finally:
        agent.close()


_EXEC = re.compile(r"^\s*match\b.*\bexec\b", re.IGNORECASE | re.MULTILINE)


def ssh_options(text: str, host: str) -> Mapping[str, str | list[str] | None]:
    """What an ssh_config says for `host`, by lower-case keyword. Raises ValueError if it cannot be read."""
    if _EXEC.search(text):
        sys.modules.pop("invoke", None)
        paramiko.config.invoke = import_module("invoke")  # type: ignore[attr-defined]  # as it does itself
    try:
        found = paramiko.SSHConfig.from_text(text).lookup(host)
    except paramiko.SSHException as error:
        raise ValueError(str(error)) from error
    return cast("Mapping[str, str | list[str] | None]", found)


class Session:
    """A ports.Connection. Any thread may open channels; one thread calls `wait_closed` in a loop."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._name = name
        self._why = ""
        self._next_beat = time.monotonic()

    def exec(self, command: str, terminal: Terminal | None = None) -> ChannelProcess:
        channel = self._open_session()
        with self._asking(channel, "the machine refuses to run a command"):
            if terminal is not None:
                channel.get_pty(terminal.term, terminal.columns, terminal.rows)
            channel.exec_command(command.encode("utf-8", "surrogateescape"))
        return ChannelProcess(channel, self._lost, paramiko.SSHException)

    def subsystem(self, name: str) -> ChannelStream:
        channel = self._open_session()
        with self._asking(channel, f"the machine's SSH server has no {name}"):
            channel.invoke_subsystem(name)
        return ChannelStream(channel, self._lost)

    def forward(self, host: str, port: int) -> ChannelStream:
        return ChannelStream(self.channel_to(host, port), self._lost)

    def channel_to(self, host: str, port: int) -> paramiko.Channel:
        """As `forward`, but the bare channel, on which another session can be built."""
        try:
            return self._open("direct-tcpip", (host, port))
        except paramiko.ChannelException as error:
            if error.code == 1:
                raise DevsyncError(
                    "the machine's SSH server forbids tunnels",
                    hint="set AllowTcpForwarding yes in its sshd_config",
                ) from error
            raise ConnectionRefusedError(f"nobody listens on {host}:{port} there") from error
        except paramiko.SSHException as error:
            raise ConnectionRefusedError(f"{host}:{port} does not answer there") from error

    def rtt(self) -> float | None:
        return self._transport.rtt

    def wait_closed(self, timeout: float) -> str | None:
        end = time.monotonic() + timeout
        while True:
            due = self._beat()
            self._transport.join(max(0.0, min(end, due) - time.monotonic()))
            if not self._transport.is_alive():
                return self._reason()
            if time.monotonic() >= end:
                return None

    def close(self) -> None:
        self._why = self._why or "it was closed here"
        self._transport.end()

    def _beat(self) -> float:
        """Send a heartbeat if it is time, or give the connection up; when to look again."""
        transport, now = self._transport, time.monotonic()
        asked = transport.asked
        if asked is not None:
            give_up = max(asked, transport.wire.heard) + PATIENCE
            if now < give_up:
                return give_up
            self._why = self._why or f"no answer for {HEARTBEAT + PATIENCE:g} s"
            transport.end()
        elif now >= self._next_beat:
            self._next_beat = now + HEARTBEAT
            transport.ask()
        return self._next_beat

    def _open_session(self) -> paramiko.Channel:
        for pause in (*LIMIT_PAUSES, None):
            try:
                return self._open("session")
            except paramiko.SSHException as error:
                if pause is None:
                    raise DevsyncError(
                        "the machine allows no further session on this connection",
                        hint="raise MaxSessions in its sshd_config (10 is usual)",
                    ) from error
                # RACE: a session that has just ended counts until the server has cleared it away.
                self._transport.join(pause)
        raise AssertionError("the last attempt returns or raises")

    def _open(self, kind: str, address: tuple[str, int] | None = None) -> paramiko.Channel:
        try:
            return self._transport.open_channel(kind, address, ("127.0.0.1", 0), timeout=OPEN_TIMEOUT)
        except Exception as error:
            # Of a lost link, paramiko raises again whatever ended its thread.
            lost = self._lost()
            if lost is not None:
                raise lost from error
            raise

    @contextmanager
    def _asking(self, channel: paramiko.Channel, refusal: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            ChannelStream(channel, self._lost).close()
            lost = self._lost()
            if lost is not None:
                raise lost from error
            if isinstance(error, paramiko.SSHException):
                raise DevsyncError(refusal) from error
            raise

    def _lost(self) -> Unavailable | None:
        if self._transport.is_active():
            return None
        return Unavailable(f"the connection to {self._name} is lost: {self._reason()}")

    def _reason(self) -> str:
        transport = self._transport
        if self._why or transport.farewell:
            return self._why or f"the machine ended it{transport.last_words()}"
        error = transport.saved_exception
        if transport.wire.stuck or isinstance(error, TimeoutError):
            return "no answer from the machine"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
        return "the machine closed it"


class Transport(paramiko.Transport):
    """paramiko's connection with what it lacks: an answered heartbeat, signals as exit status, last words.

    And one repair. It acknowledges the end of a channel from its own thread; when keys are being exchanged
    at that moment, it waits there for itself until the connection breaks.
    """

    if TYPE_CHECKING:  # tables that are meant to be changed, says paramiko, but its stubs leave them out
        _handler_table: dict[int, Callable[[paramiko.Message], None]]
        _channel_handler_table: dict[int, Callable[[paramiko.Channel, paramiko.Message], None]]

    _active_check_timeout = 1.0  # closing the wire wakes it, so it need not look ten times a second

    def __init__(self, wire: Wire) -> None:
        socket_like = cast("Any", wire)  # as paramiko's documentation allows
        super().__init__(socket_like, default_window_size=WINDOW, default_max_packet_size=PACKET)
        self.name = "ssh"
        self.wire = wire
        self.farewell = ""
        self.asked: float | None = None
        self.rtt: float | None = None
        self._held: list[paramiko.Message] = []
        self.packetizer.REKEY_BYTES = REKEY_BYTES
        options = self.get_security_options()
        options.ciphers = CIPHERS
        options.digests = DIGESTS
        handlers = self._handler_table
        self._take_new_keys = handlers[MSG_NEWKEYS]
        handlers[MSG_NEWKEYS] = self._new_keys
        handlers[MSG_REQUEST_SUCCESS] = handlers[MSG_REQUEST_FAILURE] = self._answered
        self._channel_handler_table = {
            **self._channel_handler_table,
            MSG_CHANNEL_REQUEST: _with_signals(self._channel_handler_table[MSG_CHANNEL_REQUEST]),
        }

    def exchange_keys(self, place: str, known: Collection[str], timeout: float) -> tuple[str, bytes]:
        """Agree on encryption: the machine's host key by kind and content, not yet looked at.

        Kinds in `known` are asked for first: a machine is known by one of its keys, not by all of them.
        """
        if "ssh-rsa" in known:
            known = {*known, "rsa-sha2-512", "rsa-sha2-256"}
        options = self.get_security_options()
        options.key_types = sorted(options.key_types, key=lambda kind: kind not in known)
        self.banner_timeout = self.handshake_timeout = timeout
        try:
            self.start_client(timeout=2 * timeout)
            key = self.get_remote_server_key()
        except (IncompatiblePeer, MessageOrderError) as error:
            raise NeedsUser(
                f"{place} offers no safe encryption: {error}", hint="update its SSH server"
            ) from error
        except Exception as error:
            # paramiko hands over whatever a garbled answer made it raise.
            if self.remote_version:
                raise Unavailable(f"{place} broke off the key exchange{self.last_words()}") from error
            raise Unavailable(
                f"{place} did not answer as an SSH server does",
                hint="the machine may still be starting; else check ssh.host and ssh.port",
            ) from error
        return key.get_name(), key.asbytes()

    def offer(self, user: str, key: Key) -> bool:
        """Try to log in with `key`; False if it was refused and another one may be offered."""
        self.auth_timeout = AUTH_TIMEOUT
        try:
            further = self.auth_publickey(user, key)
        except paramiko.BadAuthenticationType as error:
            kinds = ", ".join(error.allowed_types)
            raise NeedsUser(
                f"the machine takes no keys, only: {kinds}",
                hint="set PubkeyAuthentication yes in its sshd_config",
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            if self.is_active():
                return False
            if self.farewell:  # it said why, so it was no accident, and to try again may lock the account
                raise NeedsUser(
                    f"the machine ended the login{self.last_words()}",
                    hint="name the right key in ssh.identity_file, or set IdentitiesOnly yes in ssh_config",
                ) from error
            raise Unavailable("the connection was lost during the login") from error
        if further:
            kinds = ", ".join(further)
            raise NeedsUser(
                f"the machine wants more than a key: {kinds}", hint="devsync logs in with a key alone"
            )
        return True

    def ask(self) -> None:
        """Send a heartbeat. While keys are exchanged nothing may be sent, and their arrival is the answer."""
        self.asked = time.monotonic()
        if not self.clear_to_send.is_set():
            return
        message = paramiko.Message()
        message.add_byte(bytes([MSG_GLOBAL_REQUEST]))
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        try:
            self._send_user_message(message)
        except OSError:
            pass  # the link is gone, which the thread is about to notice

    def end(self) -> None:
        """Close the connection and wait for the thread."""
        self.close()
        self.wire.close()
        if self.is_alive() and self is not threading.current_thread():
            self.join(2)
        self.packetizer.complete_handshake()  # its timer is a thread, too

    def last_words(self) -> str:
        return f": {self.farewell}" if self.farewell else ""

    def _answered(self, _message: paramiko.Message) -> None:
        # Answers come in the order of the questions, and heartbeats are the only ones.
        asked, self.asked = self.asked, None
        if asked is not None:
            self.rtt = time.monotonic() - asked

    def _new_keys(self, message: paramiko.Message) -> None:
        self._take_new_keys(message)
        self.asked = None
        while self._held:
            self._send_user_message(self._held.pop(0))

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.farewell = message.get_text().strip()

    def _send_user_message(self, data: paramiko.Message) -> None:
        if threading.current_thread() is self and not self.clear_to_send.is_set():
            self._held.append(data)
            return
        if not self.is_active():
            raise BrokenPipeError(errno.EPIPE, "the connection is closed")
        try:
            super()._send_user_message(data)  # type: ignore[misc]  # not in the stubs
        except (paramiko.SSHException, EOFError) as error:
            raise BrokenPipeError(errno.EPIPE, "the connection is lost") from error


def _with_signals(
    usual: Callable[[paramiko.Channel, paramiko.Message], None],
) -> Callable[[paramiko.Channel, paramiko.Message], None]:
    """paramiko's handler, which does not know how a process that was killed is reported, and then it does."""

    def handle(channel: paramiko.Channel, message: paramiko.Message) -> None:
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = signal_status(message.get_text())
            channel.status_event.set()
            return
        message.rewind()
        message.get_int()  # the channel's number, which was read before
        usual(channel, message)

    return handle
