"""idle and keepalive: why the machine stays, and how to keep it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running
from devsync.cli.options import json_option, seconds
from devsync.ports import Misuse


@click.command()
@json_option
@pass_project
def idle(project: Project, *, as_json: bool) -> None:
    """Show whether the machine is busy, and every sign of work."""
    with running(project) as client:
        answer = client.call("idle")
    if as_json:
        output.document(answer)
        return
    for line in _lines(answer):
        output.data(line)


def _lines(answer: dict[str, Any]) -> list[str]:
    shown = [f"{answer['verdict']}: {answer['reason']}"]
    if answer["deallocate_at"]:
        at = output.moment(answer["deallocate_at"])
        shown.append(f"the machine is deallocated at {at} if nothing happens before")
    if not answer["signals"]:
        return shown
    rows = [("signal", "", "value", "busy when over", "last seen")]
    for signal in answer["signals"]:
        value = f"cannot be read: {signal['error']}" if signal["error"] else signal["value"]
        rows.append(
            (
                signal["name"],
                "busy" if signal["busy"] else "-",
                value,
                signal["threshold"],
                output.moment(signal["since"]) if signal["since"] else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    shown += [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return shown


@click.command()
@click.argument("duration", required=False, metavar="[TIME]")
@click.option("--clear", is_flag=True, help="Take it back.")
@pass_project
def keepalive(project: Project, *, duration: str | None, clear: bool) -> None:
    """Keep the machine for so long (2h), whatever happens or does not."""
    if clear == (duration is not None):
        raise Misuse("say for how long, or --clear", hint="devsync keepalive 2h")
    until = None if duration is None else _from_now(seconds(duration))
    with running(project) as client:
        client.call("keepalive", until=None if until is None else until.isoformat())
    if until is None:
        output.note("the machine is deallocated again when it is idle")
    else:
        output.note(f"the machine is kept until {until:%Y-%m-%d %H:%M}")


def _from_now(duration: float) -> datetime:
    try:
        return (datetime.now(UTC) + timedelta(seconds=duration)).astimezone()
    except OverflowError:
        raise Misuse("nobody works for so long", hint="devsync keepalive 2h") from None
