"""A shell on the machine: what the user's own ssh is told, and the way without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devsync.app.jobs import surroundings
from devsync.app.machine import open_machine
from devsync.app.sides import Connector
from devsync.config import Config
from devsync.core.jobs import Order
from devsync.folders import state_dir
from devsync.ports import Connection, Power, Unavailable
from devsync.work.command import command_line, shell_line

if TYPE_CHECKING:
    from devsync.ssh.target import Target


@dataclass(frozen=True)
class Shell:
    """What is to run, and where: a person's login shell, or a command in one."""

    target: Target
    line: str

    def words(self, *, agent: bool, terminal: bool) -> list[str]:
        """The arguments of OpenSSH's client that lead to the same machine, judged by the same host key."""
        target = self.target
        options = ["StrictHostKeyChecking=yes", "ClearAllForwardings=yes"]  # the tunnels are the daemon's
        options += [f"HostKeyAlias={target.alias}"] if target.alias else []
        options += [f'UserKnownHostsFile="{target.known_hosts}"'] if target.known_hosts else []
        options += [f"ForwardAgent={'yes' if agent else 'no'}"]
        return [
            *(() if target.config_file else ("-F", "none")),
            *(("-p", str(target.port)) if target.port else ()),
            *(("-l", target.user) if target.user else ()),
            *(("-i", str(target.identity_file)) if target.identity_file else ()),
            *(word for option in options for word in ("-o", option)),
            "-t" if terminal else "-T",
            target.host,
            self.line,
        ]

    def connect(self) -> Connection:
        """A connection of devsync's own to the same machine."""
        from devsync.ssh.connect import connect

        return connect(self.target)


def open_shell(config: Config, environ: Mapping[str, str], words: Sequence[str], *, buffered: bool) -> Shell:
    """Find the machine. Raises Unavailable if it is off."""
    machine = open_machine(config, state_dir(config.root, environ))
    try:
        power = machine.power()
        if power not in (Power.RUNNING, Power.UNKNOWN):
            raise Unavailable(f"the machine is {power.value}", hint="devsync start brings it up")
        target = Connector(config, machine, None).target(machine.address())
    finally:
        machine.close()
    around = surroundings(config)
    line = (
        command_line(around, Order(words), marked=False, buffered=buffered) if words else shell_line(around)
    )
    return Shell(target, line)
