"""notebook: one that is executed on the machine, and comes back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running
from devsync.cli.options import seconds
from devsync.cli.run import OWN_FAILURE, converse, start_job
from devsync.ports import DevsyncError

BARRIER = 600.0
"""Seconds that the changes made here may take, as with `run`."""


@click.group()
def notebook() -> None:
    """Execute notebooks on the machine."""


@notebook.command("run")
@click.option("--param", "parameters", metavar="K=V", multiple=True, help="Set a parameter; repeatable.")
@click.option("--timeout", type=seconds, metavar="T", help="How long one cell may take.  [default: for ever]")
@click.option("--kernel", metavar="NAME", help="Another kernel than the notebook's own.")
@click.option(
    "--output",
    "target",
    metavar="OUT.ipynb",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the result there, and leave FILE as it is.",
)
@click.option("--detach", is_flag=True, help="As a job that goes on without you; prints its id.")
@click.option("--no-pull", is_flag=True, help="Do not wait until the result is here.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the changes made here are there.")
@click.option("--anyway", is_flag=True, help="Run even if some files there are not what they are here.")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.ipynb")
@pass_project
@click.pass_context
def run(
    ctx: click.Context,
    project: Project,
    *,
    file: Path,
    parameters: tuple[str, ...],
    timeout: float | None,
    kernel: str | None,
    target: Path | None,
    detach: bool,
    no_pull: bool,
    no_sync: bool,
    anyway: bool,
) -> None:
    """Execute FILE.ipynb on the machine, in place, and bring it back.

    Parameters go into a cell behind the one tagged `parameters`, else on top. If a cell fails, its
    traceback is shown, the status is 1, and the notebook is kept as far as it came.
    """
    from devsync.app.errands import execution

    flags: dict[str, object] = {"sync": not no_sync, "pull": not no_pull, "anyway": anyway}
    try:
        errand = execution(
            project.root(),
            file,
            given=parameters,
            timeout=timeout,
            kernel=kernel,
            output=target,
            colours=not detach and output.colours(sys.stderr),
        )
        shown = ["devsync", "notebook", "run", str(file), *_shown(parameters)]
        wishes = {**flags, "timeout": BARRIER, "name": errand.name, "shown": shown}
        with running(project) as client, open(os.devnull, "rb") as nothing:
            if detach:
                start_job(client, errand.words, wishes)
                return
            status = converse(client, nothing.fileno(), errand.words, wishes)
    except DevsyncError as error:
        output.failure(error.message, error.hint)
        ctx.exit(OWN_FAILURE)
    ctx.exit(status)


def _shown(parameters: tuple[str, ...]) -> list[str]:
    return [word for one in parameters for word in ("--param", one)]
