"""start: the daemon is launched, and what it does is shown until both sides are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import PERMISSIONS, end_at_once, running
from devsync.cli.options import timeout_option
from devsync.daemon.client import Client, Refused
from devsync.ports import DevsyncError, Unavailable

if TYPE_CHECKING:
    from devsync.config import Config

UNREACHABLE = 20.0
"""Seconds for which a first connection may fail before `start` gives up."""

FAILSAFE = 5.0
"""Seconds that the layers which need no laptop may take to say how they are."""


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in this terminal, or under systemd.")
@click.option("--no-wait", is_flag=True, help="Return at once, not after the first synchronisation.")
@timeout_option
@click.option(
    "--accept-host-key",
    is_flag=False,
    flag_value="any",
    metavar="[FINGERPRINT]",
    help="Trust the machine's host key if it is unknown; a changed one is refused all the same.",
)
@click.option("--accept-deletions", is_flag=True, help="Go on after a stop for too many deletions.")
@click.option("--accept-arrivals", is_flag=True, help="Let come what was held back for its size or number.")
@click.option("--rejoin", is_flag=True, help="Compare both sides anew, as at first; deletes nothing.")
@click.option("--take-over", is_flag=True, help="Take the folders from another devsync, which then stops.")
@click.option("--ready-fd", type=int, hidden=True)
@pass_project
def start(
    project: Project,
    /,
    *,
    foreground: bool,
    no_wait: bool,
    timeout: float | None,
    ready_fd: int | None,
    **permissions: Any,
) -> None:
    """Start the machine, mirror the project, open the tunnels, and stay."""
    config = project.config()
    if foreground:
        from devsync.app.daemon import run_daemon

        run_daemon(config, project.environ, ready_fd=ready_fd, **permissions)
        return
    client = Client.connect(project.socket())
    if client is not None:
        with client:
            wish = client.call("start", **permissions)
            output.note(f"devsync runs already for {config.name} (process {wish['pid']})")
            _await_synchronised(client, timeout, wish["beyond"])
        return
    _launch(project, permissions)
    if no_wait:
        output.note(f"devsync is starting for {config.name}; devsync status tells how it goes")
        return
    with running(project) as client:
        try:
            status = _await_let_in(config, client, timeout)
        except Unavailable as error:
            _end(project)
            raise _told_by_the_dead(project) or error from None
        except (DevsyncError, KeyboardInterrupt, click.Abort):  # Abort: Ctrl-C at the question
            _end(project)
            raise
        status = _await_failsafe(client, status)
    _welcome(status)


def _await_let_in(config: Config, client: Client, timeout: float | None) -> dict[str, Any]:
    """Wait for the first synchronisation; where Azure's rules keep SSH out, offer to move them, once."""
    from devsync.cli.vm_make import offer_way_in

    try:
        return _await_synchronised(client, timeout, 0)
    except Unavailable as error:
        if not offer_way_in(config, error):
            raise
    return _await_synchronised(client, timeout, 0)


def _await_failsafe(client: Client, status: dict[str, Any]) -> dict[str, Any]:
    """Wait a little until it is known what a closed laptop means: the status that says so."""
    until = time.monotonic() + FAILSAFE
    while not status["failsafe"]["settled"] and time.monotonic() < until:
        time.sleep(0.1)
        status = client.call("status")
    return status


