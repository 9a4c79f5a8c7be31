"""service: devsync under the user's own systemd."""

from __future__ import annotations

from dataclasses import asdict

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option
from devsync.daemon.client import Client


@click.group()
def service() -> None:
    """Let systemd keep devsync alive for this project, without root."""


@service.command()
@click.option(
    "--at-login", is_flag=True, help="Also at each login: that starts the machine, which is billed."
)
@pass_project
def install(project: Project, *, at_login: bool) -> None:
    """Write the user unit, and start this project's daemon under it."""
    from devsync.app.service import Service

    project.config()  # what is wrong with it is said here, not in a journal
    made = Service(project.root(), project.environ)
    client = Client.connect(project.socket())
    if client is not None:
        with client:
            client.call("stop")
    made.install(at_login=at_login)
    output.note(f"{made.unit} runs; devsync status tells how it goes")
    if at_login and not made.status().lingers:
        output.note("it ends with your last logout; loginctl enable-linger keeps it")


@service.command()
@pass_project
def uninstall(project: Project) -> None:
    """End this project's unit; its daemon stops, the machine stays as it is."""
    from devsync.app.service import Service

    Service(project.root(), project.environ).uninstall()
    output.note("systemd does not start devsync for this project any more")


@service.command()
@json_option
@pass_project
@click.pass_context
def status(ctx: click.Context, project: Project, *, as_json: bool) -> None:
    """Say whether the unit is there, runs, and comes back at login."""
    from devsync.app.service import Service

    told = Service(project.root(), project.environ).status()
    if as_json:
        output.document(asdict(told))
    else:
        there = "installed" if told.installed else "not installed: devsync service install"
        output.data(f"{told.unit}: {there}; {told.active}, {told.enabled}")
    if told.active != "active":
        ctx.exit(3)
