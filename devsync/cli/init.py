"""`devsync init`: write a commented devsync.toml, asking for what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from devsync.cli.context import Project, pass_project
from devsync.cli.output import is_terminal, note
from devsync.config import SETTINGS, default_name, load
from devsync.folders import FILE_NAME, expand
from devsync.ports import DevsyncError, Misuse
from devsync.settings.example import render

F = TypeVar("F", bound=Callable[..., object])

KEYS: Mapping[str, str] = {
    "provider": "machine.provider",
    "subscription_id": "machine.azure.subscription_id",
    "resource_group": "machine.azure.resource_group",
    "vm_name": "machine.azure.vm_name",
    "host": "ssh.host",
    "port": "ssh.port",
    "user": "ssh.user",
    "identity_file": "ssh.identity_file",
    "path": "sync.path",
}
"""The flags, in the order in which they are asked for, and the setting that each one gives."""

NEEDED: Mapping[str, tuple[str, ...]] = {
    "azure": ("subscription_id", "resource_group", "vm_name"),
    "ssh": ("host",),
    "local": (),
}
"""What each provider cannot do without."""

WELCOME: Mapping[str, tuple[str, ...]] = {
    "azure": ("user", "path"),
    "ssh": ("user", "path"),
    "local": (),
}
"""What is asked for beside that, with a default, when somebody is there to answer."""


def _checked(flag: str) -> Callable[[str], Any]:  # whatever the setting holds
    """The type of a flag: as its setting is checked in the file."""
    setting = SETTINGS[KEYS[flag]]

    def read(text: str) -> object:
        value: object = int(text) if flag == "port" and text.isdecimal() else text
        try:
            setting.kind.read(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if flag == "identity_file" and not os.path.isfile(expand(Path(text), Path.cwd(), os.environ)):
            raise click.BadParameter(f"no such identity file: {text}")
        return value

    return read


def _flags(command: F) -> F:
    """An option for each of KEYS."""
    for flag, key in reversed(list(KEYS.items())):
        name = "--" + flag.replace("_", "-")
        metavar = flag.rpartition("_")[2].upper()
        command = click.option(name, flag, type=_checked(flag), metavar=metavar, help=SETTINGS[key].doc)(
            command
        )
    return command


@click.command()
@_flags
@pass_project
def init(project: Project, /, **given: object) -> None:
    """Write a devsync.toml for this folder.

    What is needed and not given as a flag is asked for on a terminal. A file that is there already is
    never overwritten.
    """
    folder = project.start
    target = folder / FILE_NAME
    if os.path.lexists(target):
        raise DevsyncError(f"there is one already: {target}", hint="edit it, or move it away first")
    answers = {flag: value for flag, value in given.items() if value is not None}
    name = default_name(folder)
    _complete(answers, name, project)
    values = {KEYS[flag]: value for flag, value in answers.items()}
    if "identity_file" in answers:  # named from where the command runs; the file means its own folder
        values[KEYS["identity_file"]] = _from_anywhere(str(answers["identity_file"]))
    write_new(folder, values, project)
    if not any(os.path.exists(above / ".git") for above in (folder, *folder.parents)):
        note("this folder is no git checkout: everything is mirrored but what sync.ignore names")
    note("next: devsync start")


def write_new(folder: Path, values: dict[str, object], project: Project) -> None:
    """Write a commented devsync.toml with these settings, by their dotted keys."""
    values.setdefault(KEYS["path"], f"~/work/{default_name(folder)}")
    shown = {
        key: setting
        for key, setting in SETTINGS.items()
        if values[KEYS["provider"]] == "azure" or not key.startswith("machine.azure.")
    }
    target = folder / FILE_NAME
    _write(target, render(shown, values, arrays={"tunnel"}), project)
    note(f"wrote {target}")


def _complete(answers: dict[str, object], name: str, project: Project) -> None:
    """Ask for what is missing, or raise Misuse that names the flags."""
    asking = is_terminal(sys.stdin) and is_terminal(sys.stderr)
    if "provider" not in answers:
        answers["provider"] = _guess(answers) or (_ask("provider", "azure") if asking else None)
    if answers["provider"] is None:
        raise Misuse("missing: --provider", hint="--provider azure, --provider ssh or --provider local")
    provider = str(answers["provider"])
    if provider == "azure" and "subscription_id" in answers:
        _adopt(answers, project, asking=asking)
    missing = [flag for flag in NEEDED[provider] if flag not in answers]
    if missing and not asking:
        flags = ", ".join("--" + flag.replace("_", "-") for flag in missing)
        raise Misuse(
            f"missing: {flags}", hint=f"the provider '{provider}' needs them, and nobody is there to ask"
        )
    for flag in missing:
        answers[flag] = _ask(flag, None)
    usual = {"user": "azureuser" if provider == "azure" else None, "path": f"~/work/{name}"}
    for flag in WELCOME[provider]:
        if asking and flag not in answers:
            answers[flag] = _ask(flag, usual[flag])


def _adopt(answers: dict[str, object], project: Project, *, asking: bool) -> None:
    """Complete the resource group or the VM's name from the subscription's VMs, if it can be asked."""
    if {"resource_group", "vm_name"} <= set(answers) or not (asking or "vm_name" in answers):
        return
    from devsync.app.cloud import list_vms

    try:
        found = list_vms(project.subscription(str(answers["subscription_id"])))
    except DevsyncError as error:
        note(f"the VMs of the subscription cannot be listed: {error.message}")
        return
    for flag, of in (("vm_name", "name"), ("resource_group", "resource_group")):
        if flag in answers:
            found = [one for one in found if getattr(one, of).lower() == str(answers[flag]).lower()]
    if len(found) > 1 and asking:
        for number, one in enumerate(found, 1):
            note(f"{number:>3}  {one.name} in {one.resource_group}: {one.size}, {one.state.value}")
        chosen = click.prompt("which VM", type=click.IntRange(1, len(found)), err=True)
        found = [found[chosen - 1]]
    if len(found) == 1:
        answers |= {"vm_name": found[0].name, "resource_group": found[0].resource_group}
        note(f"the machine is {found[0].name} in {found[0].resource_group}")


def _guess(answers: Mapping[str, object]) -> str | None:
    """The provider that the other flags speak of."""
    if any(flag in answers for flag in NEEDED["azure"]):
        return "azure"
    return "ssh" if "host" in answers else None


def _ask(flag: str, default: str | None) -> object:
    note(f"# {SETTINGS[KEYS[flag]].doc}")
    value: object = click.prompt(flag.replace("_", " "), default=default, value_proc=_checked(flag), err=True)
    return value


def _from_anywhere(path: str) -> str:
    return path if path.startswith("~") else str(Path(path).absolute())


def _write(target: Path, text: str, project: Project) -> None:
    """Write the file and read it back; one that devsync itself cannot read is not left behind."""
    try:
        with open(target, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DevsyncError(f"cannot write {target}: {error.strerror}") from error
    try:
        load(target.parent, environ=project.environ)
    except Misuse:
        target.unlink()
        raise
