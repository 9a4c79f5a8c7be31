"""Private key files: which are tried, and the public half of one that is locked (the agent may hold it)."""

from __future__ import annotations

import base64
import binascii
import struct
from pathlib import Path

_MAGIC = b"openssh-key-v1\0"


def public_key(path: Path) -> bytes | None:
    """The public half of the key in `path`, as SSH writes it; None if only the passphrase can tell.

    Read from the key itself where it is in OpenSSH's format, else from the `.pub` file beside it.
    """
    try:
        return _from_private(path.read_bytes()) or _from_public(Path(f"{path}.pub").read_bytes())
    except (OSError, ValueError, IndexError, struct.error):
        return None


def _from_public(text: bytes) -> bytes:
    return base64.b64decode(text.split()[1], validate=True)


def _from_private(text: bytes) -> bytes | None:
    """After the magic: cipher, key derivation and its options (three strings), a count, the public key."""
    lines = text.strip().splitlines()
    if not lines or lines[0] != b"-----BEGIN OPENSSH PRIVATE KEY-----":
        return None
    try:
        data = base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except binascii.Error:
        return None
    if not data.startswith(_MAGIC):
        return None
    at = len(_MAGIC)
    for _ in range(3):
        at += 4 + struct.unpack_from(">I", data, at)[0]
    (size,) = struct.unpack_from(">I", data, at + 4)
    return data[at + 8 : at + 8 + size]
