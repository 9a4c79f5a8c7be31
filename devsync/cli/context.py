"""What every command is handed: where it was started, and the way from there to the project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from devsync.config import Config


@dataclass(frozen=True, slots=True)
class Project:
    """The project that a command works on, looked up when it is asked for. Any method may raise Misuse."""

    start: Path
    environ: Mapping[str, str]

    def root(self) -> Path:
        """The folder of the project: `start`, or the nearest above it that holds a devsync.toml."""
        from devsync.folders import find_project

        return find_project(self.start)

    def config(self) -> Config:
        """The settings, read anew."""
        from devsync.config import load

        return load(self.root(), environ=self.environ)

    def subscription(self, subscription_id: str) -> Config:
        """The settings for asking about a subscription, of which no VM has been chosen yet."""
        from devsync.config import load

        azure = {"subscription_id": subscription_id, "resource_group": "none", "vm_name": "none"}
        given = {f"machine.azure.{name}": value for name, value in azure.items()}
        return load(self.start, environ=self.environ, given={"machine.provider": "azure", **given})

    def state(self) -> Path:
        """The folder for the project's state, made if it is missing."""
        from devsync.folders import state_dir

        return state_dir(self.root(), self.environ)

    def socket(self) -> Path:
        """Where the project's daemon listens, if it runs."""
        from devsync.folders import socket_path

        return socket_path(self.state(), self.environ)


pass_project = click.make_pass_decorator(Project)
"""Decorates a command whose first argument is the Project."""
