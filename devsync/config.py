"""devsync.toml into frozen records, all mistakes at once.

The records are the schema: each field says its kind, its default and its meaning.
"""

# ruff: noqa: RUF009 - `setting` is `dataclasses.field` with a meaning; what it returns is immutable

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from devsync.core.quantity import show_duration
from devsync.folders import FILE_NAME, expand, user_file
from devsync.settings import schema
from devsync.settings.cost import MONEY, CostConfig
from devsync.settings.failsafe import ALONE, FailsafeConfig
from devsync.settings.file import Settings
from devsync.settings.idle import IdleConfig, SignalsConfig
from devsync.settings.schema import setting

# ---------------------------------------------------------------- the records


@dataclass(frozen=True, slots=True)
class ProjectConfig:
    """[project]"""

    name: str | None = setting(
        schema.NAME,
        None,
        "what the project is called; by default as its folder",
        example="my-model",
        shared=False,
    )


@dataclass(frozen=True, slots=True)
class AzureConfig:
    """[machine.azure]"""

    subscription_id: str = setting(
        schema.WORD,
        None,
        "the subscription that the machine belongs to",
        required=True,
        example="00000000-0000-0000-0000-000000000000",
    )
    resource_group: str = setting(
        schema.WORD,
        None,
        "the resource group that the machine is in",
        required=True,
        example="my-group",
    )
    vm_name: str = setting(
        schema.WORD, None, "the name of the machine in Azure", required=True, example="my-vm"
    )
    credential: str = setting(
        schema.choice("cli", "managed-identity", "environment", "default"),
        "cli",
        "cli (`az login`) | managed-identity | environment | default (whichever works)",
    )
    endpoint: str = setting(
        schema.URL, "https://management.azure.com", "where Azure Resource Manager answers (sovereign clouds)"
    )
    ca_bundle: Path | None = setting(
        schema.LOCAL_PATH,
        None,
        "certificates to trust for the endpoint, if not the usual ones",
        example="~/certificates.pem",
    )
    hourly_price: float | None = setting(
        MONEY, None, "what the machine costs in an hour; by default as the price list says", example=0.526
    )
    price_service: str = setting(
        schema.URL, "https://prices.azure.com", "where prices are asked for; nothing is told there of you"
    )
    address_service: str = setting(
        schema.URL, "https://api.ipify.org", "what tells the address that this computer is seen at"
    )


@dataclass(frozen=True, slots=True)
class MachineConfig:
    """[machine]"""

    provider: str = setting(
        schema.choice("azure", "ssh", "local"),
        "azure",
        "azure | ssh (a host that is simply there) | local (for trying out)",
    )
    azure: AzureConfig | None = None


@dataclass(frozen=True, slots=True)
class SshConfig:
    """[ssh]; None where nothing is said: as ~/.ssh/config has it, else the usual."""

    host: str | None = setting(
        schema.WORD,
        None,
        "name or address of the machine; only the provider ssh needs it",
        example="gpu.example.org",
    )
    port: int | None = setting(schema.PORT, 22, "where its SSH server listens")
    user: str | None = setting(
        schema.WORD, "azureuser", "login name; elsewhere than on Azure, by default your own"
    )
    identity_file: Path | None = setting(
        schema.LOCAL_PATH, "~/.ssh/id_ed25519", "the private key; the SSH agent is asked besides"
    )
    known_hosts: Path | None = setting(
        schema.LOCAL_PATH, "~/.ssh/known_hosts", "the host keys that are trusted; a changed one is refused"
    )


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """[sync]"""

    path: str = setting(
        schema.REMOTE_FOLDER,
        None,
        "folder on the machine; by default ~/work/ and the project's name",
        required=True,
        example="~/work/my-model",
        shared=False,
    )
    mode: str = setting(
        schema.choice("two-way", "mirror"), "two-way", "two-way | mirror (the local side always wins)"
    )
    ignore: tuple[str, ...] = setting(schema.TEXTS, [], "patterns as in .gitignore, beside git's own rules")
    merge: bool = setting(
        schema.SWITCH, True, "texts and notebooks that both sides changed are merged, if possible"
    )
    settle: float = setting(schema.PAUSE, "20ms", "quiet time before a change is acted on")
    max_deletions: float = setting(
        schema.SHARE, "10%", "of a side in 10 minutes (and over 50 files): devsync halts and asks"
    )
    max_file: int = setting(schema.SIZE, "2GiB", "a new file that is larger is held back until it is allowed")
    max_arrivals: int = setting(
        schema.SIZE, "10GiB", "of new files in 10 minutes (or 80,000 of them): they are held back, too"
    )
    allow_secrets: tuple[str, ...] = setting(
        schema.TEXTS, [], "paths that look like credentials, mirrored all the same"
    )
    bandwidth: int | None = setting(
        schema.RATE,
        None,
        "the most that contents may take of the line in a second, there and back together",
        example="2MiB",
    )


