"""Compression that both ends happen to know. Travels (Python 3.8).

Each block is compressed by itself, so whoever opens one needs no state: a function of bytes is enough,
which zstd's C library offers even where no Python package does.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Collection, Mapping
from typing import Any, Callable  # noqa: UP035 (an alias is evaluated: Python 3.8)

RAW, ZLIB, ZSTD = "raw", "zlib", "zstd"

Open = Callable[[bytes, int], bytes]
"""Gives a block back, which was so many bytes; ValueError if it does not come out as that."""


Pack = Callable[[bytes], bytes]


def packer(known: Collection[str]) -> tuple[str, Pack | None]:
    """The best compression of this end that the other knows too: its name, and a function of one block."""
    if ZSTD in known:
        try:
            return ZSTD, zstd_packer(3)
        except ImportError:
            pass
    if ZLIB in known:
        return ZLIB, lambda block: zlib.compress(block, 1)
    return RAW, None


def zstd_packer(level: int) -> Pack:
    """zstd at this level. ImportError where it is not there."""
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress


def openers() -> Mapping[str, Open]:
    """What can be opened here, by name."""
    found: dict[str, Open] = {RAW: _open_raw, ZLIB: _open_zlib}
    zstd = _zstd_module() or _zstd_library()
    if zstd is not None:
        found[ZSTD] = zstd
    return found


def _open_raw(block: bytes, size: int) -> bytes:
    if len(block) != size:
        raise ValueError("a block of another size")
    return block


def _open_zlib(block: bytes, size: int) -> bytes:
    try:
        content = zlib.decompressobj().decompress(block, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    return _open_raw(content, size)


def _zstd_module() -> Open | None:
    try:
        import zstandard
    except ImportError:
        return None
    opener = zstandard.ZstdDecompressor()

    def open_block(block: bytes, size: int) -> bytes:
        try:
            return _open_raw(opener.decompress(block, max_output_size=size), size)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error

    return open_block


def _zstd_library() -> Open | None:
    try:
        library: Any = ctypes.CDLL("libzstd.so.1")
        library.ZSTD_decompress.restype = ctypes.c_size_t
        library.ZSTD_decompress.argtypes = [
            *(ctypes.c_void_p, ctypes.c_size_t),
            *(ctypes.c_char_p, ctypes.c_size_t),
        ]
    except (OSError, AttributeError):
        return None

    def open_block(block: bytes, size: int) -> bytes:
        content = ctypes.create_string_buffer(size)
        if library.ZSTD_decompress(content, size, block, len(block)) != size:
            raise ValueError("a block that zstd cannot open")
        return content.raw

    return open_block
