"""history and restore: what devsync has replaced or deleted, and the way back."""

from __future__ import annotations

from typing import Any

import click

from devsync.cli import output
from devsync.cli.both_sides import ask, path_in_project
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option
from devsync.ports import Unfinished

_side = click.option("--side", type=click.Choice(["local", "remote"]), help="Only the trash of this side.")


@click.command()
@click.argument("path", required=False)
@_side
@json_option
@pass_project
def history(project: Project, *, path: str | None, side: str | None, as_json: bool) -> None:
    """The versions that devsync has replaced or deleted, newest first."""
    wanted = None if path is None else path_in_project(project, path)
    rows = ask(project, "history", path=wanted, side=side)
    if as_json:
        output.document(rows)
        return
    for row in rows:
        output.data(f"{row['time']}  {row['side']:<6}  {row['reason']:<9}  {row['path']}  {_version(row)}")
    if not rows:
        output.note("no old versions are kept" + (f" of {path}" if path else ""))


def _version(row: dict[str, Any]) -> str:
    content = row["content"] or {}
    size = f"{content['size']} bytes, " if "size" in content else ""
    return f"({size}version {row['version']})"


@click.command()
@click.argument("path")
@click.option("--version", metavar="ID", help="Which one, as history names it; otherwise the newest.")
@_side
@json_option
@pass_project
def restore(project: Project, *, path: str, version: str | None, side: str | None, as_json: bool) -> None:
    """Bring an old version of a file back."""
    wanted = path_in_project(project, path)
    answer = ask(project, "restore", path=wanted, version=version, side=side)
    if as_json:
        output.document(answer)
    else:
        output.note(
            f"{wanted} is again what it was (version {answer['version']} of the {answer['side']} side)"
        )
    if answer["problem"]:
        output.note(f"on that side only: {answer['problem']}")
    if answer["conflict"]:
        raise Unfinished(
            f"{wanted} was brought back on the {answer['side']} side, but the other side has changed it, too",
            hint="devsync resolve ends the conflict",
        )
