"""doctor: what is not as it should be, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option

SIGNS = {"ok": "ok     ", "warning": "warning", "failed": "FAILED "}


@click.command()
@json_option
@pass_project
@click.pass_context
def doctor(ctx: click.Context, project: Project, *, as_json: bool) -> None:
    """Check everything from the configuration to the machine's GPU; each line says what to do."""
    from devsync.app.doctor import diagnose

    found = []
    for check in diagnose(project.start, project.environ):
        found.append(check)
        if not as_json:
            output.data(f"{SIGNS[check.state]}  {check.name}: {check.text}")
            if check.hint and check.state != "ok":
                output.data(f"{'':9}{check.hint}")
    if as_json:
        output.document([asdict(check) for check in found])
    if any(check.state == "failed" for check in found):
        ctx.exit(1)
