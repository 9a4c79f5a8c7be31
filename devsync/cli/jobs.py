"""jobs, logs, attach, kill: what runs on the machine without anybody holding it."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running, say
from devsync.cli.options import json_option, seconds
from devsync.cli.run import OWN_FAILURE
from devsync.daemon.client import Client, Refused
from devsync.ports import DevsyncError, Unavailable

WAIT = 2.0
"""Seconds for which the daemon holds an answer back while a log does not grow."""

AGAIN = 1.0
"""Seconds between two tries while the machine, or the daemon, is away."""

Row = dict[str, Any]

# ---------------------------------------------------------------- jobs


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also what `devsync run` ran while you watched.")
@json_option
@pass_project
def jobs(project: Project, *, everything: bool, as_json: bool) -> None:
    """The jobs on the machine: which run, which have ended, and how."""
    rows, away = _known(project)
    if as_json:
        output.document([_document(row) for row in rows])
        return
    shown = [row for row in rows if everything or row["detached"]]
    for line in _table(shown):
        output.data(line)
    if not shown:
        output.note("no jobs; devsync run --detach -- COMMAND starts one")
    if away:
        output.note(f"as last known, for the machine was not asked: {away}")


def _known(project: Project) -> tuple[list[Row], str | None]:
    """Every job and run, and why the machine did not tell its part."""
    client = Client.connect(project.socket())
    if client is None:
        from devsync.app.jobs import recorded

        return recorded(project.state()), "devsync is not running"
    with client:
        answer = client.call("jobs")
    return answer["jobs"], answer["away"]


def _document(row: Row) -> Row:
    """A job as `--json` shows it."""
    origin = row["origin"]
    return {
        **{key: row[key] for key in ("id", "name", "detached", "state", "status", "command", "env")},
        "started": _moment(row["started"]),
        "ended": None if row["ended"] is None else _moment(row["ended"]),
        "seconds": None if row["seconds"] is None else round(row["seconds"], 3),
        **{key: origin.get(key) for key in ("commit", "branch", "difference")},
    }


def _moment(stamp: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _table(rows: list[Row]) -> list[str]:
    import shlex

    from devsync.core.jobs import lasted

    if not rows:
        return []
    cells = [("job", "name", "state", "status", "started", "lasted", "command")]
    for row in rows:
        status = "-" if row["status"] is None else str(row["status"])
        spent = "-" if row["seconds"] is None else lasted(row["seconds"])
        began = output.moment(_moment(row["started"]))
        command = shlex.join(row["command"])
        cells.append((row["id"], row["name"] or "-", row["state"], status, began, spent, command))
    widths = [max(len(row[column]) for row in cells) for column in range(6)]
    return ["  ".join([*map(str.ljust, row, widths), row[6]]).rstrip() for row in cells]


# ---------------------------------------------------------------- logs, attach


@click.command()
@click.argument("job", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until it has ended, or Ctrl-C.")
@json_option
@pass_project
def logs(project: Project, *, job: str | None, follow: bool, as_json: bool) -> None:
    """What a job has printed, from the start; without JOB, the daemon's own log."""
    if job is None:
        _own_log(project, follow=follow, as_json=as_json)
        return
    reader = _Reader(project, job)
    if as_json:
        said: list[bytes] = []
        row = reader.read(said.append, follow=follow)
        text = b"".join(said).decode("utf-8", "replace")
        output.document({**_document(row), "log": text})
        return
    try:
        reader.read(_print, follow=follow)
    except KeyboardInterrupt:
        if not follow:
            raise


@click.command()
@click.argument("job")
@pass_project
@click.pass_context
def attach(ctx: click.Context, project: Project, *, job: str) -> None:
    """Follow a job from its start and end with its exit status; Ctrl-C lets it go on alone."""
    try:
        reader = _Reader(project, job)
        row = reader.read(_print, follow=True)
        if row["status"] is None:
            raise DevsyncError(f"job {row['id']} is gone without a word", hint="was the machine restarted?")
    except KeyboardInterrupt:
        output.note(f"\nlet go; the job runs on: devsync attach {job}")
        ctx.exit(130)
    except DevsyncError as error:
        output.failure(error.message, error.hint)
        ctx.exit(OWN_FAILURE)
    ctx.exit(row["status"])


class _Reader:
    """Reads a log to its end, across every loss of the machine and of the daemon: the offset is kept here."""

    def __init__(self, project: Project, job: str) -> None:
        self._project, self._job = project, job
        self._offset = 0
        self._known = False
        self._client: Client | None = None

    def read(self, give: Callable[[bytes], None], *, follow: bool) -> Row:
        """Hand over what there is, or with `follow` everything until the job has ended: the job.

        Raises Unavailable if the machine is away from the start; later it is waited for.
        """
        goal: int | None = None
        try:
            while True:
                answer = self._ask(follow=follow)
                goal = answer["size"] if follow or goal is None else goal
                data = base64.b64decode(answer["data"])
                self._offset += len(data)
                if data:
                    give(data)
                row: Row = answer["job"]
                if self._offset >= goal and (not follow or row["state"] in ("ended", "lost")):
                    return row
        finally:
            if self._client is not None:
                self._client.close()

    def _ask(self, *, follow: bool) -> Row:
        said = False
        while True:
            try:
                self._client = self._client or running(self._project)
                wait = WAIT if follow else 0.0
                answer: Row = self._client.call("log", job=self._job, offset=self._offset, wait=wait)
            except DevsyncError as error:
                gone = isinstance(error, Unavailable)
                if not (self._known and follow and (gone or error.exit_status == Unavailable.exit_status)):
                    raise
                if not said:
                    output.note(f"{error.message}; going on when it is back")
                    said = True
                if not isinstance(error, Refused) and self._client is not None:
                    self._client.close()
                    self._client = None
                time.sleep(AGAIN)
            else:
                self._known, self._job = True, answer["job"]["id"]
                return answer


def _print(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _own_log(project: Project, *, follow: bool, as_json: bool) -> None:
    path = project.state() / "daemon.log"
    try:
        if as_json:
            output.document({"log": path.read_text(encoding="utf-8", errors="replace")})
            return
        _show_file(path, follow=follow)
    except FileNotFoundError:
        raise DevsyncError("there is no log yet", hint="devsync start") from None
    except KeyboardInterrupt:
        if not follow:
            raise


def _show_file(path: Path, *, follow: bool) -> None:
    file = path.open("rb")
    try:
        while True:
            while piece := file.read(1 << 16):
                _print(piece)
            if not follow:
                return
            time.sleep(0.2)  # a file of another process: nothing tells of it
            if path.stat().st_ino != _inode(file.fileno()):  # it was turned over
                file.close()
                file = path.open("rb")
    finally:
        file.close()


def _inode(descriptor: int) -> int:
    import os

    return os.fstat(descriptor).st_ino


# ---------------------------------------------------------------- kill


@click.command()
@click.argument("job")
@click.option(
    "--grace",
    type=seconds,
    default="10s",
    show_default=True,
    metavar="T",
    help="How long it may take to end by itself.",
)
@json_option
@pass_project
def kill(project: Project, *, job: str, grace: float, as_json: bool) -> None:
    """End a job and everything that it started: TERM, and KILL for what does not go."""
    with running(project) as client:
        row = client.call("kill", say, job=job, grace=grace)["job"]
    if as_json:
        output.document(_document(row))
    else:
        output.note(f"job {row['id']} has ended" + ("" if row["status"] is None else f": {row['status']}"))
