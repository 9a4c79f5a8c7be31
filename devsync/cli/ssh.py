"""ssh: a shell on the machine, by the user's own ssh where there is one."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from devsync.cli.context import Project, pass_project
from devsync.cli.terminal import passing_on, raw, terminal_of
from devsync.ports import DevsyncError, Process, Unavailable

if TYPE_CHECKING:
    from devsync.app.shell import Shell

NOT_CONNECTED = 255
"""What ssh ends with when it did not come through; a command may end with it, too."""

PIECE = 64 * 1024


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-A", "agent", is_flag=True, help="Let programs there use your SSH agent.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@pass_project
@click.pass_context
def ssh(ctx: click.Context, project: Project, *, agent: bool, command: tuple[str, ...]) -> None:
    """A shell in the project's folder on the machine, or COMMAND in one."""
    import shutil

    from devsync.app.shell import open_shell

    terminal = terminal_of(sys.stdin.fileno())
    shell = open_shell(project.config(), project.environ, command, buffered=terminal is not None)
    client = shutil.which("ssh", path=project.environ.get("PATH"))
    if client is not None:
        ctx.exit(_by_client(client, shell.words(agent=agent, terminal=terminal is not None)))
    if agent:
        raise DevsyncError("without ssh, no agent is forwarded", hint="install openssh-client")
    ctx.exit(_by_itself(shell))


def _by_client(client: str, words: list[str]) -> int:
    """Run ssh; its exit status. Raises Unavailable if it never came through."""
    with tempfile.TemporaryDirectory(prefix="devsync-") as folder:
        # Only this tells a refusal from a command that ends with 255.
        through = Path(folder) / "through"
        told = f"LocalCommand=: >{shlex.quote(str(through))}"
        process = subprocess.Popen([client, "-o", "PermitLocalCommand=yes", "-o", told, *words])
        before = {
            number: signal.signal(number, lambda caught, _: _pass_on(process, caught))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        }
        try:
            status = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if status == NOT_CONNECTED and not through.exists():
            raise Unavailable("ssh could not reach the machine", hint="devsync start says why")
    return status if status >= 0 else 128 - status


def _pass_on(process: subprocess.Popen[bytes], number: int) -> None:
    # What the terminal's keys mean has reached ssh already: it is of the same group.
    if number != signal.SIGINT or not os.isatty(0):
        process.send_signal(number)


def _by_itself(shell: Shell) -> int:
    """The same over a connection of devsync's own; the exit status."""
    stdin = sys.stdin.fileno()
    terminal = terminal_of(stdin)
    with closing(shell.connect()) as connection, closing(connection.exec(shell.line, terminal)) as process:
        wake_read, wake_write = os.pipe()
        threads = [
            threading.Thread(target=_feed, args=(process, stdin, wake_read), name="stdin", daemon=True),
            threading.Thread(target=_carry, args=(process.recv_stderr, 2), name="stderr", daemon=True),
        ]
        try:
            with (
                raw(stdin, terminal),
                passing_on(stdin, terminal, lambda _: process.close(), process.resize),
            ):
                for thread in threads:
                    thread.start()
                _carry(process.recv, 1)
                return process.wait()
        finally:
            os.write(wake_write, b"x")
            for thread in threads:
                thread.join(2.0)
            os.close(wake_write)
            os.close(wake_read)


def _carry(receive: Callable[[int], bytes], descriptor: int) -> None:
    while chunk := receive(PIECE):
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]


def _feed(process: Process, stdin: int, wake: int) -> None:
    try:
        while True:
            ready, _, _ = select.select([stdin, wake], [], [])
            if wake in ready:
                return
            if chunk := os.read(stdin, PIECE):
                process.send(chunk)
            else:
                process.shutdown_write()
                return
    except (OSError, Unavailable):
        return  # it has ended: how it ended is what counts
