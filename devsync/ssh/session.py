"""SSH sessions: what can be done on a connection, and whether it still stands.

Whoever holds a Session owns the connection and its thread: `close` ends both. The answered heartbeat runs
in the thread of whoever calls `wait_closed`. How a session comes about is in `connect`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devsync.ports import DevsyncError, Terminal, Unavailable
from devsync.ssh.process import ChannelProcess, ChannelStream
from devsync.ssh.transport import Channel, ChannelException, SSHException, Transport

HEARTBEAT = 5.0
"""Seconds between two heartbeats."""

PATIENCE = 10.0
"""Seconds without a byte after a heartbeat was sent: with HEARTBEAT, a dead path is noticed within 15 s."""

LIMIT_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds to wait before a session that was refused is asked for again."""

OPEN_TIMEOUT = 30.0


class Session:
    """A ports.Connection. Any thread may open channels; one thread calls `wait_closed` in a loop."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._name = name
        self._why = ""
        self._next_beat = time.monotonic()

    def exec(self, command: str, terminal: Terminal | None = None) -> ChannelProcess:
        """A refusal is told by the process, whose input may be sent at once."""
        channel = self._open_session()
        with self._asking(channel):
            if terminal is not None:
                channel.get_pty(terminal.term, terminal.columns, terminal.rows)
            self._transport.request(channel, "exec", command.encode("utf-8", "surrogateescape"))
        refusal = "the machine refuses to run a command"
        return ChannelProcess(channel, self._lost_or_refused(channel, refusal), SSHException)

    def subsystem(self, name: str) -> ChannelStream:
        """A refusal is told by the stream, on which may be sent at once."""
        channel = self._open_session()
        with self._asking(channel):
            self._transport.request(channel, "subsystem", name.encode("utf-8"))
        return ChannelStream(
            channel, self._lost_or_refused(channel, f"the machine's SSH server has no {name}")
        )

    def forward(self, host: str, port: int, take: Callable[[bytes], int] | None = None) -> ChannelStream:
        return ChannelStream(self.channel_to(host, port), self._lost, take)

    def channel_to(self, host: str, port: int) -> Channel:
        """As `forward`, but the bare channel, on which another session can be built."""
        try:
            return self._open("direct-tcpip", (host, port))
        except ChannelException as error:
            if error.code == 1:
                raise DevsyncError(
                    "the machine's SSH server forbids tunnels",
                    hint="set AllowTcpForwarding yes in its sshd_config",
                ) from error
            raise ConnectionRefusedError(f"nobody listens on {host}:{port} there") from error
        except SSHException as error:
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

    def _open_session(self) -> Channel:
        for pause in (*LIMIT_PAUSES, None):
            try:
                return self._open("session")
            except SSHException as error:
                if pause is None:
                    raise DevsyncError(
                        "the machine allows no further session on this connection",
                        hint="raise MaxSessions in its sshd_config (10 is usual)",
                    ) from error
                # RACE: a session that has just ended counts until the server has cleared it away.
                self._transport.join(pause)
        raise AssertionError("the last attempt returns or raises")

    def _open(self, kind: str, address: tuple[str, int] | None = None) -> Channel:
        try:
            return self._transport.open_channel(kind, address, ("127.0.0.1", 0), timeout=OPEN_TIMEOUT)
        except Exception as error:
            # Of a lost link, paramiko raises again whatever ended its thread.
            lost = self._lost()
            if lost is not None:
                raise lost from error
            raise

    @contextmanager
    def _asking(self, channel: Channel) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            ChannelStream(channel, self._lost).close()
            lost = self._lost()
            if lost is not None:
                raise lost from error
            if isinstance(error, SSHException):
                raise DevsyncError("the machine refuses a terminal") from error
            raise

    def _lost_or_refused(self, channel: Channel, refusal: str) -> Callable[[], DevsyncError | None]:
        """Why a channel is of no use: the link under it is lost, or what was asked of it was refused."""

        def why() -> DevsyncError | None:
            return DevsyncError(refusal) if self._transport.has_refused(channel) else self._lost()

        return why

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
