"""jupyter: the machine's JupyterLab in the browser here, found or started, and its kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running, say
from devsync.cli.options import json_option
from devsync.daemon.client import Client, Refused
from devsync.ports import DevsyncError


@click.command()
@click.argument("what", type=click.Choice(["start", "stop", "url"]), default="start")
@click.option("--kernel-list", is_flag=True, help="Show the kernels: state, memory and notebook.")
@click.option("--no-browser", is_flag=True, help="Do not open the browser.")
@json_option
@pass_project
def jupyter(project: Project, *, what: str, kernel_list: bool, no_browser: bool, as_json: bool) -> None:
    """Jupyter on the machine, in the browser here: found if it runs, else started.

    It needs neither the connection nor devsync: kernels live on. `url` starts nothing, `stop` ends it.
    """
    with running(project) as client:
        if kernel_list:
            _show_kernels(client.call("jupyter-kernels"), as_json=as_json)
            return
        if what == "stop":
            answer = client.call("jupyter-stop", say)
            if as_json:
                output.document(answer)
            else:
                output.note("Jupyter is stopped" if answer["stopped"] else "no Jupyter server runs")
            return
        watched = _watched() and not as_json
        answer = _reach(client, start=what == "start", offers=watched)
    if as_json:
        output.document(answer)
        return
    output.data(answer["url"])
    if what == "start" and watched and not no_browser:
        _open(answer["url"], project.state(), project.environ)


def _watched() -> bool:
    return output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)


def _reach(client: Client, *, start: bool, offers: bool) -> dict[str, Any]:
    """The server; where there is no Jupyter, somebody who looks is asked whether it shall be installed."""
    try:
        answer: dict[str, Any] = client.call("jupyter", say, start=start)
    except Refused as error:
        commands = error.details.get("commands", "")
        if error.kind != "NoJupyter" or not commands or not offers:
            raise
        _install(client, error.message, commands.splitlines())
        answer = client.call("jupyter", say, start=start)
    return answer


def _install(client: Client, why: str, commands: list[str]) -> None:
    """Show what installs it and run that, if that is wanted. Raises DevsyncError."""
    from devsync.cli.run import converse

    output.note(f"{why}; this installs it there:\n" + "".join(f"  {line}\n" for line in commands))
    click.confirm("Run it now?", default=True, abort=True, err=True)
    words = ["sh", "-c", " && ".join(commands)]
    if status := converse(client, sys.stdin.fileno(), words, {"sync": False, "pull": False}):
        raise DevsyncError(f"Jupyter was not installed (exit status {status})")


def _open(url: str, folder: Path, environ: Mapping[str, str]) -> None:
    """Open a browser that has a window, by a file of ours: a command line would show the token to others."""
    import webbrowser
    from html import escape

    windows = sys.platform == "darwin" or any(map(environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))
    if not windows:
        return
    page = folder / "jupyter.html"
    page.unlink(missing_ok=True)
    with open(os.open(page, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(url)}">\n')
    try:
        opened = webbrowser.open(page.as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        output.note("no browser could be opened: the link above leads there")


def _show_kernels(kernels: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        output.document(kernels)
        return
    if not kernels:
        output.note("no kernel runs")
        return
    rows = [("kernel", "state", "memory", "notebook")]
    for one in kernels:
        memory = "-" if one["memory"] is None else f"{one['memory'] / 2**20:.0f} MiB"
        rows.append((one["id"][:8], one["state"], memory, one["notebook"] or f"- ({one['name']})"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        output.data("  ".join([*map(str.ljust, row, widths), row[3]]))
