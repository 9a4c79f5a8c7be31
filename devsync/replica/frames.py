"""Messages on a pipe: length, kind, then JSON, compressed when long. Travels (Python 3.8)."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

LIMIT = 64 << 20
"""A frame is no longer, in bytes as they travel."""
INFLATED_LIMIT = 256 << 20
"""Nor is its JSON, in bytes."""
COMPRESSED_FROM = 1 << 10

_HEAD = struct.Struct("!Ic")


class Malformed(ValueError):
    """What arrived is no frame, or one over the limits."""


def encode(message: Any) -> bytes:
    """The frame of a JSON value. Malformed if it would be over the limits."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    kind = b"j"
    if len(body) > INFLATED_LIMIT:
        raise Malformed(f"a message of {len(body)} bytes is too long")
    if len(body) >= COMPRESSED_FROM:
        kind, body = b"z", zlib.compress(body, 1)
    if len(body) > LIMIT:
        raise Malformed(f"a message of {len(body)} bytes is too long")
    return _HEAD.pack(len(body), kind) + body


def read(exactly: Callable[[int], bytes]) -> Any:
    """The next message. `exactly(n)` gives n bytes, fewer only at the end. EOFError between two frames."""
    head = exactly(_HEAD.size)
    if not head:
        raise EOFError
    if len(head) < _HEAD.size:
        raise Malformed("the stream ends within a frame")
    length, kind = _HEAD.unpack(head)
    if length > LIMIT or kind not in (b"j", b"z"):
        raise Malformed("this is no frame")
    body = exactly(length)
    if len(body) < length:
        raise Malformed("the stream ends within a frame")
    try:
        return json.loads(_inflated(body) if kind == b"z" else body)
    except (ValueError, zlib.error, RecursionError) as error:
        raise Malformed(f"a frame holds no JSON: {error}"[:200]) from error


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(body, INFLATED_LIMIT)
    if inflater.unconsumed_tail or not inflater.eof:
        raise Malformed("a frame is cut, or longer than allowed")
    return text