def _end(project: Project) -> None:
    """End the daemon that was launched, however often Ctrl-C is pressed meanwhile."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        end_at_once(project)
    finally:
        signal.signal(signal.SIGINT, before)


def _launch(project: Project, permissions: dict[str, Any]) -> None:
    """Start the daemon in a session of its own; returns when it listens. Raises what kept it from that."""
    import json

    state = project.state()
    # -P: no file of the project may pass for a module of Python's.
    words = [sys.executable, "-P", "-m", "devsync", "-C", str(project.root()), "start", "--foreground"]
    for name in PERMISSIONS:
        value = permissions.get(name)
        if value:
            words.append("--" + name.replace("_", "-") + ("" if value is True else f"={value}"))
    read_end, write_end = os.pipe()
    with _open_out(state / "daemon.out") as out:
        daemon = subprocess.Popen(
            [*words, "--ready-fd", str(write_end)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            pass_fds=[write_end],
            start_new_session=True,
        )
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        try:
            line = pipe.readline()
        except KeyboardInterrupt:
            daemon.terminate()
            raise
    if not line:
        raise _told_by_the_dead(project) or DevsyncError(
            "the daemon did not start, and did not say why", hint=f"see {state}/daemon.log"
        )
    answer = json.loads(line)
    if "error" in answer:
        raise Refused(answer["error"])


def _told_by_the_dead(project: Project) -> DevsyncError | None:
    """The last words of a daemon that ended by itself; None if it said nothing."""
    words = (project.state() / "daemon.out").read_text(errors="replace").strip()
    message, _, hint = words.removeprefix("devsync: ").partition("\n\nhint: ")
    return DevsyncError(f"the daemon ended: {message}", hint=hint) if words else None


def _open_out(file: Path) -> BinaryIO:
    try:
        return open(file, "wb", opener=lambda path, flags: os.open(path, flags, 0o600))
    except OSError as error:
        raise DevsyncError(f"cannot write {file}: {error.strerror}") from error


def _await_synchronised(client: Client, timeout: float | None, beyond: int) -> dict[str, Any]:
    """Wait for a complete synchronisation `beyond` those that were, showing how it goes."""
    from devsync.cli.progress import Progress

    watch = _Watch(timeout)
    while True:
        try:
            with Progress() as progress:

                def show(event: dict[str, Any], progress: Progress = progress) -> None:
                    watch.check(event)
                    progress.show(event)

                status: dict[str, Any] = client.call("follow", show, until="synchronised", beyond=beyond)
                return status
        except Refused as error:
            if not (error.kind == "UnknownHostKey" and _asked(error)):
                raise
            beyond = client.call("start", accept_host_key=error.details["fingerprint"])["beyond"]


class _Watch:
    """Gives up when a connection is not to be had, or when the time is up."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._failing: float | None = None

    def check(self, status: dict[str, Any]) -> None:
        now = time.monotonic()
        trouble = status["troubles"].get("link") or status["troubles"].get("sync")
        if trouble is None or status["machine"]["progress"]:
            self._failing = None
        elif self._failing is None:
            self._failing = now
        elif now - self._failing > UNREACHABLE:
            raise Unavailable(trouble["message"], hint=trouble["hint"])
        if self._deadline is not None and now > self._deadline:
            why = trouble["message"] if trouble else f"still {status['state']}"
            raise Unavailable(f"not synchronised in time: {why}", hint=trouble["hint"] if trouble else "")


def _asked(error: Refused) -> bool:
    """Show an unknown host key on a terminal and ask; False where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    output.note(f"{error.message}\n({error.hint.partition(';')[0]})")
    return click.confirm("Is this the machine's key? Trust it from now on", default=False, err=True)


def _welcome(status: dict[str, Any]) -> None:
    sync, machine = status["sync"], status["machine"]
    files = "1 file is" if sync["files"] == 1 else f"{sync['files']} files are"
    output.note(f"{status['project']}: {files} the same here and on {machine['host']}")
    for tunnel in status["tunnels"]:
        wanted = (
            f" (port {tunnel['wanted']} is taken)" if tunnel["wanted"] not in (0, tunnel["local"]) else ""
        )
        output.note(f"http://localhost:{tunnel['local']} is port {tunnel['remote']} there{wanted}")
    for line in status["failsafe"]["lines"]:
        output.note(line)
    for path, problem in list(sync["problems"].items())[:5]:
        output.note(f"left alone: {path}: {problem}")
    if sync["conflicts"]:
        output.note(
            f"{sync['conflicts']} conflicts are open: both sides changed these files, and both were left"
        )
