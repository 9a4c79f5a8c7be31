"""What the commands print: data on stdout, everything for people on stderr."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode's categories of what would act on a terminal, or cannot be seen or encoded: control,
direction, surrogate, private, line and paragraph separator."""


def printable(text: str, *, keep: str = "") -> str:
    """`text` with everything escaped that is no visible character, except what is in `keep`.

    Names come from the other side, and a terminal obeys what it is shown.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in keep or unicodedata.category(letter) not in _HIDDEN else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as os.fsdecode shows it
        return f"\\x{code - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")


def note(text: str) -> None:
    """A line for people, on stderr."""
    print(printable(text, keep="\n\t"), file=sys.stderr, flush=True)


def failure(message: str, hint: str = "") -> None:
    """What went wrong and, after a blank line, what to do."""
    note(f"devsync: {message}" + (f"\n\nhint: {hint}" if hint else ""))


def data(text: str) -> None:
    """A line of what was asked for, on stdout."""
    print(printable(text, keep="\t"))


def document(value: object) -> None:
    """The one JSON document of `--json`, on stdout."""
    print(json.dumps(value, indent=2))


def moment(stamp: str) -> str:
    """A time of a JSON document, on the clocks of whoever reads: with the day if that is not today."""
    from datetime import datetime

    local = datetime.fromisoformat(stamp).astimezone()
    today = local.date() == datetime.now(local.tzinfo).date()
    return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M}"


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody is looking."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def colours(stream: TextIO) -> bool:
    """Whether colours and bars are welcome: on a terminal that can, unless NO_COLOR is set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> Console:
    """A rich console for tables, bars and screens; imports rich, so ask only when there is much to draw."""
    from rich.console import Console

    return Console(file=stream, no_color=not colours(stream), highlight=False, markup=False, emoji=False)
