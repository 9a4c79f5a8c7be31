"""stop, status, flush: the daemon's life, from the outside."""

from __future__ import annotations

import time
from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option, timeout_option
from devsync.daemon.client import Client
from devsync.ports import DevsyncError, Unavailable

PERMISSIONS = ("accept_host_key", "accept_deletions", "accept_arrivals", "rejoin", "take_over")
"""What the user may allow, as `start`, `push` and `pull` name it."""


def running(project: Project) -> Client:
    """The running daemon. Raises Unavailable if there is none."""
    client = Client.connect(project.socket())
    if client is None:
        raise Unavailable("devsync is not running for this project", hint="devsync start")
    return client


# ---------------------------------------------------------------- stop


@click.command()
@click.option("--deallocate", is_flag=True, help="Also let the machine go, and wait until the cloud says so.")
@timeout_option
@pass_project
def stop(project: Project, *, deallocate: bool, timeout: float | None) -> None:
    """Flush, end the daemon, and with --deallocate the machine too."""
    client = Client.connect(project.socket())
    if client is None:
        if deallocate:
            from devsync.app.machine import deallocate_machine

            deallocate_machine(project.config(), project.environ, output.note)
            output.note("the machine is deallocated")
            return
        output.note("devsync was not running")
        return
    _stop(project, client, deallocate=deallocate, timeout=timeout if timeout is not None else 60.0)


def _stop(project: Project, client: Client, **how: object) -> None:
    """End the daemon, and say what goes on to cost money."""
    last: dict[str, Any] = {}

    def hear(event: dict[str, Any]) -> None:
        say(event)
        last.update(event)

    with client:
        try:
            client.call("stop", hear, **how)
        except Unavailable:
            if "stopping" not in last:
                raise  # it was refused; else the daemon may end faster than it can answer
    _await_end(project)
    output.note("stopped" + (", and the machine is deallocated" if how.get("deallocate") else ""))
    if last.get("billed"):
        output.note(f"the machine is {last['machine']}, and billed: devsync vm deallocate ends that")


def say(event: dict[str, Any]) -> None:
    """Show how the daemon gets on with a request."""
    for kind in ("progress", "warning"):
        if kind in event:
            output.note(str(event[kind]))


def end_at_once(project: Project) -> None:
    """End a daemon that we have just started, without a flush."""
    client = Client.connect(project.socket())
    try:
        if client is not None:
            _stop(project, client, now=True)
    except Unavailable:
        _await_end(project)  # it is ending already


def _await_end(project: Project) -> None:
    from devsync.daemon.lock import Held, ProjectLock

    deadline = time.monotonic() + 15.0
    while True:
        try:
            ProjectLock(project.state() / "lock").release()
        except Held as error:
            if time.monotonic() > deadline:
                raise DevsyncError(f"the daemon does not end (process {error.pid})") from None
            time.sleep(0.05)
        else:
            return


# ---------------------------------------------------------------- status, flush


@click.command()
@click.option("--watch", is_flag=True, help="Keep showing it until Ctrl-C.")
@json_option
@pass_project
@click.pass_context
def status(ctx: click.Context, project: Project, *, watch: bool, as_json: bool) -> None:
    """What is going on, in one screen."""
    client = Client.connect(project.socket())
    if client is None:
        from devsync.config import default_name

        name = _name(project) or default_name(project.root())
        if as_json:
            output.document({"project": name, "state": "stopped"})
        else:
            output.data(f"{name}: stopped")
        ctx.exit(3)
    with client:
        if watch:
            _watch(client)
            return
        answer = client.call("status")
        if as_json:
            output.document(answer)
        else:
            from devsync.cli.screen import lines

            for line in lines(answer):
                output.data(line)


def _name(project: Project) -> str | None:
    try:
        return project.config().name
    except DevsyncError:
        return None  # stopped all the same


def _watch(client: Client) -> None:
    from devsync.cli.screen import Screen

    with Screen() as screen:
        try:
            client.call("follow", screen.show)
        except KeyboardInterrupt:
            return


@click.command()
@timeout_option
@pass_project
@click.pass_context
def flush(ctx: click.Context, project: Project, *, timeout: float | None) -> None:
    """Wait until every change made so far, on either side, is on the other."""
    with running(project) as client:
        answer = client.call("flush", say, timeout=timeout)
    report(ctx, answer["conflicts"], answer["unsettled"])


def report(ctx: click.Context, conflicts: list[str], unsettled: dict[str, str]) -> None:
    """Name what was left, and end with the status for it."""
    for path, why in sorted(unsettled.items()):
        output.note(f"not carried over: {path}: {why}")
    for path in conflicts:
        output.note(f"conflict, both sides were left as they are: {path}")
    if unsettled:
        ctx.exit(1)
    if conflicts:
        ctx.exit(5)
