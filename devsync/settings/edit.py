"""Sets values in the text of a TOML file and leaves the rest, comments above all, as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from devsync.settings.example import written
from devsync.settings.lines import Key, locate


def with_values(text: str, values: Mapping[str, object]) -> str:
    """`text`, which must be valid TOML, with each dotted key of `values` set.

    A setting that stands there as a comment is put where the comment is. Raises ValueError if the file is
    written in a way that cannot be changed line by line (inline tables, values of several lines).
    """
    import tomllib

    expected = tomllib.loads(text)
    for dotted, value in values.items():
        text = _set(text, tuple(dotted.split(".")), value)
        _put(expected, dotted.split("."), value)
    try:
        right = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise ValueError("it is not written one setting a line")
    return text


def _set(text: str, key: Key, value: object) -> str:
    lines = text.splitlines()
    known = locate(text)
    name, table = str(key[-1]), ".".join(str(part) for part in key[:-1])
    setting = f"{name} = {written(value)}"
    if key in known:
        at = known[key] - 1
        lines[at] = _replaced(lines[at], setting)
        return "\n".join(lines) + "\n"
    header = known.get(key[:-1])
    if header is None or not re.match(rf"\s*\[\s*{re.escape(table)}\s*\]", lines[header - 1]):
        gap = [""] if lines else []
        return "\n".join([*lines, *gap, f"[{table}]", setting]) + "\n"
    for at in range(header, len(lines)):
        if re.match(r"\s*\[", lines[at]):
            break
        if re.match(rf"\s*#\s*{re.escape(name)}\s*=", lines[at]):
            lines[at] = _replaced(re.sub(r"^\s*#\s*", "", lines[at]), setting)
            return "\n".join(lines) + "\n"
    return "\n".join([*lines[:header], setting, *lines[header:]]) + "\n"


def _replaced(line: str, setting: str) -> str:
    """The line with another value; a comment behind it stays, at its column if there is room."""
    comment = re.match(r"""[^"'#]*=\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^"'#]*?)\s*(#.*)$""", line)
    indent = line[: len(line) - len(line.lstrip())]
    if comment is None:
        return indent + setting
    return f"{(indent + setting):<{max(comment.start(1) - 2, 0)}}  {comment[1]}"


def _put(document: dict[str, Any], names: list[str], value: object) -> None:
    for name in names[:-1]:
        document = document.setdefault(name, {})
    document[names[-1]] = value
