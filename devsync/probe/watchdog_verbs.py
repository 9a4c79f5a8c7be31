"""What the helper can be asked about the watchdog. Travels (Python 3.8)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from devsync.probe.sampler import boot, folder
from devsync.probe.view import View
from devsync.probe.watchdog_orders import forget, read, store, write


def attend(view: View, request: Mapping[str, Any]) -> Any:
    """A laptop is there, and wants this `order` of `project` obeyed while it is not; None: no watchdog.

    Answers how each deed went last: `check`, `renew`, `deallocate`, each with `ok`, `why` and its `age` in
    seconds; `idle` says why the machine was to be deallocated. With `told` these two last are forgotten.
    """
    place, project = folder(view), str(request["project"])
    os.makedirs(place, mode=0o700, exist_ok=True)
    order = request.get("order")
    if order is None:
        forget(place, project)
    else:
        here = {"project": project, "boot": boot(view), "heard": view.monotonic()}
        store(place, {**order, **here, "keep_until": view.wall() + float(order["keep"])})
    path = os.path.join(place, "report")
    report = read(path) or {}
    if request.get("told") and ("idle" in report or "deallocate" in report):
        report = {kind: one for kind, one in report.items() if kind not in ("idle", "deallocate")}
        write(path, report)
    return {
        kind: {"ok": one["ok"], "why": one["why"], "age": round(view.wall() - one["at"], 1)}
        for kind, one in report.items()
    }
