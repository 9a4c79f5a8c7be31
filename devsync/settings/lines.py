"""Where things stand in a TOML document: the line of every table, key and array element.

`tomllib` tells what a document says, not where. This looks at a document that `tomllib` has already
accepted, so it only has to find its way, not to judge.
"""

from __future__ import annotations

import re

Key = tuple[str | int, ...]
"""The way to a value: keys, and for elements of arrays their index: ("tunnel", 1, "local")."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}\r\n#]*")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}'
    r"|'''(?:[^']|'(?!''))*'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)


def locate(text: str) -> dict[Key, int]:
    """The line, counted from 1, of all that `text` defines; `text` must be valid TOML."""
    return _Scanner(text.replace("\r\n", "\n")).scan()


class _Scanner:
    """One walk over a document, from the first character to the last."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Key, int] = {}
        self._tables: dict[Key, int] = {}  # how many tables each [[array]] has so far

    def scan(self) -> dict[Key, int]:
        table: Key = ()
        while self._skip_blank():
            if self._next("["):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> Key:
        """[table] or [[array]]; a name that runs through an array means its last element."""
        here = self._at
        array = self._take("[") and self._take("[")
        names = self._key()
        parents = self._resolve(names[:-1])
        path = (*parents, names[-1])
        for depth in range(1, len(parents) + 1):
            self._mark(parents[:depth], here)
        if array:
            self._mark(path, here)
            path = (*path, self._tables.get(path, 0))
            self._tables[path[:-1]] = self._tables.get(path[:-1], 0) + 1
            self._take("]")
        self._take("]")
        self._mark(path, here, again=True)
        return path

    def _resolve(self, names: list[str]) -> Key:
        path: Key = ()
        for name in names:
            path = (*path, name)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        return path

    def _pair(self, table: Key) -> None:
        here = self._at
        names = self._key()
        for depth in range(1, len(names) + 1):
            self._mark((*table, *names[:depth]), here)
        self._take("=")
        self._skip_blank()
        self._value((*table, *names))

    def _value(self, path: Key) -> None:
        if self._next("["):
            self._array(path)
        elif self._next("{"):
            self._take("{")
            while self._skip_blank() and not self._take("}"):
                self._pair(path)
                self._take(",")
        elif not self._match(_STRING):
            self._match(_SCALAR)

    def _array(self, path: Key) -> None:
        self._take("[")
        index = 0
        while self._skip_blank() and not self._take("]"):
            self._mark((*path, index), self._at)
            self._value((*path, index))
            self._take(",")
            index += 1

    def _key(self) -> list[str]:
        """`a."b.c".d`, each name as it means, not as it is written."""
        names = []
        while True:
            self._skip_blank()
            written = self._match(_BARE_KEY)
            names.append(written or _meaning(self._match(_STRING)))
            if not self._take("."):
                return names

    def _mark(self, path: Key, at: int, *, again: bool = False) -> None:
        """Note where `path` is defined first; its own header counts more than a sub-table's."""
        if again or path not in self._lines:
            self._lines[path] = self._text.count("\n", 0, at) + 1

    def _skip_blank(self) -> bool:
        """Step over white space and comments; whether anything is left."""
        self._match(_BLANK)
        return self._at < len(self._text)

    def _next(self, character: str) -> bool:
        return self._text.startswith(character, self._at)

    def _take(self, character: str) -> bool:
        self._skip_blank()
        found = self._next(character)
        self._at += found
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()


def _meaning(quoted: str) -> str:
    """The text that a quoted key stands for."""
    import tomllib

    value = tomllib.loads(f"key = {quoted}")["key"]
    assert isinstance(value, str)
    return value
