"""vm: the machine by itself."""

from __future__ import annotations

from dataclasses import asdict

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.life import say
from devsync.cli.options import json_option
from devsync.cli.vm_make import allow_my_ip, deploy, destroy
from devsync.daemon.client import Client


@click.group()
def vm() -> None:
    """Look at the machine, start it, deallocate it, make one."""


for made_elsewhere in (deploy, destroy, allow_my_ip):
    vm.add_command(made_elsewhere)


@vm.command()
@json_option
@pass_project
@click.pass_context
def status(ctx: click.Context, project: Project, *, as_json: bool) -> None:
    """Ask for its state, and whether it is billed."""
    from devsync.app.machine import machine_status

    answer = machine_status(project.config(), project.environ)
    if as_json:
        output.document(asdict(answer))
    else:
        billed = {True: "billed", False: "not billed", None: "nobody can say whether it is billed"}
        output.data(f"{answer.provider}: {answer.state} ({billed[answer.billed]})")
        if answer.state == "stopped":
            output.note("stopped is billed as if it ran; devsync vm deallocate ends that")
    if answer.state == "missing":
        ctx.exit(1)


@vm.command()
@json_option
@pass_project
def start(project: Project, *, as_json: bool) -> None:
    """Start it, and wait until it runs."""
    from devsync.app.machine import machine_status, start_machine

    config = project.config()
    start_machine(config, project.environ, output.note)
    answer = machine_status(config, project.environ)
    if as_json:
        output.document(asdict(answer))
    else:
        costs = "; it is billed until it is deallocated" if answer.billed else ""
        output.note(f"the machine is {answer.state}{costs}")


@vm.command()
@json_option
@pass_project
def deallocate(project: Project, *, as_json: bool) -> None:
    """Let it go, until the cloud says so: then it costs nothing."""
    from devsync.app.machine import deallocate_machine, machine_status

    config = project.config()
    client = Client.connect(project.socket())
    if client is not None:
        with client:
            client.call("deallocate", say, timeout=60.0)
    else:
        deallocate_machine(config, project.environ, output.note)
    answer = machine_status(config, project.environ)
    if as_json:
        output.document(asdict(answer))
    else:
        output.note(f"the machine is {answer.state}")


@vm.command()
@click.argument("size")
@pass_project
def resize(project: Project, *, size: str) -> None:
    """Give the deallocated VM another SIZE, as Standard_NC8as_T4_v3."""
    from devsync.app.cloud import resize_vm

    resize_vm(project.config(), size, output.note)
    output.note("next: devsync start")


@vm.command()
@pass_project
def grant(project: Project) -> None:
    """Let the VM deallocate itself when it is idle and you are away: gives its identity the right."""
    from devsync.app.cloud import grant as grant_rights

    grant_rights(project.config(), output.note)
    output.note("done; it may take Azure some minutes, and devsync status tells when the watchdog works")


@vm.command("list")
@click.option("--subscription-id", metavar="ID", help="The subscription; by default the project's.")
@json_option
@pass_project
def list_(project: Project, *, subscription_id: str | None, as_json: bool) -> None:
    """The VMs of the subscription."""
    from devsync.app.cloud import list_vms

    config = project.subscription(subscription_id) if subscription_id else project.config()
    found = list_vms(config)
    if as_json:
        output.document([{**asdict(one), "state": one.state.value} for one in found])
        return
    for one in found:
        spot = " spot" if one.spot else ""
        output.data(f"{one.name}\t{one.resource_group}\t{one.location}\t{one.size}{spot}\t{one.state.value}")
    if not found:
        output.note("there is no VM that this account sees")