@dataclass(frozen=True, slots=True)
class RunConfig:
    """[run]"""

    shell: str | None = setting(
        schema.SHELL, None, "the login shell there; by default your own on the machine", example="bash"
    )
    setup: str | None = setting(
        schema.TEXT, None, "what the shell does before each command", example="conda activate py310"
    )


@dataclass(frozen=True, slots=True)
class JupyterConfig:
    """[jupyter]"""

    command: str | None = setting(
        schema.TEXT, None, "what starts Jupyter there; by default what is found", example="jupyter lab"
    )


@dataclass(frozen=True, slots=True)
class TrashConfig:
    """[trash]: seconds and bytes"""

    keep: float = setting(schema.DURATION, "30d", "how long old versions are kept")
    size: int = setting(schema.SIZE, "5GiB", "how much of them each side keeps at most; the oldest go first")


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """[[tunnel]]"""

    local: int = setting(
        schema.FREE_PORT, 8888, "port on this computer, on 127.0.0.1 only; 0 for any free one"
    )
    remote: int = setting(schema.PORT, 8888, "port on the machine; by default the same number")


@dataclass(frozen=True, slots=True)
class Config:
    """A project's settings. Times are seconds, shares are 0 to 1; None means never, off or not given."""

    root: Path
    name: str
    machine: MachineConfig
    ssh: SshConfig
    sync: SyncConfig
    run: RunConfig
    jupyter: JupyterConfig
    trash: TrashConfig
    tunnels: tuple[TunnelConfig, ...]
    idle: IdleConfig
    failsafe: FailsafeConfig
    cost: CostConfig


TABLES: Mapping[str, type] = {
    "project": ProjectConfig,
    "machine": MachineConfig,
    "machine.azure": AzureConfig,
    "ssh": SshConfig,
    "sync": SyncConfig,
    "run": RunConfig,
    "jupyter": JupyterConfig,
    "trash": TrashConfig,
    "tunnel": TunnelConfig,
    "idle": IdleConfig,
    "idle.signals": SignalsConfig,
    "failsafe": FailsafeConfig,
    "cost": CostConfig,
}
SETTINGS: Mapping[str, schema.Setting] = {
    f"{table}.{name}": one
    for table, record in TABLES.items()
    for name, one in schema.settings_of(record).items()
}
"""Every key that devsync knows."""


# ---------------------------------------------------------------- reading them


def default_name(root: Path) -> str:
    """What a project is called when nothing else is said: as its folder, if that can be shown."""
    name = root.resolve().name
    return "".join(letter if letter.isprintable() else "-" for letter in name).strip() or "project"


def load(root: Path, *, environ: Mapping[str, str], given: Mapping[str, object] | None = None) -> Config:
    """The settings of the project at `root`. Raises Misuse that names every mistake.

    `given` are values by dotted keys that overrule the files, for a machine that is yet to be written down;
    with them there need be no devsync.toml.
    """
    settings = Settings(TABLES, arrays={"tunnel"})
    defaults = user_file(environ)
    settings.add(defaults, str(defaults), shared=True)
    if given is None or os.path.lexists(root / FILE_NAME):
        settings.add(root / FILE_NAME, FILE_NAME)
    settings.give(given or {})
    if settings.readable:
        _check_machine(settings)
        _check_files(settings, root, environ)
        _check_tunnels(settings)
        _check_idle(settings)
    settings.stop_at_problems(f"bad configuration of the project in {root}")
    name = settings.get("project", "name") or default_name(root)
    return Config(
        root=root,
        name=name,
        machine=_machine(settings, root, environ),
        ssh=_ssh(settings, root, environ),
        sync=settings.record(SyncConfig, "sync", path=f"~/work/{name}"),
        run=settings.record(RunConfig, "run"),
        jupyter=settings.record(JupyterConfig, "jupyter"),
        trash=settings.record(TrashConfig, "trash"),
        tunnels=_tunnels(settings),
        idle=settings.record(
            IdleConfig,
            "idle",
            warn=_default_warning(settings),
            signals=settings.record(SignalsConfig, "idle", "signals"),
        ),
        failsafe=settings.record(FailsafeConfig, "failsafe", lease_alone=_lease_alone(settings)),
        cost=settings.record(CostConfig, "cost"),
    )


