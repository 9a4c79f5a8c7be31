"""How an SSH connection comes about: the way there, the machine's key, and only then the login."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from devsync.ports import DevsyncError, Misuse, NeedsUser, Unavailable
from devsync.ssh import dial, hostkeys, identities
from devsync.ssh.session import Session
from devsync.ssh.target import DEFAULT_KEYS, Route, Target, config_text, resolve
from devsync.ssh.transport import (
    Key,
    LockedKey,
    Transport,
    UnusableKey,
    agent_keys,
    load_key,
    ssh_options,
)

MAX_JUMPS = 8


def connect(target: Target, *, accept: str | None = None) -> Session:
    """Open an authenticated connection, at most a few times `target.connect_timeout` from now.

    `accept` is the fingerprint of a host key that may be trusted on first contact, or hostkeys.ANY. Raises
    Unavailable (not to be reached now), UnknownHostKey, HostKeyChanged or another NeedsUser (the login was
    refused), Misuse (the configuration cannot be read).
    """
    if target.identity_file is not None and not target.identity_file.expanduser().exists():
        raise NeedsUser(
            f"there is no key file {target.identity_file}",
            hint="correct ssh.identity_file in devsync.toml, or make a key with: ssh-keygen -t ed25519",
        )
    return _session(_route(target), accept, depth=0)


def _route(target: Target) -> Route:
    try:
        return resolve(target, ssh_options(config_text(target), target.host))
    except ValueError as error:
        raise Misuse(f"{target.config_file} cannot be read: {error}") from error


def _session(route: Route, accept: str | None, depth: int) -> Session:
    transport = Transport(_wire(route, accept, depth))
    try:
        kinds = {entry.kind for entry in hostkeys.lookup(route.known_hosts, route.known_as)}
        kind, key = transport.exchange_keys(f"{route.host}:{route.port}", kinds, route.timeout)
        hostkeys.verify(
            route.known_hosts,
            route.known_as,
            kind,
            key,
            plain=route.plain_name,
            host=route.host.lower(),
            accept=accept,
        )
        _login(transport, route)
    except BaseException:
        transport.end()
        raise
    return Session(transport, str(route))


def _wire(route: Route, accept: str | None, depth: int) -> dial.Wire:
    if route.jumps:
        if depth >= MAX_JUMPS:
            raise Misuse(f"the ProxyJump of {route.host} leads in a circle")
        return _hop(route, accept, depth)
    if route.proxy_command:
        return dial.proxy(route.proxy_command)
    return dial.Wire(dial.tcp(route.host, route.port, route.timeout))


def _hop(route: Route, accept: str | None, depth: int) -> dial.Wire:
    """A wire through the last of the jumps, which is reached through those before it."""
    *earlier, last = route.jumps
    via = _route(last)
    if earlier:
        via = replace(via, jumps=tuple(earlier), proxy_command=None)
    session = _session(via, accept, depth + 1)
    try:
        return dial.Wire(session.channel_to(route.host, route.port), session.close)
    except OSError as error:
        session.close()
        raise Unavailable(f"{route.host}:{route.port} cannot be reached from {via.host}") from error
    except DevsyncError:
        session.close()
        raise


def _login(transport: Transport, route: Route) -> None:
    tried: list[str] = []
    locked: list[Path] = []
    with agent_keys() as held:
        for label, key in _keys(route, held, tried, locked):
            tried.append(label)
            if transport.offer(route.user, key):
                return
    add = f"ssh-add {locked[0]}" if locked else ""
    if locked and len(locked) == len(tried):
        raise NeedsUser(
            f"the key {locked[0]} is protected by a passphrase", hint=f"unlock it for devsync: {add}"
        )
    raise NeedsUser(
        f"{route} refuses the login; tried: {', '.join(tried) or 'nothing, for there is no key'}",
        hint=add or "check ssh.user and ssh.identity_file, and ~/.ssh/authorized_keys on the machine",
    )


def _keys(
    route: Route, held: Sequence[tuple[str, Key]], tried: list[str], locked: list[Path]
) -> Iterator[tuple[str, Key]]:
    """The keys in the order of being offered: key files (by the agent, if it has them), then the agent's.

    Notes in `tried` and `locked` what could not be offered.
    """
    by_public = {key.asbytes(): (comment, key) for comment, key in held}
    for path in route.identities or [Path(name).expanduser() for name in DEFAULT_KEYS]:
        known = by_public.pop(identities.public_key(path) or b"", None)
        if known is not None:
            yield f"{path} (by the agent)", known[1]
            continue
        try:
            yield str(path), load_key(path)
        except FileNotFoundError:
            if route.identities:
                tried.append(f"{path} (no such file)")
        except OSError as error:
            tried.append(f"{path} ({error.strerror})")
        except LockedKey:
            locked.append(path)
            tried.append(f"{path} (protected by a passphrase)")
        except UnusableKey:
            tried.append(f"{path} (not a private key)")
    if not route.identities_only:
        for comment, key in by_public.values():
            yield f"{comment} (agent)", key
