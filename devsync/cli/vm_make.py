"""vm deploy, destroy, allow-my-ip: what a machine at Azure is made of, and the way into it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from devsync.cli import output
from devsync.cli.context import Project, pass_project
from devsync.cli.options import json_option
from devsync.ports import DevsyncError, Misuse

if TYPE_CHECKING:
    from devsync.app.cloud import Inventory, Offer
    from devsync.config import Config

DEFAULT_SIZE = "Standard_NC4as_T4_v3"
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
address_option = click.option(
    "--address", metavar="IP", help="The IPv4 address that SSH comes from; by default it is asked for."
)


def _gib(text: str) -> int:
    """The type of --disk: a size in whole GiB, 0 for none."""
    from devsync.core.quantity import size

    try:
        gib, rest = divmod(0 if text == "0" else size(text), 1 << 30)
    except ValueError as error:
        raise click.BadParameter(f"'{text}' {error}") from None
    if rest or gib > 32767:
        raise click.BadParameter(f"'{text}' is not a number of GiB up to 32767GiB")
    return gib


@click.command()
@click.option("--subscription-id", metavar="ID", help="The subscription; by default as devsync.toml has it.")
@click.option("--resource-group", metavar="GROUP", help="By default as in devsync.toml, else devsync-NAME.")
@click.option("--name", metavar="NAME", help="The VM's; by default as in devsync.toml, else the project's.")
@click.option("--location", metavar="REGION", help="Where; for a resource group that is not there yet.")
@click.option("--size", default=DEFAULT_SIZE, show_default=True, help="The size of the VM.")
@click.option("--disk", type=_gib, default="0", metavar="SIZE", help="A data disk beside: 512GiB.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="The SSH key that may log in.")
@address_option
@click.option("--spot", is_flag=True, help="Cheaper; Azure may evict it. Its disks are kept.")
@click.option("--no-identity", is_flag=True, help="No identity that may deallocate the VM from inside.")
@yes_option
@json_option
@pass_project
def deploy(
    project: Project,
    *,
    subscription_id: str | None,
    resource_group: str | None,
    name: str | None,
    location: str | None,
    size: str,
    disk: int,
    key: Path | None,
    address: str | None,
    spot: bool,
    no_identity: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Make a data science VM at Azure, and write it into devsync.toml."""
    from devsync.app import cloud

    root, values = _place(project, subscription_id, resource_group, name)
    config = _config(project, root, values)
    key = None if key is None else key.expanduser().absolute()
    wish = cloud.Wish(size, location, disk, key, address, spot, not no_identity)
    offer = cloud.offer(config, wish, project.environ, output.note)
    if not offer.finished:
        _show(offer)
        _asked("Deploy it", yes=yes)
    if key is not None:
        values["ssh.identity_file"] = str(key.with_suffix("") if key.suffix == ".pub" else key)
    # Before anything is made: whatever happens then, devsync knows the machine that may cost money.
    _write_down(project, root, values)
    if not offer.finished:
        cloud.deploy(config, offer.plan, output.note)
    output.note(f"{offer.plan.name} is there; next: devsync start")
    if as_json:
        output.document(
            {
                "subscription_id": offer.plan.subscription_id,
                "resource_group": offer.plan.resource_group,
                "name": offer.plan.name,
                "location": offer.plan.location,
                "size": offer.plan.size,
                "image_version": offer.plan.image_version,
                "made": not offer.finished,
            }
        )


def _show(offer: Offer) -> None:
    for item in offer.items:
        price = f" ({item.price})" if item.price else ""
        output.note(f"  {item.name + ':':<16}{item.detail}{price}")
    kept = [one for one in offer.changes if one[0] in ("NoChange", "Ignore")]
    changed = [one for one in offer.changes if one[0] in ("Modify", "Delete")]
    if kept or changed:
        output.note(f"  of it {len(kept)} are there already, {len(changed)} are changed")
    if offer.terms:
        output.note(f"  the image has terms, which are accepted with this: {offer.terms}")


def _asked(question: str, *, yes: bool) -> None:
    """Go on, or raise: Abort for a no, Misuse where nobody can answer."""
    if yes:
        return
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
        raise Misuse("nobody is there to be asked", hint="--yes does it without a question")
    click.confirm(question, default=False, abort=True, err=True)


