"""Two public services that need no account: what things cost at Azure, and the address that others see.

Answers are hints: a price is only shown, and an address is checked to be one.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from devsync.machine.azure_plan import Prices
from devsync.ports import Unavailable

_PATIENCE = 10.0  # seconds
_LARGEST = 4 << 20  # bytes of an answer
_PAGES = 5
_DISKS = {4: 1, 8: 2, 16: 3, 32: 4, 64: 6, 128: 10, 256: 15, 512: 20, 1024: 30, 2048: 40, 4096: 50} | {
    8192: 60,
    16384: 70,
    32767: 80,
}
"""The largest size of each tier of standard SSDs in GiB, and the tier's number."""


@dataclass(frozen=True)
class Web:
    """Where the services answer, and a PEM file with certificates to trust in place of the usual ones."""

    prices: str = "https://prices.azure.com"
    address: str = "https://api.ipify.org"
    ca_bundle: str | None = None


def own_address(web: Web) -> str:
    """The IPv4 address that this computer is seen at. Raises Unavailable."""
    said = _fetch(web, web.address).decode("ascii", "replace").strip()
    try:
        return str(ipaddress.IPv4Address(said))
    except ValueError:
        raise Unavailable(
            f"{web.address} does not tell an IPv4 address, but {said[:40]!r}",
            hint="say it yourself: --address 203.0.113.7",
        ) from None


def prices(web: Web, location: str, size: str, disks: tuple[int, ...], *, spot: bool) -> Prices:
    """What the services charge for a Linux VM of that size, and for disks of so many GiB.

    Whatever cannot be learnt is missing; this never fails.
    """
    try:
        machine = _machine(web, location, size, spot=spot)
        by_tier = {
            one["meterName"]: _price(one)
            for one in _items(web, location, "productName eq 'Standard SSD Managed Disks'")
        }
        address = _first(_items(web, location, "meterName eq 'Standard IPv4 Static Public IP'"))
        currency = (machine or address or {}).get("currencyCode", "USD")
        known = {gib: by_tier.get(f"E{_tier(gib)} LRS Disk") for gib in disks}
        found = {gib: price for gib, price in known.items() if price is not None}
        return Prices(currency, _price(machine), found, _price(address))
    except (Unavailable, ValueError, KeyError, TypeError, AttributeError):
        return Prices()  # offline, or another form of answer than is known


def _machine(web: Web, location: str, size: str, *, spot: bool) -> Mapping[str, Any] | None:
    """The meter of a size: on demand and spot are told apart by the name, Windows by the product."""
    offers = _items(web, location, f"serviceName eq 'Virtual Machines' and armSkuName eq '{size}'")
    return _first(
        one
        for one in offers
        if "Windows" not in one["productName"]
        and "Low Priority" not in one["skuName"]
        and ("Spot" in one["skuName"]) is spot
    )


def _items(web: Web, location: str, wish: str) -> Iterator[Mapping[str, Any]]:
    wish = f"{wish} and armRegionName eq '{location}' and priceType eq 'Consumption'"
    url = f"{web.prices}/api/retail/prices?{urllib.parse.urlencode({'$filter': wish})}"
    for _ in range(_PAGES):
        page = json.loads(_fetch(web, url))
        yield from page["Items"]
        url = page.get("NextPageLink")
        if not url or not url.startswith(web.prices):
            return


def _first(items: Iterator[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next(items, None)


def _price(item: Mapping[str, Any] | None) -> float | None:
    return None if item is None else float(item["retailPrice"])


def _tier(gib: int) -> int:
    return next((tier for largest, tier in _DISKS.items() if gib <= largest), 80)


def _fetch(web: Web, url: str) -> bytes:
    if not url.startswith("https://"):
        raise Unavailable(f"{url} is no https address")
    trust = ssl.create_default_context(cafile=web.ca_bundle)
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "devsync"})  # noqa: S310 - https, as checked
        with urllib.request.urlopen(request, timeout=_PATIENCE, context=trust) as answer:  # noqa: S310 - the same
            read: bytes = answer.read(_LARGEST)
            return read
    except (OSError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"cannot reach {url.partition('?')[0]}: {reason}", hint="is this computer online?"
        ) from None
