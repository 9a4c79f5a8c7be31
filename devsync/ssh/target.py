"""Which SSH server, and the way to it: what devsync.toml says, completed by the user's ~/.ssh/config."""

from __future__ import annotations

import getpass
import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from devsync.ports import Misuse
from devsync.ssh import hostkeys

DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")

# Both reach a shell as %h and %r of a ProxyCommand, and devsync.toml may come with a foreign repository.
_HOST = re.compile(r"(?!-)[\w.:%-]+")
_USER = re.compile(r"(?!-)[\w.@+%-]+\$?")


@dataclass(frozen=True)
class Target:
    """A server as it was asked for. None: as ~/.ssh/config says, else the default; what is given here wins.

    `alias` names the machine in known_hosts when its address moves. `connect_timeout` is in seconds, for
    each of the TCP connection, the banner and the key exchange.
    """

    host: str
    port: int | None = None
    user: str | None = None
    identity_file: Path | None = None
    known_hosts: Path | None = None
    alias: str | None = None
    config_file: Path | None = Path("~/.ssh/config")
    connect_timeout: float = 10.0

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):
            raise Misuse(f"this is no name or address of a host: {self.host!r}")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise Misuse(f"this is no user name: {self.user!r}")


@dataclass(frozen=True)
class Route:
    """A server as it is reached. `jumps` are passed in order, each seen from the one before it."""

    host: str
    port: int
    user: str
    identities: tuple[Path, ...]
    identities_only: bool
    known_hosts: tuple[Path, ...]
    known_as: str
    jumps: tuple[Target, ...]
    proxy_command: str | None
    timeout: float

    @property
    def plain_name(self) -> str:
        """The host's name in known_hosts without its port; an alias has none."""
        named_by_port = self.known_as == hostkeys.known_name(self.host, self.port)
        return hostkeys.known_name(self.host, 22) if named_by_port else self.known_as

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + ("" if self.port == 22 else f":{self.port}")


def config_text(target: Target) -> str:
    """The user's ssh_config, includes in place, below what `target` asks for (the first value wins)."""
    lines = []
    if target.port is not None:
        lines.append(f"Port {target.port}")
    if target.user is not None:
        lines.append(f"User {target.user}")
    if target.config_file is not None:
        lines += _lines(target.config_file.expanduser(), ())
    return "\n".join(lines) + "\n"


def _lines(path: Path, within: tuple[Path, ...]) -> Iterator[str]:
    """The lines of a file that is included `within` others; what leads back into one of them is left out."""
    if path in within:
        return
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}") from error
    block = "Host *"
    for line in text.splitlines():
        keyword, _, rest = re.sub(r"[\s=]+", " ", line.strip(), count=1).partition(" ")
        if keyword.lower() == "include":
            for pattern in rest.split():
                yield from _included(pattern.strip('"'), (*within, path))
            yield block  # an included file may have begun blocks of its own
            continue
        if keyword.lower() in ("host", "match"):
            block = line
        yield line


def _included(pattern: str, within: tuple[Path, ...]) -> Iterator[str]:
    # As with OpenSSH, a relative name means the folder of the user's configuration.
    for name in sorted(glob.glob(str(within[0].parent / Path(pattern).expanduser()))):
        yield from _lines(Path(name), within)


def resolve(target: Target, options: Mapping[str, str | Sequence[str] | None]) -> Route:
    """Join what was asked for with what ssh_config says: `options` by lower-case keyword, tokens expanded."""

    def option(key: str) -> str:
        value = options.get(key)
        return value if isinstance(value, str) and value.lower() != "none" else ""

    host = option("hostname") or target.host
    port = _port(option("port"), target)
    configured = options.get("identityfile") or ()
    identities = [target.identity_file] if target.identity_file else []
    identities += [Path(name) for name in ([configured] if isinstance(configured, str) else configured)]
    known_hosts = [target.known_hosts] if target.known_hosts else []
    if not known_hosts:
        known_hosts = [Path(name) for name in option("userknownhostsfile").split()]
    alias = target.alias or option("hostkeyalias")
    return Route(
        host=host,
        port=port,
        user=option("user") or getpass.getuser(),
        identities=tuple(path.expanduser() for path in identities),
        identities_only=option("identitiesonly").lower() == "yes",
        known_hosts=tuple(path.expanduser() for path in known_hosts or [Path("~/.ssh/known_hosts")]),
        known_as=alias or hostkeys.known_name(host, port),
        jumps=tuple(_jumps(target, option("proxyjump"))),
        proxy_command=option("proxycommand") or None,
        timeout=target.connect_timeout,
    )


def _port(text: str, target: Target) -> int:
    if not text:
        return 22
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Misuse(f"the port of {target.host} is no number from 1 to 65535: {text}")
    return int(text)


def _jumps(target: Target, text: str) -> Iterator[Target]:
    """The servers of a ProxyJump: [user@]host[:port], separated by commas."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        user, _, place = part.removeprefix("ssh://").rstrip("/").rpartition("@")
        match = re.fullmatch(r"\[([^]]+)\](?::(\d+))?|([^:]+)(?::(\d+))?", place)
        if match is None:
            raise Misuse(f"this ProxyJump cannot be read: {part}")
        host, port = match[1] or match[3], match[2] or match[4]
        if host == target.host:
            continue  # 'Host *' with a ProxyJump speaks of the jump host itself, too
        yield replace(
            target,
            host=host,
            port=int(port) if port else None,
            user=user or None,
            identity_file=None,
            alias=None,
        )
