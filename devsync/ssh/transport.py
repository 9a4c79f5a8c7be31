"""The one module that knows paramiko: its connection, with what it lacks; keys, agents, ssh_config.

paramiko runs a thread for each connection, which belongs to whoever holds the Session over it.
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
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_GLOBAL_REQUEST,
    MSG_NEWKEYS,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import IncompatiblePeer, MessageOrderError

from devsync.ports import NeedsUser, Unavailable
from devsync.ssh.dial import Wire
from devsync.ssh.process import signal_status

WINDOW = 4 * 1024 * 1024
PACKET = 32 * 1024

REKEY_BYTES = 32 * 1024**3
"""New keys after so much. RFC 4344 allows 64 GiB for AES; paramiko's 512 MiB halts every long transfer."""

AUTH_TIMEOUT = 30.0

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
DIGESTS = ("hmac-sha2-256", "hmac-sha2-512", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")

# paramiko logs the traceback of every lost connection; what a user must know is raised here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

Channel = paramiko.Channel
ChannelException = paramiko.ChannelException
SSHException = paramiko.SSHException

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
    except (ValueError, UnknownKeyType, SSHException) as error:
        raise UnusableKey from error


@contextmanager
def agent_keys() -> Iterator[Sequence[tuple[str, Key]]]:
    """The keys that the user's SSH agent holds, each with its comment; none where there is no agent."""
    if not os.path.exists(os.environ.get("SSH_AUTH_SOCK", "")):
        yield ()
        return
    try:
        agent = paramiko.Agent()
    except (SSHException, OSError):  # a broken agent is no agent
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
    except SSHException as error:
        raise ValueError(str(error)) from error
    return cast("Mapping[str, str | list[str] | None]", found)


class Transport(paramiko.Transport):
    """paramiko's connection with what it lacks: an answered heartbeat, signals as exit status, last words.

    And one repair. It acknowledges the end of a channel from its own thread; when keys are being exchanged
    at that moment, it waits there for itself until the connection breaks.
    """

    if TYPE_CHECKING:  # tables that are meant to be changed, says paramiko, but its stubs leave them out
        _handler_table: dict[int, Callable[[paramiko.Message], None]]
        _channel_handler_table: dict[int, Callable[[Channel, paramiko.Message], None]]

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
        self._refused: set[int] = set()
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
            MSG_CHANNEL_FAILURE: self._with_note(self._channel_handler_table[MSG_CHANNEL_FAILURE]),
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
        except (SSHException, OSError, EOFError) as error:
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

    def request(self, channel: Channel, kind: str, what: bytes) -> None:
        """Ask for what a channel is to be used for. Unlike paramiko's own way, it costs no round trip."""
        message = paramiko.Message()
        message.add_byte(bytes([MSG_CHANNEL_REQUEST]))
        message.add_int(channel.remote_chanid)
        message.add_string(kind)
        message.add_boolean(True)
        message.add_string(what)
        self._send_user_message(message)

    def has_refused(self, channel: Channel) -> bool:
        """Whether the machine has said no to what was asked of this channel."""
        return channel.chanid in self._refused

    def last_words(self) -> str:
        return f": {self.farewell}" if self.farewell else ""

    def _with_note(
        self, usual: Callable[[Channel, paramiko.Message], None]
    ) -> Callable[[Channel, paramiko.Message], None]:
        def refused(channel: Channel, message: paramiko.Message) -> None:
            self._refused.add(channel.chanid)
            usual(channel, message)

        return refused

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
        except (SSHException, EOFError) as error:
            raise BrokenPipeError(errno.EPIPE, "the connection is lost") from error


def _with_signals(
    usual: Callable[[Channel, paramiko.Message], None],
) -> Callable[[Channel, paramiko.Message], None]:
    """paramiko's handler, which does not know how a process that was killed is reported, and then it does."""

    def handle(channel: Channel, message: paramiko.Message) -> None:
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = signal_status(message.get_text())
            channel.status_event.set()
            return
        message.rewind()
        message.get_int()  # the channel's number, which was read before
        usual(channel, message)

    return handle
