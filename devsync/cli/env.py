"""env: the project's environment, made anew on the machine."""

from __future__ import annotations

import io
import os
from pathlib import Path

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running
from devsync.cli.run import converse
from devsync.ports import DevsyncError

BARRIER = 600.0
"""Seconds that the changes made here may take, as with `run`."""


@click.group()
def env() -> None:
    """The project's environment on the machine."""


@env.command()
@click.option(
    "--from",
    "wanted",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The file that describes it, if there are several.",
)
@pass_project
def push(project: Project, *, wanted: Path | None) -> None:
    """Make the project's environment on the machine, or bring it up to date.

    From environment.yml by conda; from requirements.txt or pyproject.toml by uv or pip. `[run] setup` is
    set to activate it, if nothing is set.
    """
    from devsync.app.errands import making

    config = project.config()
    errand = making(config, wanted)
    wishes = {"pull": False, "timeout": BARRIER, "shown": ["devsync", "env", "push"], "bare": True}
    said = io.BytesIO()
    with running(project) as client, open(os.devnull, "rb") as nothing:
        status = converse(client, nothing.fileno(), errand.words, wishes, said)
    if status != 0:
        raise DevsyncError("the environment could not be made on the machine", hint="what it said is above")
    setup = said.getvalue().decode("utf-8", "replace").strip()
    _tell(config.root, config.run.setup, setup)


def _tell(root: Path, present: str | None, setup: str) -> None:
    """Set `[run] setup` if nothing is set, and say what is to be done."""
    if present == setup:
        output.note("the environment is ready; commands run in it")
    elif present is not None:
        output.note(
            f'the environment is ready; [run] setup = "{setup}" would activate it, and is "{present}"'
        )
    elif _set(root, setup):
        output.note(
            f'the environment is ready; [run] setup = "{setup}" is in devsync.toml now, and counts from the '
            "next start on: devsync stop, devsync start"
        )
    else:
        output.note(f'the environment is ready; write [run] setup = "{setup}" into devsync.toml')


def _set(root: Path, setup: str) -> bool:
    from devsync.folders import FILE_NAME
    from devsync.settings.edit import with_values

    path = root / FILE_NAME
    try:
        text = with_values(path.read_text("utf-8"), {"run.setup": setup})
    except ValueError:
        return False  # it is not written one setting a line
    new = path.with_name(f"{FILE_NAME}.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
    return True
