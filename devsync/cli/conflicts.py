"""diff, conflicts, resolve: where both sides differ."""

from __future__ import annotations

from typing import Any

import click

from devsync.cli import output
from devsync.cli.both_sides import ask, path_in_project
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option


@click.command()
@json_option
@pass_project
def diff(project: Project, *, as_json: bool) -> None:
    """What differs between the sides now, one line a path."""
    rows = ask(project, "diff")
    if as_json:
        output.document(rows)
        return
    for row in rows:
        output.data(_line(row))
    if not rows:
        output.note("both sides are the same")


def _line(row: dict[str, Any]) -> str:
    ways = {"to-remote": "push", "to-local": "pull"}
    change = ways.get(row["change"], row["change"])
    detail = row.get("action") or row.get("kind") or ""
    why = f": {row['why']}" if "why" in row else ""
    return f"{change:<8} {detail:<13} {row['path']}{why}"


@click.command()
@json_option
@pass_project
def conflicts(project: Project, *, as_json: bool) -> None:
    """The files that both sides changed, and that were left alone."""
    rows = ask(project, "conflicts")
    if as_json:
        output.document(rows)
        return
    for row in rows:
        sides = f"local {_content(row['local'])}, remote {_content(row['remote'])}"
        output.data(f"{row['path']}  {row['kind']} ({sides})")
    if rows:
        output.note("devsync resolve PATH --keep local|remote|both ends one; what loses goes to the trash")
    else:
        output.note("no conflicts are open")


def _content(leaf: dict[str, Any] | None) -> str:
    """A file or link in a few words."""
    if leaf is None:
        return "nothing, or a folder"
    if "link" in leaf:
        return f"a link to {leaf['link']}"
    return f"{leaf['size']} bytes, {leaf['digest'][:8]}" + (", executable" if leaf["executable"] else "")


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--keep",
    type=click.Choice(["local", "remote", "both"]),
    required=True,
    help="Which version is right; with both, the machine's is kept beside the local one.",
)
@pass_project
def resolve(project: Project, *, paths: tuple[str, ...], keep: str) -> None:
    """End conflicts; the version that loses goes to the trash."""
    wanted = [path_in_project(project, path) for path in paths]
    for row in ask(project, "resolve", paths=wanted, keep=keep):
        kept = f"the local version; the machine's is {row['beside']}" if row["beside"] else f"the {keep} one"
        output.note(f"{row['path']}: kept {kept}")
