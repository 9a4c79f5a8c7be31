"""The long line, in a process of its own: what it carries must not take turns with whoever measures.

As a program: `python -m benchmarks.line PORT DELAY RATE` prints the port that leads to PORT, and answers
each line of its input with the bytes carried so far; it ends with its input.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.fakes.wan import Wan


class Line:
    """The end of the line that is here."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = self._read()

    def carried(self) -> int:
        """Bytes on all its connections since it was made, both ways."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


@contextmanager
def line(to: int, round_trip: float, rate: float | None) -> Iterator[Line]:
    """A line to the port `to`: seconds there and back, bytes per second, direction and connection."""
    words = [sys.executable, "-m", "benchmarks.line", str(to), str(round_trip / 2), str(rate or 0)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Line(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()  # which ends it


def main() -> None:
    """Be the line."""
    to, delay, rate = sys.argv[1:]
    with Wan(int(to), delay=float(delay), rate=float(rate) or None) as wan:
        print(wan.port, flush=True)
        for _ in sys.stdin:
            print(wan.carried, flush=True)


if __name__ == "__main__":
    main()
