"""idle and keepalive: why the machine stays, when it did not, and how to keep it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import running
from devsync.cli.options import json_option, seconds
from devsync.ports import Misuse

WEEK = 7 * 86400.0
"""Seconds that are recorded."""


@click.command()
@click.option("--history", type=seconds, metavar="T", help="Draw what was busy when: 24h; up to 7d.")
@click.option(
    "--replay",
    metavar="RULES",
    help="When other settings would have deallocated it: after=20m,cpu=30,gpu=off.",
)
@json_option
@pass_project
def idle(project: Project, *, history: float | None, replay: str | None, as_json: bool) -> None:
    """Show whether the machine is busy, and every sign of work."""
    rules = None if replay is None else _rules(replay)
    with running(project) as client:
        if history is None and rules is None:
            answer = client.call("idle")
        else:
            answer = client.call("past", within=history or WEEK, replay=rules)
    if as_json:
        output.document(answer)
        return
    for line in _past(answer, history is not None) if "spans" in answer else _lines(answer):
        output.data(line)


def _rules(text: str) -> dict[str, float | str]:
    """`after=20m,cpu=30,gpu=off` by key. Raises Misuse."""
    from devsync.core.quantity import duration, size

    rules: dict[str, float | str] = {}
    for part in filter(None, text.split(",")):
        key, _, value = part.strip().partition("=")
        try:
            if value in ("on", "off", "advisory"):
                rules[key] = value
            elif key in ("after", "warn"):
                rules[key] = duration(value)
            else:
                rules[key] = float(size(value)) if key == "network" else float(value)
        except ValueError as error:
            raise Misuse(f"no rule to replay: '{part}': {error}", hint="as in after=20m,cpu=30") from None
    return rules


def _past(answer: dict[str, Any], drawn: bool) -> list[str]:
    from devsync.cli.idle_chart import history, replayed

    lines = history(answer) if drawn else []
    if answer["stops"] is not None:
        lines += replayed(answer)
    if answer["away"]:
        output.note(f"without what the machine itself recorded: {answer['away']}")
    return lines


def _lines(answer: dict[str, Any]) -> list[str]:
    shown = [f"{answer['verdict']}: {answer['reason']}"]
    if answer["deallocate_at"]:
        at = output.moment(answer["deallocate_at"])
        shown.append(f"the machine is deallocated at {at} if nothing happens before")
    last = answer["last"]
    if last:
        shown.append(f"deallocated at {output.moment(last['at'])}: {last['reason']}")
        shown += [f"ended with it: {what}" for what in last["ended"]]
        shown += [f"only on its disk: {path} ({why})" for path, why in sorted(last["left"].items())]
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
@click.option("--until-job", "job", metavar="JOB", help="Keep it while this job runs.")
@click.option("--clear", is_flag=True, help="Take it back.")
@pass_project
def keepalive(project: Project, *, duration: str | None, job: str | None, clear: bool) -> None:
    """Keep the machine for so long (2h), whatever happens or does not."""
    if clear + (duration is not None) + (job is not None) != 1:
        raise Misuse("say for how long, --until-job, or --clear", hint="devsync keepalive 2h")
    until = None if duration is None else _from_now(seconds(duration))
    with running(project) as client:
        kept = client.call("keepalive", until=None if until is None else until.isoformat(), job=job)
    if job is not None:
        output.note(f"the machine is kept until job {kept['job']} has ended")
    elif until is not None:
        output.note(f"the machine is kept until {until:%Y-%m-%d %H:%M}")
    else:
        output.note("the machine is deallocated again when it is idle")


def _from_now(duration: float) -> datetime:
    try:
        return (datetime.now(UTC) + timedelta(seconds=duration)).astimezone()
    except OverflowError:
        raise Misuse("nobody works for so long", hint="devsync keepalive 2h") from None
