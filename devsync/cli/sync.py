"""push and pull: one synchronisation in one direction, with no daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import PERMISSIONS, report, say
from devsync.cli.options import json_option
from devsync.daemon.client import Client
from devsync.ports import Misuse

if TYPE_CHECKING:
    from devsync.app.once import Once


def _options(command: Any) -> Any:
    for option in (
        json_option,
        click.option("--rejoin", is_flag=True, help="Compare both sides anew, as at first; deletes nothing."),
        click.option("--take-over", is_flag=True, help="Take the folders from another devsync, which stops."),
        click.option("--accept-arrivals", is_flag=True, help="Let come what was held for size or number."),
        click.option("--accept-deletions", is_flag=True, help="Go on after a stop for too many deletions."),
        click.option("--accept-host-key", is_flag=False, flag_value="any", metavar="[FINGERPRINT]",
                     help="Trust the machine's host key if it is unknown; a changed one is refused all the "
                     "same."),
        click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing."),
    ):  # fmt: skip
        command = option(command)  # the last one is the first in --help
    return command


@click.command()
@_options
@pass_project
@click.pass_context
def push(ctx: click.Context, project: Project, /, **options: Any) -> None:
    """Bring what changed here to the machine, once."""
    _once(ctx, project, "push", **options)


@click.command()
@_options
@pass_project
@click.pass_context
def pull(ctx: click.Context, project: Project, /, **options: Any) -> None:
    """Bring what changed on the machine here, once."""
    _once(ctx, project, "pull", **options)


def _once(
    ctx: click.Context, project: Project, direction: str, *, dry_run: bool, as_json: bool, **permissions: Any
) -> None:
    config = project.config()
    client = Client.connect(project.socket())
    if client is not None:
        with client:
            _by_daemon(ctx, client, direction, dry_run=dry_run, as_json=as_json)
        return
    from devsync.app.reach import reached

    allowed = {name: permissions[name] for name in PERMISSIONS}
    with reached(config, project.environ, allowed.pop("accept_host_key")) as reach:
        from devsync.app.once import synchronise_once  # while the connection comes about

        once = synchronise_once(config, reach, direction, output.note, dry_run=dry_run, **allowed)
    if as_json:
        output.document(once.as_json())
    else:
        _print(once)
    report(ctx, list(once.conflicts), {} if dry_run else once.problems)


def _by_daemon(ctx: click.Context, client: Client, direction: str, *, dry_run: bool, as_json: bool) -> None:
    """The daemon keeps both sides equal all the time: a flush is all that is left to do."""
    if dry_run:
        raise Misuse("the daemon runs, and does what is to be done at once", hint="devsync status shows it")
    answer = client.call("flush", say)
    if as_json:
        output.document({"direction": direction, "by_daemon": True, "changes": [], **answer})
    else:
        output.note("the daemon runs: everything is on both sides")
    report(ctx, answer["conflicts"], answer["unsettled"])


def _print(once: Once) -> None:
    for change in once.changes:
        output.data(f"{change['action']:<7} {change['path']}")
    there = "here" if once.direction == "pull" else "there"
    done = "would be changed" if once.dry_run else "changed"
    output.note(f"{len(once.changes)} files {done} {there}")
    for path, why in sorted(once.held.items()):
        output.note(f"left alone: {path}: {why}")
