"""What an SSH channel of the embedded machine is connected to: a process, or a connection to a port.

Owns the threads that carry the bytes between the two; they end when the process or the connection
has ended and the channel is closed. Knows no SSH: a channel is whatever has the methods of `Channel`.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

CHUNK = 64 * 1024
MARK = "DEVSYNC_EMBEDDED"
"""The environment variable by which a process is known as one of this machine."""

# Runs between fork and the command: makes standard input the controlling terminal of the new session,
# and gives the signals that Python ignores their meaning back.
_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGPIPE, signal.SIG_DFL);"
    "signal.signal(signal.SIGXFSZ, signal.SIG_DFL);"
    "os.execv(sys.argv[1], sys.argv[2:])"
)


class Channel(Protocol):
    """What is used of an SSH channel. The sending calls raise OSError once it is closed."""

    def recv(self, nbytes: int, /) -> bytes: ...

    def sendall(self, s: bytes, /) -> None: ...

    def sendall_stderr(self, s: bytes, /) -> None: ...

    def shutdown_write(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Size:
    """Of a terminal, in characters."""

    columns: int
    rows: int

    def give(self, terminal: int) -> None:
        """Make it the size of the terminal; who runs in it is told by SIGWINCH."""
        size = struct.pack("HHHH", min(self.rows, 0xFFFF), min(self.columns, 0xFFFF), 0, 0)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)


@dataclass(frozen=True)
class Command:
    """A program with its arguments (the first is its own name), its environment and its folder."""

    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    terminal: Size | None = None


class Session:
    """A command that a channel asked for. `report` gets its status, negative for a signal."""

    def __init__(self, channel: Channel, command: Command, report: Callable[[int], None]) -> None:
        self._channel = channel
        self._command = command
        self._report = report
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._terminal: int | None = None
        self._gone = False

    def start(self) -> None:
        """Start the command, and the threads that stay until it has ended."""
        _thread("session", self._run)

    def resize(self, size: Size) -> None:
        """The terminal has another size now; without one, nothing happens."""
        with self._lock:
            if self._terminal is not None:
                size.give(self._terminal)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group of the command, while that runs."""
        process = self._process
        # RACE: between the end of the command and its return code being set (microseconds), its
        # number could be another's; Linux hands numbers out in turn, so that does not come about.
        if process is not None and process.returncode is None:
            try:
                os.killpg(process.pid, number)
            except (ProcessLookupError, PermissionError):  # macOS: a group of zombies is not permitted
                pass

    def hang_up(self) -> None:
        """The channel is gone: what a terminal does when its line is cut."""
        # RACE: the command may be starting just now. It is set before `_gone` is read, and here the
        # other way round, so that one of the two sees it.
        self._gone = True
        self.signal(signal.SIGHUP)
        self.signal(signal.SIGCONT)

    def _run(self) -> None:
        try:
            process = self._spawn()
        except OSError as error:
            line = f"{self._command.program}: {error.strerror}\n".encode()
            with suppress(OSError):
                self._channel.sendall_stderr(line)
            self._report(127)
            self._channel.close()
            return
        if self._gone:
            self.hang_up()
        outputs, feeder = self._carry(process)
        self._report(process.wait())
        # What the command left running may still hold its output; the channel stays for that, as in OpenSSH.
        for output in outputs:
            output.join()
        self._channel.close()
        feeder.join()
        self._close_terminal()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command, arguments, program = self._command, list(self._command.arguments), self._command.program
        ends: tuple[int, ...] = ()
        if command.terminal is not None:
            self._terminal, other = os.openpty()
            ends = (other,)
            command.terminal.give(other)
            arguments = [sys.executable, "-I", "-S", "-c", _TAKE_TERMINAL, program, *arguments]
            program = sys.executable
        stream = ends[0] if ends else subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                arguments,
                executable=program,
                stdin=stream,
                stdout=stream,
                stderr=stream,
                bufsize=0,
                cwd=command.folder,
                env=dict(command.environment),
                start_new_session=True,
            )
        except OSError:
            self._close_terminal()
            raise
        finally:
            for end in ends:
                os.close(end)
        return self._process

    def _carry(self, process: subprocess.Popen[bytes]) -> tuple[list[threading.Thread], threading.Thread]:
        channel = self._channel
        if self._terminal is not None:
            output = _thread("terminal-out", _drain, self._terminal, channel.sendall)
            return [output], _thread("terminal-in", self._feed_terminal, self._terminal)
        stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
        assert stdin is not None and stdout is not None and stderr is not None
        outputs = [
            _thread("stdout", _drain_stream, stdout, channel.sendall),
            _thread("stderr", _drain_stream, stderr, channel.sendall_stderr),
        ]
        return outputs, _thread("stdin", self._feed_stream, stdin)

    def _feed_stream(self, stream: IO[bytes]) -> None:
        with stream:
            _feed(self._channel, stream.fileno())
        _discard(self._channel)

    def _feed_terminal(self, terminal: int) -> None:
        _feed(self._channel, terminal)
        with suppress(OSError, termios.error):
            # The end of the input, as a person types it.
            modes = termios.tcgetattr(terminal)
            if modes[3] & termios.ICANON:
                os.write(terminal, modes[6][termios.VEOF])
        _discard(self._channel)

    def _close_terminal(self) -> None:
        with self._lock:
            if self._terminal is not None:
                os.close(self._terminal)
            self._terminal = None


