"""run: a command on the machine as if it were here, or as a job that needs nobody."""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running, say
from devsync.cli.options import seconds
from devsync.cli.terminal import passing_on, raw, terminal_of
from devsync.daemon.client import Client, Refused
from devsync.daemon.frames import END_OF_STDIN, JSON, STDERR, STDIN, STDOUT, Broken, Frames
from devsync.ports import DevsyncError, Misuse, Unavailable

OWN_FAILURE = 125
"""The exit status for a failure of devsync itself, as docker and env have it."""

WINDOW = 1024 * 1024
"""Bytes of input that may be on their way: what a command does not read stays where it comes from."""

STUCK = 16 * 1024
"""Bytes of typing that a command has not read; a Ctrl-C behind so much would not reach it."""

PIECE = 64 * 1024
CTRL_C, SIGINT = b"\x03", 2


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--detach", is_flag=True, help="Start it as a job that goes on without you; prints its id.")
@click.option("--name", metavar="NAME", help="What to call it.")
@click.option("--env", "variables", metavar="K=V", multiple=True, help="Set a variable there; repeatable.")
@click.option("--no-pull", is_flag=True, help="Do not wait until its results are here.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the changes made here are there.")
@click.option(
    "--timeout",
    type=seconds,
    default="10m",
    show_default=True,
    metavar="T",
    help="How long the changes made here may take.",
)
@click.option("--anyway", is_flag=True, help="Run even if some files there are not what they are here.")
@click.option(
    "--then-deallocate", is_flag=True, help="Let the machine go afterwards, unless something else works."
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@pass_project
@click.pass_context
def run(
    ctx: click.Context,
    project: Project,
    *,
    detach: bool,
    name: str | None,
    variables: tuple[str, ...],
    no_pull: bool,
    no_sync: bool,
    timeout: float,
    anyway: bool,
    then_deallocate: bool,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND in the project's folder on the machine.

    Waits until every change made here is there, runs it, waits until what it wrote is here, and ends
    with its exit status. What is typed is what runs: no shell of the machine's looks at it.
    """
    wishes: dict[str, object] = {"sync": not no_sync, "pull": not no_pull, "anyway": anyway}
    wishes["then_deallocate"] = then_deallocate
    try:
        if detach and then_deallocate:
            raise Misuse("--then-deallocate waits for the command", hint="leave out --detach")
        wishes |= {"timeout": timeout, "name": _name(name), "env": _env(variables)}
        with running(project) as client:
            if detach:
                start_job(client, command, wishes)
                return
            status = converse(client, sys.stdin.fileno(), command, wishes)
    except DevsyncError as error:
        output.failure(error.message, error.hint)
        ctx.exit(OWN_FAILURE)
    ctx.exit(status)


def _name(name: str | None) -> str | None:
    from devsync.core.jobs import NAME

    if name is not None and not NAME.fullmatch(name):
        raise Misuse(f"this is no name for a job: '{name}'", hint="letters, digits, '.', '_' and '-'")
    return name


def _env(variables: Sequence[str]) -> dict[str, str]:
    from devsync.core.jobs import VARIABLE

    given = {}
    for one in variables:
        name, equals, value = one.partition("=")
        if not equals or not VARIABLE.fullmatch(name):
            raise Misuse(f"this sets no variable: '{one}'", hint="as in --env EPOCHS=3")
        given[name] = value
    return given


def start_job(client: Client, words: Sequence[str], wishes: Mapping[str, object]) -> None:
    """Start a detached job, and print its id. Raises DevsyncError."""
    answer = client.call("detach", say, words=list(words), **wishes)
    job = answer["job"]["id"]
    output.note(f"started; devsync logs {job} -f follows it, devsync kill {job} ends it")
    output.data(job)


def converse(
    client: Client,
    stdin: int,
    words: Sequence[str],
    wishes: Mapping[str, object],
    stdout: BinaryIO | None = None,
) -> int:
    """Run a command, its output going to `stdout` or to ours: its exit status. Raises DevsyncError."""
    answer = _Conversation(client, stdin, stdout or sys.stdout.buffer).hold(words, wishes)
    for path, why in sorted(answer["unsettled"].items()):
        output.note(f"not brought here: {path}: {why}")
    if answer.get("stays") is not None:
        stays = answer["stays"]
        output.note(f"the machine stays: {stays}" if stays else "the machine is deallocated")
    status: int = answer["status"]
    return status


class _Conversation:
    """One command: a thread passes on the input, the main thread writes the output."""

    def __init__(self, client: Client, stdin: int, stdout: BinaryIO) -> None:
        self._stdout = stdout
        self._frames: Frames = client.frames
        self._client, self._stdin = client, stdin
        self._terminal = terminal_of(stdin)
        self._wishes: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()
        self._wake_read, self._wake = os.pipe()
        self._sent = 0  # bytes; the thread's
        self._taken = 0  # bytes; the main thread's

    def hold(self, words: Sequence[str], wishes: Mapping[str, object]) -> dict[str, Any]:
        """Returns the daemon's result. Raises DevsyncError."""
        terminal = None if self._terminal is None else asdict(self._terminal)
        self._client.send("run", words=list(words), terminal=terminal, **wishes)
        feeder = threading.Thread(target=self._feed, name="stdin", daemon=True)
        try:
            self._await_start()
            with (
                raw(self._stdin, self._terminal),
                passing_on(
                    self._stdin,
                    self._terminal,
                    lambda number: self._wish(signal=number),
                    lambda columns, rows: self._wish(columns=columns, rows=rows),
                ),
            ):
                feeder.start()
                return self._carry()
        except Broken as error:
            raise Unavailable("the daemon went away while the command ran", hint="devsync status") from error
        finally:
            if feeder.is_alive():
                os.write(self._wake, b"x")
                feeder.join(2.0)
            os.close(self._wake)
            os.close(self._wake_read)

    def _await_start(self) -> None:
        """Until the command starts, keys and signals are this program's own: Ctrl-C gives up."""
        while True:
            answer = self._client.receive()
            if "error" in answer:
                raise Refused(answer["error"])
            event = answer.get("event", {})
            if "starting" in event:
                return
            say(event)

    def _carry(self) -> dict[str, Any]:
        streams = {STDOUT: self._stdout, STDERR: sys.stderr.buffer}
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
            if "taken" in event:
                self._taken += event["taken"]
                os.write(self._wake, b".")
            if "ended" in event:
                self._frames.send_json({"op": "seen"})

    def _feed(self) -> None:
        """Pass on wishes, and the input, as far as the command reads it; typing is passed on in any case."""
        wake, over = self._wake_read, False
        try:
            while True:
                full = self._terminal is None and self._sent - self._taken >= WINDOW
                ready, _, _ = select.select([wake] if full or over else [self._stdin, wake], [], [])
                if wake in ready and b"x" in os.read(wake, PIECE):
                    return
                while not self._wishes.empty():
                    self._frames.send_json({"op": "wish", **self._wishes.get()})
                if self._stdin in ready:
                    over = not self._pass_on()
        except (OSError, Broken):
            return  # the main thread notices by itself

    def _pass_on(self) -> bool:
        """Send a piece of the input; whether more may come."""
        try:
            chunk = os.read(self._stdin, PIECE)
        except OSError:
            chunk = b""  # the terminal is gone
        if not chunk:
            self._frames.send(END_OF_STDIN, b"")
            return False
        if CTRL_C in chunk and self._terminal is not None and self._sent - self._taken > STUCK:
            self._frames.send_json({"op": "wish", "signal": SIGINT})
        self._sent += len(chunk)
        self._frames.send(STDIN, chunk)
        return True

    def _wish(self, **wish: int) -> None:
        """Leave it to the thread: this is called by signals, and one may interrupt another that sends."""
        self._wishes.put(wish)
        os.write(self._wake, b".")
