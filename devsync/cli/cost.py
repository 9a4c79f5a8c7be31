"""cost: what the machine costs this month, and what it would have cost."""

from __future__ import annotations

from typing import Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option


@click.command()
@json_option
@pass_project
def cost(project: Project, *, as_json: bool) -> None:
    """What the machine cost this month, and what its deallocation saved."""
    from devsync.app.cost import cost as count

    answer = count(project.config(), project.environ).to_json()
    if as_json:
        output.document(answer)
        return
    if answer["since"] is None:
        output.note("the machine has not been seen yet; devsync counts from its first sight on")
        return
    for line in lines(answer):
        output.data(line)
    if answer["prices"]["machine_hour"] is None:
        output.note("no price is known: set machine.azure.hourly_price, or ask again when you are online")


def lines(answer: dict[str, Any]) -> list[str]:
    """The document for people."""
    hours, spent, prices, money = answer["hours"], answer["spent"], answer["prices"], answer["currency"]

    def amount(value: float | None) -> str:
        return "" if value is None else f"{value:.2f} {money}"

    each = prices["machine_hour"]
    at = "" if each is None else f"at {each:g} {money} an hour"
    rows = [("billed", f"{hours['billed']:.1f} h", amount(spent["machine"]), at)]
    if hours["unseen"]:
        rows.append(("not seen", f"{hours['unseen']:.1f} h", amount(spent["unseen"]), "at most, not counted"))
    rows.append(
        ("deallocated", f"{hours['off']:.1f} h", amount(answer["saved"]), "saved" if each is not None else "")
    )
    if answer["standing_month"] is not None:
        a_month = f"{answer['standing_month']:.2f} {money} a month, also while deallocated"
        what = "disks, address" if prices["disks_month"] is not None else "address"
        rows.append((what, "", amount(spent["standing"]), a_month))
    if spent["total"] is not None:
        rows.append(("spent", "", amount(spent["total"]), f"since {output.moment(answer['since'])}"))
    budget = answer["budget"]
    if budget["monthly"] is not None:
        used = "" if spent["total"] is None else f"{100 * spent['total'] / budget['monthly']:.0f} % used up"
        rows.append(("budget", "", amount(budget["monthly"]), used))
    return [f"{a:<14}  {b:>8}  {c:>14}  {d}".rstrip() for a, b, c, d in rows]
