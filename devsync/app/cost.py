"""What the machine costs: the ledger, the prices, and both together as `devsync cost` shows them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from devsync.app.machine import LEDGER, azure_settings
from devsync.config import AzureConfig, Config
from devsync.core.cost import Bill, Hours, Rates, bill, hours, priced, state
from devsync.daemon.board import Board
from devsync.daemon.budget import BudgetKeeper, month_of
from devsync.daemon.ledger import Ledger
from devsync.folders import state_dir
from devsync.ports import Clock, DevsyncError, Notifier

log = logging.getLogger("devsync")

DAY = 86400.0
"""Seconds for which prices are good; older ones are used while none can be had."""


@dataclass(frozen=True)
class Quote:
    """Prices, and from when they are (seconds since 1970); None: nobody could say."""

    rates: Rates
    currency: str
    at: float | None


NOTHING = Quote(Rates(), "USD", None)


def quote(config: Config, state_folder: Path) -> Quote:
    """The prices of the project's machine; asks for them once a day. Never fails."""
    azure = config.machine.azure if config.machine.provider == "azure" else None
    if azure is None:
        return NOTHING
    kept = _Kept(state_folder / "prices.json", f"{azure.resource_group}/{azure.vm_name}".lower())
    found = kept.read()
    if found is None or found.at is None or not 0 <= time.time() - found.at < DAY:
        try:
            found = _asked(azure) or found
        except DevsyncError as error:
            log.info("no prices: %s", error.message)
        else:
            if found is not None:
                kept.write(found)
    found = found or NOTHING
    if azure.hourly_price is not None:
        rates = Rates(azure.hourly_price, found.rates.disks, found.rates.address)
        found = Quote(rates, found.currency, found.at)
    return found


def open_budget(
    config: Config, state_folder: Path, board: Board, clock: Clock, notifier: Notifier
) -> BudgetKeeper:
    """What writes the ledger in the daemon, and knows the budget."""
    return BudgetKeeper(
        ledger=Ledger(state_folder / LEDGER),
        rates=lambda: quote(config, state_folder).rates,
        budget=config.cost.monthly_budget,
        acts=config.cost.budget_action == "deallocate",
        board=board,
        clock=clock,
        notifier=notifier,
    )


def _asked(azure: AzureConfig) -> Quote | None:
    """What the price list says of the machine as it is; None if that is nothing. Raises DevsyncError."""
    # The SDK takes long to load, and mostly the prices are known.
    from devsync.machine.azure_client import AzureClient
    from devsync.machine.azure_cost import parts
    from devsync.machine.azure_errors import Trouble
    from devsync.machine.azure_web import Web, prices

    client = AzureClient(azure_settings(azure))
    try:
        found = parts(client)
    except Trouble as trouble:
        raise trouble.error from None
    finally:
        client.close()
    sizes = tuple(size for size in found.disks if size is not None)
    web = Web(azure.price_service, ca_bundle=None if azure.ca_bundle is None else str(azure.ca_bundle))
    told = prices(web, found.location, found.size, sizes, spot=found.spot)
    if told.machine is None and told.address is None:
        return None
    by_size: dict[int | None, float] = dict((told.disks or {}).items())
    rates = Rates(told.machine, priced(by_size.get(size) for size in found.disks), told.address)
    return Quote(rates, told.currency, time.time())


class _Kept:
    """The prices in a file. One that cannot be read is none."""

    def __init__(self, file: Path, of: str) -> None:
        self._file, self._of = file, of

    def read(self) -> Quote | None:
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            if kept["of"] != self._of:
                return None
            prices = {name: _number(kept["rates"][name]) for name in ("machine", "disks", "address")}
            return Quote(Rates(**prices), str(kept["currency"]), float(kept["at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, found: Quote) -> None:
        draft = self._file.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"of": self._of, **asdict(found)}), encoding="utf-8")
            draft.replace(self._file)
        except OSError as error:
            log.info("the prices are not kept: %s", error.strerror)


def _number(value: object) -> float | None:
    return None if value is None else float(value)  # type: ignore[arg-type]  # whoever calls takes TypeError


@dataclass(frozen=True)
class Cost:
    """The present month, which began at `begin`; `since`: the first sight of the machine, if it is later."""

    begin: datetime
    since: datetime | None
    now: datetime
    hours: Hours
    quote: Quote
    bill: Bill
    budget: float | None
    action: str

    def to_json(self) -> dict[str, Any]:
        """The document of `devsync cost --json`."""
        rates = self.quote.rates
        return {
            "month": f"{self.begin:%Y-%m}",
            "since": None if self.since is None else _stamp(self.since),
            "until": _stamp(self.now),
            "hours": _rounded(asdict(self.hours)),
            "currency": self.quote.currency,
            "prices": {
                "machine_hour": rates.machine,
                "disks_month": rates.disks,
                "address_hour": rates.address,
                "at": None if self.quote.at is None else _stamp(datetime.fromtimestamp(self.quote.at, UTC)),
            },
            "spent": _rounded(
                {
                    "machine": self.bill.machine,
                    "unseen": self.bill.unseen,
                    "standing": self.bill.standing,
                    "total": self.bill.total,
                }
            ),
            **_rounded({"saved": self.bill.saved, "standing_month": rates.standing}),
            "budget": {
                "monthly": self.budget,
                "state": state(self.bill.total, self.budget).value,
                "action": self.action,
            },
        }


def cost(config: Config, environ: Mapping[str, str]) -> Cost:
    """What this month cost until now, in UTC as Azure counts. Needs no daemon; raises DevsyncError."""
    folder = state_dir(config.root, environ)
    now = datetime.now(UTC)
    begin, spans = month_of(now), Ledger(folder / LEDGER).spans()
    found, prices = hours(spans, begin.timestamp(), now.timestamp()), quote(config, folder)
    since = max(begin, datetime.fromtimestamp(spans[0].begin, UTC)) if spans else None
    budget = config.cost
    return Cost(
        begin,
        since,
        now,
        found,
        prices,
        bill(found, prices.rates),
        budget.monthly_budget,
        budget.budget_action,
    )


def _rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 2) for name, value in values.items()}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
