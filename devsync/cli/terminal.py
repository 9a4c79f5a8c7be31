"""The user's terminal while a program on the machine has it: raw keys, the window's size, signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devsync.ports import Terminal

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""The signals that are meant for the program there."""


def terminal_of(stdin: int) -> Terminal | None:
    """The terminal that the program is to have there: one as here, if here is one on both ends."""
    if not (os.isatty(stdin) and sys.stdout.isatty()):
        return None
    size = os.get_terminal_size(stdin)
    return Terminal(os.environ.get("TERM", "xterm"), size.columns, size.lines)


@contextmanager
def raw(stdin: int, terminal: Terminal | None) -> Iterator[None]:
    """The machine's terminal interprets the keys, so this one must not."""
    if terminal is None:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(stdin)
    tty.setraw(stdin)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


@contextmanager
def passing_on(
    stdin: int,
    terminal: Terminal | None,
    number: Callable[[int], None],
    resized: Callable[[int, int], None],
) -> Iterator[None]:
    """Signals go to `number`, the window's size in columns and rows to `resized`."""

    def measure() -> None:
        size = os.get_terminal_size(stdin)
        resized(size.columns, size.lines)

    before = {one: signal.getsignal(one) for one in (*PASSED_ON, signal.SIGWINCH)}
    for one in PASSED_ON:
        signal.signal(one, lambda caught, _: number(caught))
    if terminal is not None:
        signal.signal(signal.SIGWINCH, lambda *_: measure())
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
