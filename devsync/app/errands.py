"""Commands of devsync's own for the machine: what executes a notebook, what makes the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devsync.config import Config
from devsync.core.jobs import NAME
from devsync.ports import Misuse
from devsync.replica.rules import load_rules
from devsync.work import environment, notebook


@dataclass(frozen=True)
class Errand:
    """A command for the project's folder there; `name` is what a job of it is called."""

    words: Sequence[str]
    name: str | None


def execution(
    root: Path,
    file: Path,
    *,
    given: Sequence[str] = (),
    timeout: float | None = None,
    kernel: str | None = None,
    output: Path | None = None,
    colours: bool = False,
) -> Errand:
    """What executes the notebook `file`; `given` are `K=V`, `timeout` is in seconds for each cell.

    Raises Misuse or another DevsyncError if that cannot be.
    """
    wishes = notebook.Wishes(
        _inside(root, file),
        notebook.parameters(given),
        notebook.seconds(timeout),
        kernel,
        None if output is None else _inside(root, output),
        colours,
    )
    notebook.check(file)
    return Errand(notebook.words(wishes), file.stem if NAME.fullmatch(file.stem) else None)


def making(config: Config, wanted: Path | None = None) -> Errand:
    """What makes the project's environment there, and prints the line that activates it.

    `wanted` is the one file that shall count. Raises DevsyncError if there is nothing to make it from.
    """
    found = environment.describe(config.root, None if wanted is None else _inside(config.root, wanted))
    rules = load_rules(config.root, config.sync.ignore)
    mirrored = rules.visible(".venv", is_folder=True)
    return Errand(environment.words(found, mirrored=mirrored), None)


def _inside(root: Path, path: Path) -> str:
    """The path from the project's folder on, which is the same on the machine. Raises Misuse."""
    # As it is written, for a link in the project is one on the machine, too; else wherever it leads.
    ways = (
        os.path.relpath(os.path.abspath(path), root),
        os.path.relpath(os.path.realpath(path), root.resolve()),
    )
    for way in ways:
        if way.split(os.sep)[0] != os.pardir:
            return way
    raise Misuse(f"{path} is not in the project {root}")
