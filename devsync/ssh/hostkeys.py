"""Who the machine is: the keys in known_hosts, how they are compared, and how a new one is written down."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from devsync.ports import DevsyncError, NeedsUser

ANY = "any"
"""As `accept`: whatever key is shown on first contact. A changed key is refused all the same."""

GLOBAL = Path("/etc/ssh/ssh_known_hosts")


class UnknownHostKey(NeedsUser):
    """First contact: nobody has said yet that this key is the machine's."""

    def __init__(self, host: str, kind: str, fingerprint: str) -> None:
        super().__init__(
            f"the host key of {host} is not known yet: {kind} {fingerprint}",
            hint=f"{_true_key(kind)} if it is the same: devsync start --accept-host-key",
        )
        self.host = host
        self.kind = kind
        self.fingerprint = fingerprint


class HostKeyChanged(NeedsUser):
    """The machine shows another key than the one in known_hosts: maybe new, maybe somebody else's."""

    def __init__(self, message: str, *, hint: str, fingerprint: str) -> None:
        super().__init__(message, hint=hint)
        self.fingerprint = fingerprint


@dataclass(frozen=True)
class Entry:
    """A line of a known_hosts file that speaks of the host in question."""

    path: Path
    line: int
    kind: str
    key: bytes
    revoked: bool


def known_name(host: str, port: int) -> str:
    """How known_hosts calls a server: the host alone on port 22, else with its port."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def fingerprint(key: bytes) -> str:
    """As OpenSSH prints it: SHA256 and unpadded base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def lookup(files: Iterable[Path], name: str) -> list[Entry]:
    """What the files say about `name`. A file that is not there says nothing; neither does a broken line."""
    found = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise NeedsUser(f"{path} cannot be read: {error.strerror}") from error
        for number, line in enumerate(text.splitlines(), 1):
            entry = _parse(path, number, line, name)
            if entry is not None:
                found.append(entry)
    return found


def _parse(path: Path, number: int, line: str, name: str) -> Entry | None:
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    # Certificate authorities are not supported: they vouch for no key.
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
        return None
    patterns, kind, encoded = fields[:3]
    if not _matches(patterns, name):
        return None
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return None
    return Entry(path, number, kind, key, revoked=marker == "@revoked")


def _matches(patterns: str, name: str) -> bool:
    matched = False
    for pattern in patterns.split(","):
        if pattern.startswith("|1|"):
            matched = matched or _is_hash_of(pattern, name)
        elif pattern.startswith("!"):
            if _glob(pattern[1:], name):
                return False
        else:
            matched = matched or _glob(pattern, name)
    return matched


def _glob(pattern: str, name: str) -> bool:
    """Only '*' and '?' are special; '[' is how a name with a port begins."""
    expression = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name) is not None


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        key, expected = base64.b64decode(salt), base64.b64decode(digest)
    except ValueError:
        return False
    return hmac.compare_digest(hmac.new(key, name.encode(), hashlib.sha1).digest(), expected)


def verify(
    files: Sequence[Path],
    name: str,
    kind: str,
    key: bytes,
    *,
    plain: str,
    host: str = "",
    accept: str | None = None,
) -> None:
    """Return if `key` is the one that `files` have for `name`.

    Raises UnknownHostKey if there is none and `accept` is not its fingerprint (or ANY), else it is added to
    the first of `files`. Raises HostKeyChanged for a revoked or another key. `plain` is the host without its
    port: a key that is known for that is good on every port, as with OpenSSH. `host` is what people call
    it, if its `name` is an alias.
    """
    shown = fingerprint(key)
    called = name if host in name else f"{host} (in known_hosts: {name})"
    entries = lookup([*files, GLOBAL], name)
    others = lookup([*files, GLOBAL], plain) if plain != name else []
    for entry in entries + others:
        if entry.revoked and entry.key == key:
            raise HostKeyChanged(
                f"the host key of {called} is marked as revoked in {entry.path}, line {entry.line}",
                hint="somebody else may have this key; do not connect before the machine has got a new one",
                fingerprint=shown,
            )
    trusted = [entry for entry in entries if not entry.revoked]
    if any(entry.key == key for entry in trusted + others):
        return
    if trusted:
        raise _changed(name, called, kind, shown, trusted)
    if accept not in (ANY, shown):
        raise UnknownHostKey(called, kind, shown)
    remember(files[0], name, kind, key)


def _changed(name: str, called: str, kind: str, shown: str, trusted: Sequence[Entry]) -> HostKeyChanged:
    entry = next((entry for entry in trusted if entry.kind == kind), trusted[0])
    return HostKeyChanged(
        f"the host key of {called} has changed: it shows {kind} {shown}, "
        f"but {entry.path}, line {entry.line}, has {entry.kind} {fingerprint(entry.key)}; nothing was sent",
        hint=f"was the machine set up anew, or is somebody in between? {_true_key(kind)} if it is the same: "
        f"ssh-keygen -R '{name}' -f '{entry.path}' and devsync start --accept-host-key",
        fingerprint=shown,
    )


def _true_key(kind: str) -> str:
    short = kind.removeprefix("ssh-").partition("-")[0]
    return f"a console of the machine shows the true key: ssh-keygen -lf /etc/ssh/ssh_host_{short}_key.pub;"


def remember(path: Path, name: str, kind: str, key: bytes) -> None:
    """Add a line to `path` (0600, its folder 0700 if they are new); the other lines stay as they are."""
    line = f"{name} {kind} {base64.b64encode(key).decode()}\n".encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            # RACE: two connections meet the machine at once; the second finds the line of the first.
            fcntl.flock(file, fcntl.LOCK_EX)
            present = file.read()
            if line not in present.splitlines(keepends=True):
                gap = b"\n" if present and not present.endswith(b"\n") else b""
                file.write(gap + line)
    except OSError as error:
        raise DevsyncError(
            f"the host key of {name} cannot be added to {path}: {error.strerror}",
            hint="make the file writable, or name another one as ssh.known_hosts in devsync.toml",
        ) from error
