"""How a command asks both sides something: by the daemon if it runs, else by itself."""

from __future__ import annotations

import os
from typing import Any

from devsync.cli import output
from devsync.cli.context import Project
from devsync.daemon.client import Client
from devsync.ports import Misuse


def ask(project: Project, task: str, **args: Any) -> Any:
    """The answer to a task of the daemon's, a JSON value. Raises what went wrong."""
    client = Client.connect(project.socket())
    if client is not None:
        with client:
            return client.call(task, _say, **args)
    from devsync.app.reach import reached

    config = project.config()
    with reached(config, project.environ, None) as reach:
        from devsync.app.once import ask_once  # while the connection comes about

        return ask_once(config, reach, task, args)


def _say(event: dict[str, Any]) -> None:
    if "progress" in event:
        output.note(str(event["progress"]))


def path_in_project(project: Project, given: str) -> str:
    """A path as the user typed it, from where the command was started, as the project names it."""
    root = os.path.realpath(project.root())
    folder, name = os.path.split(os.path.normpath(project.start / given))
    path = os.path.relpath(os.path.join(os.path.realpath(folder), name), root)
    if path.split(os.sep)[0] in (os.curdir, os.pardir):
        raise Misuse(f"{given!r} is no file of the project in {root}")
    return path