def _place(
    project: Project, subscription_id: str | None, resource_group: str | None, name: str | None
) -> tuple[Path, dict[str, Any]]:
    """The project's folder, and the settings that name the machine: as given, as written, else as usual."""
    import tomllib

    from devsync.config import default_name
    from devsync.folders import FILE_NAME, find_project

    root, table = project.start, {}
    try:
        root = find_project(project.start)
        table = tomllib.loads((root / FILE_NAME).read_text("utf-8")).get("machine", {}).get("azure", {})
    except (Misuse, OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, AttributeError):
        pass  # none yet, or one that is told about in full when it is loaded
    letters = (letter if letter.isascii() and letter.isalnum() else "-" for letter in default_name(root))
    name = name or table.get("vm_name") or ("".join(letters).strip("-")[:50] or "devsync")
    found = {
        "subscription_id": subscription_id or table.get("subscription_id"),
        "resource_group": resource_group or table.get("resource_group") or f"devsync-{name}",
        "vm_name": name,
    }
    given = {f"machine.azure.{key}": value for key, value in found.items() if value is not None}
    return root, {"machine.provider": "azure", **given}


def _config(project: Project, root: Path, values: Mapping[str, object]) -> Config:
    from devsync.config import load

    return load(root, environ=project.environ, given=values)


def _write_down(project: Project, root: Path, values: Mapping[str, object]) -> None:
    """Put the machine into devsync.toml, or make one that has it."""
    from devsync.cli.init import write_new
    from devsync.folders import FILE_NAME
    from devsync.settings.edit import with_values

    path = root / FILE_NAME
    if not os.path.lexists(path):
        write_new(root, dict(values), project)
        return
    before = path.read_text("utf-8")
    try:
        after = with_values(before, values)
    except ValueError as error:
        wanted = ", ".join(f"{key} = {value}" for key, value in values.items())
        raise DevsyncError(f"cannot change {path}: {error}", hint=f"set it yourself: {wanted}") from None
    if after != before:
        new = path.with_name(f"{FILE_NAME}.new")
        new.write_text(after, encoding="utf-8")
        os.replace(new, path)
        output.note(f"the machine is written into {path}")


# ---------------------------------------------------------------- destroy


@click.command()
@click.option(
    "--yes", "named", metavar="NAME", help="Do not ask; NAME is the VM's, as the question wants it."
)
@pass_project
def destroy(project: Project, *, named: str | None) -> None:
    """Delete the VM and all that was deployed with it, its disks, too."""
    from devsync.app import cloud

    config = project.config()
    azure = config.machine.azure
    name = azure.vm_name if azure else ""

    def confirm(found: Inventory) -> bool:
        for one in found.ours:
            output.note(f"  delete {one}")
        if not found.ours and not (found.group and not found.others):
            output.note(f"nothing is there that devsync deployed for '{name}'")
            return False
        whole = found.group and not found.others
        output.note("  and the resource group with it" if whole else "  the resource group stays")
        _named(name, named)
        return True

    if cloud.destroy(config, confirm, output.note):
        output.note(f"'{name}' is gone; nothing of it is left that costs money")


def _named(name: str, said: str | None) -> None:
    """Return if the VM's name was said, by the option or as the answer; else raise."""
    if said is None:
        if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)):
            raise Misuse("nobody is there to be asked", hint=f"--yes {name} does it without a question")
        said = click.prompt("Its files are gone then. Type the VM's name to delete it all", err=True)
    if said != name:
        raise Misuse(f"the VM is called '{name}', not '{said}'; nothing was deleted")


# ---------------------------------------------------------------- the way in


@click.command("allow-my-ip")
@address_option
@yes_option
@pass_project
def allow_my_ip(project: Project, *, address: str | None, yes: bool) -> None:
    """Let SSH in from the address that this computer has now, and from nowhere else."""
    from devsync.app import cloud

    config = project.config()
    way = cloud.way_in(config, address)
    if way.open:
        output.note(f"SSH is let in from {way.present} already")
        return
    _asked(f"SSH is let in from {way.allowed}. Let it in from {way.present} instead", yes=yes)
    cloud.let_in(config, way.present)
    output.note(f"SSH is let in from {way.present} now")


def offer_way_in(config: Config, error: DevsyncError) -> bool:
    """Where Azure lets SSH in from another address than ours: offer to change that; whether it was changed.

    Otherwise the hint of `error` says so, if it is so.
    """
    from devsync.app import cloud

    if config.machine.provider != "azure" or config.ssh.host is not None:
        return False
    try:
        way = cloud.way_in(config)
    except DevsyncError:
        return False  # nobody can say; what went wrong first is what is told
    if way.open:
        return False
    asking = output.is_terminal(sys.stdin) and output.is_terminal(sys.stderr)
    if asking:
        output.note(error.message)
        question = f"Azure lets SSH in from {way.allowed}, and this is {way.present}. Let that in instead"
        if click.confirm(question, default=True, err=True):
            cloud.let_in(config, way.present)
            return True
    error.hint = f"Azure lets SSH in from {way.allowed}, and this is {way.present}: devsync vm allow-my-ip"
    return False
