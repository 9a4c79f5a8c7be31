"""`devsync status` for people: a few lines, or a screen that follows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from devsync.cli import output
from devsync.cli.progress import moving

if TYPE_CHECKING:
    from rich.live import Live


def lines(status: dict[str, Any]) -> list[str]:
    """What is going on, the most important first."""
    sync, machine, connection = status["sync"], status["machine"], status["connection"]
    shown = [f"{status['project']}: {status['state']}"]
    for service, trouble in status["troubles"].items():
        if connection["state"] == "off" and not trouble["needs_user"]:
            continue  # of a machine that is off, nothing else is to be expected
        name = "HALTED" if trouble["exit_status"] == 4 else service
        hint = f" ({trouble['hint']})" if trouble["hint"] else ""
        shown.append(f"  {name:<10} {trouble['message']}{hint}")
    shown += [f"  {name:<10} {text}" for name, text in status["notices"].items()]
    billed = {True: "billed", False: "not billed", None: "perhaps billed"}[machine["billed"]]
    shown.append(
        f"  machine    {machine['provider']}, {machine['state']} ({billed}) {machine['host'] or ''}".rstrip()
    )
    rtt = connection["rtt_ms"]
    shown.append(f"  connection {connection['state']}" + (f", {rtt} ms" if rtt is not None else ""))
    pending = f", {sync['pending']} on their way" if sync["pending"] else ""
    last = output.moment(sync["last_sync"]) if sync["last_sync"] else "never"
    shown.append(f"  files      {sync['files']} ({sync['mode']}), last change {last}{pending}")
    if sync["in_flight"]:
        shown.append(f"  moving     {moving(sync)}")
    if sync["conflicts"]:
        shown.append(f"  conflicts  {sync['conflicts']}: both sides changed, both were left as they are")
    if sync["skipped"]:
        shown.append(f"  skipped    {sync['skipped']} sockets, FIFOs or devices (devsync diff names them)")
    for path, problem in list(sync["problems"].items())[:5]:
        shown.append(f"  left alone {path}: {problem}")
    if status["watch"].get("local"):
        shown.append(f"  watch      in part blind: {status['watch']['local']}; found within five minutes")
    for tunnel in status["tunnels"]:
        error = f" ({tunnel['error']})" if tunnel.get("error") else ""
        shown.append(
            f"  tunnel     localhost:{tunnel['local']} -> {tunnel['remote']} {tunnel['state']}{error}"
        )
    if connection["state"] != "off" or status["idle"]["failure"]:
        shown.append(_idle(status))
    return shown


def _idle(status: dict[str, Any]) -> str:
    idle = status["idle"]
    if idle["failure"]:
        return f"  idle       STILL BILLED, could not be deallocated: {idle['failure']}"
    line = f"  idle       {idle['verdict']}" + (f": {idle['reason']}" if idle.get("reason") else "")
    if not idle["deallocate_at"]:
        return line
    at = output.moment(idle["deallocate_at"])
    if idle["warned"]:
        return f"{line}; DEALLOCATION at {at} (devsync keepalive 2h keeps it)"
    return f"{line}, deallocation at {at}"


class Screen:
    """The same, redrawn in place while it is entered; without a terminal, printed anew at each change."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def __enter__(self) -> Screen:
        if output.is_terminal(sys.stdout):
            from rich.live import Live

            self._live = Live(console=output.console(sys.stdout), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, status: dict[str, Any]) -> None:
        """Draw it."""
        text = "\n".join(output.printable(line) for line in lines(status))
        if self._live is not None:
            self._live.update(text, refresh=True)
        else:
            print(text, flush=True)