def _check_machine(settings: Settings) -> None:
    provider = settings.get("machine", "provider")
    needed: Mapping[str, list[tuple[str, ...]]] = {
        "azure": [("machine", "azure", name) for name in ("subscription_id", "resource_group", "vm_name")],
        "ssh": [("ssh", "host")],
    }
    for key in needed.get(provider, []):
        if not settings.given(*key):
            settings.problem(key, f"is missing; the provider '{provider}' needs it")


def _check_files(settings: Settings, root: Path, environ: Mapping[str, str]) -> None:
    """A file that was named must be there; the usual ones may be missing."""
    for key, what in (
        (("ssh", "identity_file"), "identity file"),
        (("machine", "azure", "ca_bundle"), "file"),
    ):
        told = settings.get(*key)
        if told and settings.given(*key):
            path = expand(told, root, environ)
            if not os.path.isfile(path):
                settings.problem(key, f"no such {what}: {path}")


def _check_tunnels(settings: Settings) -> None:
    seen: set[int] = set()
    for index in range(settings.get("tunnel") or 0):
        key = ("tunnel", index, "local")
        if not settings.given(*key):
            settings.problem(key, "is missing: which port on this computer?")
            continue
        local = settings.get(*key)
        if local in seen:
            settings.problem(key, f"port {local} has a tunnel already")
        if local:
            seen.add(local)
        elif local == 0 and not settings.given("tunnel", index, "remote"):
            settings.problem(("tunnel", index, "remote"), "is missing: which port on the machine?")


def _check_idle(settings: Settings) -> None:
    after, warn = settings.get("idle", "after"), settings.get("idle", "warn")
    if after and warn and settings.given("idle", "warn") and warn > after:
        shown = f"{show_duration(warn)} is longer than idle.after, {show_duration(after)}"
        settings.problem(("idle", "warn"), shown)


def _default_warning(settings: Settings) -> float:
    """As the table says, but never longer than `after`."""
    usual, after = IdleConfig().warn, settings.get("idle", "after")
    return min(usual, after or usual)


def _lease_alone(settings: Settings) -> float | None:
    """With no watchdog only a running daemon pushes the lease, and a night is longer than the usual one."""
    lease: float | None = settings.get("failsafe", "lease")
    return lease if settings.given("failsafe", "lease") else ALONE


def _machine(settings: Settings, root: Path, environ: Mapping[str, str]) -> MachineConfig:
    machine = settings.record(MachineConfig, "machine")
    if machine.provider != "azure":
        return machine
    azure = settings.record(AzureConfig, "machine", "azure")
    if azure.ca_bundle:
        azure = replace(azure, ca_bundle=expand(azure.ca_bundle, root, environ))
    return replace(machine, azure=azure)


def _ssh(settings: Settings, root: Path, environ: Mapping[str, str]) -> SshConfig:
    """What is not said here, ~/.ssh/config may say; only Azure's usual login name is known better."""
    ssh = settings.record(SshConfig, "ssh")
    unsaid = [
        name for name in ("port", "user", "identity_file", "known_hosts") if not settings.given("ssh", name)
    ]
    ssh = replace(ssh, **dict.fromkeys(unsaid))
    if ssh.user is None and settings.get("machine", "provider") == "azure":
        ssh = replace(ssh, user="azureuser")
    paths = {
        name: expand(path, root, environ)
        for name, path in (("identity_file", ssh.identity_file), ("known_hosts", ssh.known_hosts))
        if path is not None
    }
    return replace(ssh, **paths)  # type: ignore[arg-type]  # both are paths


def _tunnels(settings: Settings) -> tuple[TunnelConfig, ...]:
    """One for Jupyter if nothing is said; `tunnel = []` is none."""
    if not settings.given("tunnel"):
        return (TunnelConfig(),)
    return tuple(
        settings.record(TunnelConfig, "tunnel", index, remote=settings.get("tunnel", index, "local"))
        for index in range(settings.get("tunnel"))
    )
