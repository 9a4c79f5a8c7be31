"""TOML files against tables of records: the values that are right, and every problem with its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from devsync.ports import Misuse
from devsync.settings.lines import Key, locate
from devsync.settings.schema import called, did_you_mean, is_called, settings_of

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: the file as people know it, the line counted from 1."""

    file: str
    line: int


class Settings:
    """What one or more files say, a later one overruling an earlier one.

    `tables` maps the name of each table to the record whose fields are its keys; those in `arrays` are
    written [[name]]. A key is a tuple of names, ("tunnel", 1, "local") for one in an array.
    """

    def __init__(self, tables: Mapping[str, type], arrays: Collection[str]) -> None:
        self._tables = tables
        self._arrays = arrays
        self._settings = {
            f"{table}.{name}": one
            for table, record in tables.items()
            for name, one in settings_of(record).items()
        }
        self._values: dict[Key, Any] = {}  # of a hundred types; the kinds have checked them
        self._wrong: set[Key] = set()
        self._places: dict[Key, Place] = {}
        self._problems: list[tuple[Place, str]] = []
        self.readable = True

    # ------------------------------------------------------------ reading

    def add(self, path: Path, label: str, *, shared: bool = False) -> None:
        """Read a file that people know as `label`. `shared`: it speaks for every project, if it is there."""
        import tomllib

        top = Place(label, 1)
        self._places[()] = top
        text = ""
        try:
            text = path.read_bytes().decode("utf-8")
            self._take(tomllib.loads(text), text, label, shared)
        except OSError as error:
            if not (shared and isinstance(error, FileNotFoundError)):
                self._unreadable(top, f"cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self._unreadable(Place(label, line), "not valid TOML: the text is not UTF-8")
        except tomllib.TOMLDecodeError as error:
            self._unreadable(*_syntax_problem(label, text, str(error)))
        except RecursionError:
            self._unreadable(top, "is nested too deeply")

    def give(self, values: Mapping[str, object]) -> None:
        """Overrule what files say; the keys are dotted. Raises Misuse for a value that is wrong."""
        for dotted, value in values.items():
            key = tuple(dotted.split("."))
            try:
                self._values[key] = self._settings[dotted].kind.read(value)
            except ValueError as error:
                raise Misuse(f"{dotted}: {error}") from None
            self._wrong.discard(key)

    def _take(self, document: Mapping[str, object], text: str, label: str, shared: bool) -> None:
        for name in self._arrays & document.keys():
            self._forget(name)
        self._places |= {key: Place(label, line) for key, line in locate(text).items()}
        self._walk(document, (), shared)

    def _unreadable(self, place: Place, text: str) -> None:
        """What the file says is not known, so that nothing can be missed in it, either."""
        self._problems.append((place, text))
        self.readable = False

    def _forget(self, array: str) -> None:
        """An array replaces the one of an earlier file, it does not continue it."""
        for found in (self._values, self._places):
            for key in [key for key in found if key[:1] == (array,)]:
                del found[key]

    def _walk(self, table: Mapping[str, object], above: Key, shared: bool) -> None:
        for name, value in table.items():
            key = (*above, name)
            dotted = _dotted(key)
            if dotted in self._settings:
                self._read(key, dotted, value, shared)
            elif dotted in self._arrays:
                self._walk_array(key, value, shared)
            elif isinstance(value, dict) and (dotted in self._tables or value):
                self._walk(value, key, shared)
            elif dotted in self._tables:
                self.problem(key, f"must be a table, written [{dotted}], not {is_called(value)}")
            else:
                known = [*self._settings, *self._tables]
                self.problem(key, f"unknown key{did_you_mean(dotted, known)}")

    def _walk_array(self, key: Key, value: object, shared: bool) -> None:
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.problem(key, f"must be written [[{_dotted(key)}]], once for each")
            return
        self._values[key] = len(value)
        for index, table in enumerate(value):
            self._walk(table, (*key, index), shared)

    def _read(self, key: Key, dotted: str, value: object, shared: bool) -> None:
        setting = self._settings[dotted]
        if shared and not setting.shared:
            self.problem(key, "belongs to one project, and cannot be a default for every project")
            return
        try:
            self._values[key] = setting.kind.read(value)
            self._wrong.discard(key)
        except ValueError as error:
            self.problem(key, str(error))

    # ------------------------------------------------------------ asking

    def get(self, *key: str | int) -> Any:  # the caller knows the kind
        """The value that was given, else the default; None if there is none or what is there is wrong."""
        if key in self._values:
            return self._values[key]
        setting = self._settings.get(_dotted(key))
        if setting is None or setting.default is None or key in self._wrong:
            return None
        return setting.kind.read(setting.default)

    def given(self, *key: str | int) -> bool:
        """Whether a file says something about it, right or wrong."""
        return key in self._values or key in self._wrong

    def record(self, record: type[R], *table: str | int, **rest: object) -> R:
        """A record of the given values and, where there are none, `rest` and its own defaults."""
        given = {
            name: self._values[*table, name] for name in settings_of(record) if (*table, name) in self._values
        }
        return record(**(rest | given))

    # ------------------------------------------------------------ problems

    def problem(self, key: Key, text: str) -> None:
        """Note what is wrong with a key, or with the lack of it."""
        self._wrong.add(key)
        near = key
        while near not in self._places:
            near = near[:-1]
        self._problems.append((self._places[near], f"{_dotted(key)}: {text}"))

    def stop_at_problems(self, message: str) -> None:
        """Raise Misuse if there are any: `message`, then a line for each."""
        if self._problems:
            ordered = sorted(self._problems, key=lambda problem: (problem[0].file, problem[0].line))
            lines = [f"{place.file}:{place.line}: {text}" for place, text in ordered]
            raise Misuse("\n".join([message, *lines]))


def _dotted(key: Key) -> str:
    return ".".join(called(name) for name in key if isinstance(name, str))


def _syntax_problem(label: str, text: str, message: str) -> tuple[Place, str]:
    """tomllib puts the line into its message; the line itself names the key."""
    match = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", message, re.DOTALL)
    what, number = (match[1], match[2]) if match else (message, None)
    lines = text.splitlines() or [""]
    line = min(int(number), len(lines)) if number else len(lines)
    shown = lines[line - 1].strip()
    return Place(label, line), f"not valid TOML: {what[:1].lower()}{what[1:]}" + (
        f": {shown}" if shown else ""
    )