class Forward:
    """A connection to a port of the machine, for as long as the channel and its other end live."""

    def __init__(self, channel: Channel, connection: socket.socket) -> None:
        self._channel = channel
        self._connection = connection

    def start(self) -> None:
        """Carry bytes both ways, each way until its own end."""
        upstream = _thread("forward-out", self._send)
        _thread("forward-in", self._receive, upstream)

    def hang_up(self) -> None:
        """The channel is gone; both threads wake up and end."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _send(self) -> None:
        with suppress(OSError):
            while data := self._channel.recv(CHUNK):
                self._connection.sendall(data)
            self._connection.shutdown(socket.SHUT_WR)
        _discard(self._channel)

    def _receive(self, upstream: threading.Thread) -> None:
        with self._connection:
            with suppress(OSError):
                while data := self._connection.recv(CHUNK):
                    self._channel.sendall(data)
                self._channel.shutdown_write()
                upstream.join()
            self._channel.close()


# ---------------------------------------------------------------- carrying bytes


def _thread(name: str, body: Callable[..., None], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=body, name=name, args=arguments, daemon=True)
    thread.start()
    return thread


def _feed(channel: Channel, descriptor: int) -> None:
    with suppress(OSError):  # nobody reads there any more
        while data := memoryview(channel.recv(CHUNK)):
            while data:
                data = data[os.write(descriptor, data) :]


def _discard(channel: Channel) -> None:
    """Take what still comes, so that the client is never stuck with it."""
    while channel.recv(CHUNK):
        pass


def _drain(descriptor: int, send: Callable[[bytes], None]) -> None:
    with suppress(OSError):  # the channel is closed, or (EIO) the last one has left the terminal
        while data := os.read(descriptor, CHUNK):
            send(data)


def _drain_stream(stream: IO[bytes], send: Callable[[bytes], None]) -> None:
    with stream:
        _drain(stream.fileno(), send)


# ---------------------------------------------------------------- everything that runs here


def marked(mark: str) -> list[int]:
    """The processes of the machine with this mark, whoever their parent is by now. Linux alone tells."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            with suppress(OSError):  # it has ended, or is another user's
                if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                    found.append(int(name))
    return found


def end_marked(mark: str, patience: float = 0.5) -> None:
    """End every process with this mark: politely at first, after `patience` seconds for certain.

    Those that a former life of the machine left behind are ended too.
    """
    deadline = time.monotonic() + patience
    for number in (signal.SIGHUP, signal.SIGTERM):
        _signal_all(marked(mark), number)
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal_all(marked(mark), signal.SIGKILL)


def _signal_all(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)
