"""The jobs of a project: where they are asked about, and what is remembered of them with no daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from devsync.config import Config
from devsync.core.jobs import merge
from devsync.ports import Connection
from devsync.replica.luggage import command_line, start_helper
from devsync.work import jupyter
from devsync.work.command import Surroundings
from devsync.work.jobs import VERBS, Jobs
from devsync.work.records import Records


def surroundings(config: Config) -> Surroundings:
    """Where the project's commands run."""
    return Surroundings(config.sync.path, config.run.shell, config.run.setup)


def open_jobs(config: Config, connection: Connection) -> Jobs:
    """A helper for jobs. Raises Unavailable; DevsyncError if the machine cannot run one."""
    channel = start_helper(connection.exec(command_line()), VERBS)
    return Jobs(channel.call, channel.close, surroundings(config))


def open_jupyter(config: Config, connection: Connection) -> jupyter.JupyterDesk:
    """A helper for what is asked about Jupyter, which lives for one request. Raises as `open_jobs` does."""
    channel = start_helper(connection.exec(command_line()), jupyter.VERBS)
    around, command = surroundings(config), config.jupyter.command
    return jupyter.JupyterDesk(channel.call, channel.close, connection, around, command)


def open_records(state: Path) -> Records:
    """What was run in the project with this state folder."""
    return Records(state / "runs.jsonl")


def recorded(state: Path) -> list[dict[str, Any]]:
    """The jobs and runs as far as they are known here; the machine is not asked."""
    return [job.to_json() for job in merge(None, open_records(state).read())]
