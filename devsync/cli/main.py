"""The command `devsync`: finds the command that was asked for, and says what went wrong.

A command's module is imported when the command runs, never for `--help`; so is everything that is not
click.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click

from devsync import __version__


class Entry(NamedTuple):
    """Where a command is, and its line in the list of commands."""

    module: str
    attribute: str
    help: str


COMMANDS: Mapping[str, Entry] = {
    "init": Entry("devsync.cli.init", "init", "Write a devsync.toml for this folder."),
    "start": Entry(
        "devsync.cli.start", "start", "Start the machine, mirror the project, open the tunnels, and stay."
    ),
    "stop": Entry(
        "devsync.cli.life", "stop", "Flush, end the daemon, and with --deallocate the machine too."
    ),
    "status": Entry("devsync.cli.life", "status", "What is going on, in one screen."),
    "flush": Entry(
        "devsync.cli.life", "flush", "Wait until every change made so far, on either side, is on the other."
    ),
    "push": Entry("devsync.cli.sync", "push", "Bring what changed here to the machine, once."),
    "pull": Entry("devsync.cli.sync", "pull", "Bring what changed on the machine here, once."),
    "diff": Entry("devsync.cli.conflicts", "diff", "What differs between the sides now, one line a path."),
    "conflicts": Entry(
        "devsync.cli.conflicts", "conflicts", "The files that both sides changed, and that were left alone."
    ),
    "resolve": Entry(
        "devsync.cli.conflicts", "resolve", "End conflicts; the version that loses goes to the trash."
    ),
    "history": Entry(
        "devsync.cli.history", "history", "The versions that devsync has replaced or deleted, newest first."
    ),
    "restore": Entry("devsync.cli.history", "restore", "Bring an old version of a file back."),
    "run": Entry("devsync.cli.run", "run", "Run COMMAND in the project's folder on the machine."),
    "notebook": Entry("devsync.cli.notebook", "notebook", "Execute notebooks on the machine."),
    "env": Entry("devsync.cli.env", "env", "The project's environment on the machine."),
    "jupyter": Entry(
        "devsync.cli.jupyter",
        "jupyter",
        "Jupyter on the machine, in the browser here: found if it runs, else started.",
    ),
    "jobs": Entry(
        "devsync.cli.jobs", "jobs", "The jobs on the machine: which run, which have ended, and how."
    ),
    "logs": Entry(
        "devsync.cli.jobs",
        "logs",
        "What a job has printed, from the start; without JOB, the daemon's own log.",
    ),
    "attach": Entry(
        "devsync.cli.jobs",
        "attach",
        "Follow a job from its start and end with its exit status; Ctrl-C lets it go on alone.",
    ),
    "kill": Entry(
        "devsync.cli.jobs",
        "kill",
        "End a job and everything that it started: TERM, and KILL for what does not go.",
    ),
    "ssh": Entry(
        "devsync.cli.ssh", "ssh", "A shell in the project's folder on the machine, or COMMAND in one."
    ),
    "idle": Entry("devsync.cli.idle", "idle", "Show whether the machine is busy, and every sign of work."),
    "keepalive": Entry(
        "devsync.cli.idle", "keepalive", "Keep the machine for so long (2h), whatever happens or does not."
    ),
    "cost": Entry(
        "devsync.cli.cost", "cost", "What the machine cost this month, and what its deallocation saved."
    ),
    "vm": Entry("devsync.cli.vm", "vm", "Look at the machine, start it, deallocate it, make one."),
    "doctor": Entry(
        "devsync.cli.doctor",
        "doctor",
        "Check everything from the configuration to the machine's GPU; each line says what to do.",
    ),
    "service": Entry(
        "devsync.cli.service", "service", "Let systemd keep devsync alive for this project, without root."
    ),
    "demo": Entry(
        "devsync.cli.demo", "demo", "Show the whole job against an embedded machine; no account needed."
    ),
}
"""In the order of `devsync --help`. A test holds the lines against the commands' own help."""


class LazyGroup(click.Group):
    """A group that knows its commands by COMMANDS and imports one when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """All of them, without an import."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """Import the command, if there is one of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, but with the nearest name from the table."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            from devsync.settings.schema import did_you_mean

            ctx.fail(f"no command '{args[0]}'{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The list in `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-C",
    "start",
    metavar="DIR",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look for the project from DIR upwards, not from the current folder.",
)
@click.version_option(__version__, message="devsync %(version)s")
@click.pass_context
def devsync(ctx: click.Context, start: Path) -> None:
    """Edit in a local git checkout, run on a cloud machine: one project in two places."""
    from devsync.cli.context import Project

    ctx.obj = Project(start.absolute(), os.environ)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status.

    A command that ends with a status of its own calls `ctx.exit(status)`.
    """
    try:
        status = devsync.main(arguments, prog_name="devsync", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        return 130 if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Nobody reads any more. The interpreter must not fall over the rest of the buffer at its end.
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - the last one that can turn an exception into a sentence
        return _failed(error)
    return status if isinstance(status, int) else 0


def _failed(error: Exception) -> int:
    from devsync.cli.output import failure
    from devsync.ports import DevsyncError

    if isinstance(error, DevsyncError):
        failure(error.message, error.hint)
        return error.exit_status
    where = _write_traceback(error)
    failure(
        f"{type(error).__name__}: {error}".strip(": "),
        f"this is a bug in devsync; what happened inside is written down in {where}",
    )
    return 1


def _write_traceback(error: Exception) -> str:
    """Keep the traceback for whoever mends it, in a file that only the user can read."""
    import tempfile
    import traceback

    from devsync.folders import state_home

    text = "".join(traceback.format_exception(error))
    for folder in (state_home(os.environ), None):
        try:
            handle, name = tempfile.mkstemp(".txt", "crash-", folder)
        except OSError:
            continue
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"devsync {__version__}, {sys.version}\n\n{text}")
        return name
    return "no file, because none could be made"
