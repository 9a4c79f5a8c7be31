"""run: a command on the machine as if it were here: streams, terminal, Ctrl-C, exit status."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running, say
from devsync.daemon.client import Client, Refused
from devsync.daemon.frames import END_OF_STDIN, JSON, STDERR, STDIN, STDOUT, Broken, Frames
from devsync.ports import DevsyncError, Unavailable

OWN_FAILURE = 125
"""The exit status for a failure of devsync itself, as docker and env have it."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--no-pull", is_flag=True, help="Do not wait until its results are here.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the changes made here are there.")
@click.option("--anyway", is_flag=True, help="Run even if some files there are not what they are here.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_project
@click.pass_context
def run(
    ctx: click.Context,
    project: Project,
    *,
    no_pull: bool,
    no_sync: bool,
    anyway: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND in the project's folder on the machine.

    Waits until every change made here is there, runs it, waits until what it wrote is here, and ends
    with its exit status. What is typed is what runs: no shell of the machine's looks at it.
    """
    try:
        with running(project) as client:
            wishes = {"sync": not no_sync, "pull": not no_pull, "anyway": anyway}
            answer = _Conversation(client, sys.stdin.fileno()).hold(command, wishes)
    except DevsyncError as error:
        output.failure(error.message, error.hint)
        ctx.exit(OWN_FAILURE)
    for path, why in sorted(answer["unsettled"].items()):
        output.note(f"not brought here: {path}: {why}")
    ctx.exit(answer["status"])


class _Conversation:
    """One command: a thread passes on the input, the main thread writes the output."""

    def __init__(self, client: Client, stdin: int) -> None:
        self._frames: Frames = client.frames
        self._client, self._stdin = client, stdin
        self._terminal = os.isatty(stdin) and sys.stdout.isatty()

    def hold(self, words: Sequence[str], wishes: dict[str, bool]) -> dict[str, Any]:
        """Returns the daemon's result. Raises DevsyncError."""
        terminal = None
        if self._terminal:
            size = os.get_terminal_size(self._stdin)
            term = os.environ.get("TERM", "xterm")
            terminal = {"term": term, "columns": size.columns, "rows": size.lines}
        self._client.send("run", words=list(words), terminal=terminal, **wishes)
        wake_read, wake_write = os.pipe()
        feeder = threading.Thread(target=self._feed, args=(wake_read,), name="stdin", daemon=True)
        try:
            with self._raw(), self._signals():
                feeder.start()
                return self._carry()
        except Broken as error:
            raise Unavailable("the daemon went away while the command ran", hint="devsync status") from error
        finally:
            os.write(wake_write, b"x")
            feeder.join(2.0)
            os.close(wake_write)
            os.close(wake_read)

    def _carry(self) -> dict[str, Any]:
        streams = {STDOUT: sys.stdout.buffer, STDERR: sys.stderr.buffer}
        while True:
            frame = self._frames.receive()
            if frame is None:
                raise Broken("hung up")
            kind, body = frame
            if kind in streams:
                streams[kind].write(body)
                streams[kind].flush()
                continue
            answer = self._frames.parse(body) if kind == JSON else {}
            if "error" in answer:
                raise Refused(answer["error"])
            if "result" in answer:
                result: dict[str, Any] = answer["result"]
                return result
            event = answer.get("event", {})
            say(event)
            if "ended" in event:
                self._frames.send_json({"op": "seen"})

    def _feed(self, wake: int) -> None:
        import select

        while True:
            ready, _, _ = select.select([self._stdin, wake], [], [])
            if wake in ready:
                return
            try:
                chunk = os.read(self._stdin, 64 * 1024)
                if not chunk:
                    self._frames.send(END_OF_STDIN, b"")
                    return
                self._frames.send(STDIN, chunk)
            except (OSError, Broken):
                return

    @contextmanager
    def _raw(self) -> Iterator[None]:
        """The machine's terminal interprets the keys, so this one must not."""
        if not self._terminal:
            yield
            return
        import termios
        import tty

        before = termios.tcgetattr(self._stdin)
        tty.setraw(self._stdin)
        try:
            yield
        finally:
            termios.tcsetattr(self._stdin, termios.TCSADRAIN, before)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals go to the command; the window's size too."""
        handled = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT]
        before = {number: signal.getsignal(number) for number in (*handled, signal.SIGWINCH)}
        for number in handled:
            signal.signal(number, lambda number, _: self._wish(signal=number))
        if self._terminal:
            signal.signal(signal.SIGWINCH, lambda *_: self._resize())
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _resize(self) -> None:
        size = os.get_terminal_size(self._stdin)
        self._wish(columns=size.columns, rows=size.lines)

    def _wish(self, **wish: int) -> None:
        try:
            self._frames.send_json({"op": "wish", **wish})
        except Broken:
            pass  # the main thread notices by itself
