"""What is new in a large file, told by the blocks of its older version. Travels (Python 3.8).

Whoever holds the older version says for each of its blocks a digest and how it begins. Whoever has the
new one walks through it: as long as block follows block, that is one digest each. Where they part, the
next place where both run together again is looked for: at the same distance (something was written
over), or where one of the next blocks begins (something was put in, or taken out). All of that is done
by hashing and by finding bytes, at the speed of C, and for no more than PATIENCE bytes in vain.
"""

from __future__ import annotations

import base64
import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Union

FROM = 512 << 10
"""Bytes from which on a file is worth asking for its blocks, which costs a round trip."""

MOST = 1 << 40
"""Bytes of the longest file that is told in blocks."""

SMALLEST, LARGEST = 4 << 10, 1 << 20
DIGEST, SAMPLE = 16, 32
"""Bytes that are told of each block: of its digest, and from its beginning."""

REACH = 8 << 20
"""Bytes that are looked at together when the versions have parted."""

PATIENCE = 32 << 20
"""After so many bytes with nothing of the older version in them, the rest is taken for new."""

FALSE_STARTS = 4
"""A beginning that stands at so many places without its block is no help."""


class Copy(NamedTuple):
    """A part of the older version."""

    start: int
    size: int


Piece = Union[bytes, Copy]  # noqa: UP007 (3.8)
"""New bytes, or where they stand in the older version."""


def block_size(size: int) -> int:
    """How long the blocks of a file are: what is told of all and what one edit costs are about the same."""
    fair = int(((DIGEST + SAMPLE) * size) ** 0.5)
    return max(SMALLEST, min(LARGEST, 1 << fair.bit_length()))


