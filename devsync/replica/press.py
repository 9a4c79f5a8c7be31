"""Compresses what goes to the machine as hard as the link leaves time for, and no harder.

While a block is compressed, what was sent before it is still on its way: on a slow link that time is
free, and fewer bytes win. A fast one has run dry meanwhile, and the compressor is what all wait for.
"""

from __future__ import annotations

from collections.abc import Collection

from devsync.replica.codec import RAW, ZSTD, Pack, packer, zstd_packer

LEVELS = (-3, 1, 3, 6)
"""zstd's: the fastest takes half the time of the usual third, the sixth three times as long."""

FIRST = 2

DRY, FULL = 1 << 19, 7 << 18
"""Bytes under way: with so few the link waits for us, with so many we wait for it (OpenSSH lets 2 MiB be)."""

SAMPLE = 8
"""So many blocks are judged together: at first a link fills, slow or not."""


class Press:
    """A compressor whose level follows how much is under way. One thread's."""

    def __init__(self, known: Collection[str]) -> None:
        """`known` are the codecs that the other end can open."""
        self.codec, self._pack = packer(known)
        self._level = FIRST
        self._seen: list[int] = []
        self._packs: dict[int, Pack] = {}

    @property
    def level(self) -> int:
        """The level of the next block; of zstd, for nothing else has any."""
        return LEVELS[self._level]

    @property
    def pack(self) -> Pack | None:
        """Compresses a block; None if nothing is compressed."""
        if self.codec != ZSTD:
            return None if self.codec == RAW else self._pack
        return self._press

    def sent(self, under_way: int) -> None:
        """A block was handed to the link; so many bytes are under way and not acknowledged yet."""
        self._seen.append(under_way)
        if len(self._seen) == SAMPLE:
            usual = sorted(self._seen)[SAMPLE // 2]
            self._seen.clear()
            if usual < DRY:
                self._level = max(self._level - 1, 0)
            elif usual > FULL:
                self._level = min(self._level + 1, len(LEVELS) - 1)

    def _press(self, block: bytes) -> bytes:
        if self.level not in self._packs:
            self._packs[self.level] = zstd_packer(self.level)
        return self._packs[self.level](block)