class Blocks:
    """The blocks of a version of `size` bytes; `table` has a digest and a sample of each."""

    def __init__(self, size: int, table: bytes) -> None:
        """ValueError if a file of this size has another number of blocks."""
        if not 0 < size <= MOST or len(table) != (DIGEST + SAMPLE) * -(-size // block_size(size)):
            raise ValueError("blocks that cannot be those of such a file")
        self.size, self.block, self.table = size, block_size(size), table

    @staticmethod
    def of(descriptor: int, size: int) -> Blocks:
        """Those of an open file. ValueError if it is shorter than `size`, empty, or too long; OSError."""
        if not 0 < size <= MOST:
            raise ValueError("a file that is not told in blocks")
        table = bytearray()
        for start in range(0, size, block_size(size)):
            data = os.pread(descriptor, min(block_size(size), size - start), start)
            if start + len(data) < min(size, start + block_size(size)):
                raise ValueError("the file is shorter than it was")
            table += _digest(data) + data[:SAMPLE].ljust(SAMPLE, b"\0")
        return Blocks(size, bytes(table))

    def to_json(self) -> list[object]:
        """As `from_json` takes it."""
        return [self.size, base64.b64encode(self.table).decode("ascii")]

    @staticmethod
    def from_json(value: Any) -> Blocks:
        """What `to_json` has made; ValueError for anything else."""
        if not isinstance(value, list) or [type(part) for part in value] != [int, str]:
            raise ValueError("no blocks of a file")
        size, table = value
        return Blocks(size, base64.b64decode(table, validate=True))

    def __len__(self) -> int:
        return len(self.table) // (DIGEST + SAMPLE)

    def digest(self, number: int) -> bytes:
        """The digest of a block."""
        at = number * (DIGEST + SAMPLE)
        return self.table[at : at + DIGEST]

    def sample(self, number: int) -> bytes:
        """How a block begins; padded where it is shorter than that."""
        at = number * (DIGEST + SAMPLE) + DIGEST
        return self.table[at : at + SAMPLE]

    def length(self, number: int) -> int:
        """The last one may be shorter."""
        return min(self.block, self.size - number * self.block)


def difference(content: Iterable[bytes], older: Blocks, start: int = 0) -> Iterator[Piece]:
    """The pieces that `content` is made of, in its order, if it begins at `start`. Raises what it raises."""
    return _Walk(content, older, start // older.block).pieces()


class _Walk:
    """One way through a new version. Positions count from the first byte that is not told yet."""

    def __init__(self, content: Iterable[bytes], older: Blocks, first: int) -> None:
        self._source, self._older = iter(content), older
        self._data = memoryview(b"")
        self._expected = first  # the block that comes next if nothing has changed
        self._lost_at = first  # the block that did not come when the versions parted
        self._in_vain = 0  # bytes since then
        self._numbers = {older.digest(number): number for number in reversed(range(len(older)))}
        self._signposts = _signposts(older)

    def pieces(self) -> Iterator[Piece]:
        while self._in_vain < PATIENCE and self._ahead(self._older.block):
            size = self._meets(0, self._expected)
            if size:
                yield Copy(self._expected * self._older.block, size)
                self._skip(size)
                self._expected += 1
                self._lost_at, self._in_vain = self._expected, 0
                continue
            size, block = self._meeting()
            for start in range(0, size, REACH):
                yield bytes(self._data[start : min(size, start + REACH)])
            self._skip(size)
            self._expected = block
            self._in_vain += size
        if self._data:
            yield bytes(self._data)
        yield from self._source

    def _meeting(self) -> tuple[int, int]:
        """Where the versions run together again and with which block; else how far they certainly do not."""
        block = self._older.block
        for reach in sorted({min(reach, REACH) for reach in (4 * block, 32 * block, REACH)}):
            there = self._ahead(reach + 1)
            met = self._nearest(min(reach, there))
            if met is not None:
                return self._back(*met)
            if there <= reach:
                break
        if there <= reach:  # it ends here
            return there, len(self._older)
        steps = reach // block - 1  # a block that begins in the last one may go beyond
        return steps * block, self._expected + steps

    def _nearest(self, reach: int) -> tuple[int, int] | None:
        """The first place up to `reach` where a block stands."""
        found = None
        block = self._older.block
        for steps in range(1, reach // block):
            number = self._known(steps * block, self._expected + steps)
            if number is not None:
                found, reach = (steps * block, number), steps * block
                break
        for number in self._probes():
            place = self._find(number, reach)
            if place is not None:
                found, reach = (place, number), place
        return found

    def _known(self, at: int, expected: int) -> int | None:
        """The block that stands at `at`; if several are alike, the one that is expected."""
        digest = _digest(self._data[at : at + self._older.block])
        if expected < len(self._older) and digest == self._older.digest(expected):
            return expected
        return self._numbers.get(digest)

    def _probes(self) -> Iterator[int]:
        """Blocks whose beginnings are worth looking for: the next ones, then ever farther ones."""
        signposts = self._signposts
        first, ahead = bisect_left(signposts, self._lost_at), 0
        while ahead < len(signposts):
            yield signposts[(first + ahead) % len(signposts)]
            ahead += 1 + ahead // 2

    def _find(self, number: int, reach: int) -> int | None:
        sample, place = self._older.sample(number), -1
        whole: bytes = self._data.obj  # type: ignore[assignment]  # what `_ahead` has made it of
        offset = len(whole) - len(self._data)
        for _ in range(FALSE_STARTS):
            place = whole.find(sample, offset + place + 1, offset + reach + SAMPLE - 1) - offset
            if place < 0:
                return None
            if self._meets(place, number):
                return place
        return None

    def _back(self, place: int, number: int) -> tuple[int, int]:
        """What stands right before a meeting may be from the older version as well."""
        while number and place >= self._older.block and self._meets(place - self._older.block, number - 1):
            place, number = place - self._older.block, number - 1
        return place, number

    def _meets(self, at: int, number: int) -> int:
        """The length of a block if it stands at `at`, else 0."""
        if number >= len(self._older):
            return 0
        size = self._older.length(number)
        data = self._data[at : at + size]
        return size if len(data) == size and _digest(data) == self._older.digest(number) else 0

    def _ahead(self, size: int) -> int:
        """How many bytes are here; at least `size`, unless the content ends."""
        if len(self._data) < size:
            parts, here = [self._data], len(self._data)
            for chunk in self._source:
                parts.append(memoryview(chunk))
                here += len(chunk)
                if here >= size + REACH // 2:
                    break
            self._data = memoryview(b"".join(parts))
        return len(self._data)

    def _skip(self, size: int) -> None:
        self._data = self._data[size:]


def _signposts(older: Blocks) -> list[int]:
    """The blocks that one may know by their beginning: it is not monotonous, and no other begins so."""
    seen: dict[bytes, int] = {}
    for number in range(len(older)):
        sample = older.sample(number)
        seen[sample] = -1 if sample in seen or len(set(sample)) < 4 else number
    return sorted(number for number in seen.values() if number >= 0)


def _digest(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()[:DIGEST]
