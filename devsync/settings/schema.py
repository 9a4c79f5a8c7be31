"""How a setting is described, checked and explained; `devsync.config` says which there are.

A setting is a field of a record, made by `setting(kind, default, doc)`. From the records alone come the
validation, the messages and the written example.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Generic, TypeVar, cast

from devsync.core import quantity

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What a value may be: its name for people, and how it is read (raises ValueError)."""

    name: str
    read: Callable[[object], T]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. `default` is as it would be written; None if there is none, or it depends (see `doc`).

    `example` shows what to write where there is no default; `shared` says whether the key may also
    stand in the defaults for every project; `required`, that a record is not made without it.
    """

    kind: Kind[object]
    default: object
    doc: str
    example: object
    shared: bool
    required: bool


def setting(
    kind: Kind[T],
    default: object,
    doc: str,
    *,
    example: object = None,
    shared: bool = True,
    required: bool = False,
) -> T:
    """A field of a record; the arguments are those of `Setting`."""
    about = {"setting": Setting(cast("Kind[object]", kind), default, doc, example, shared, required)}
    if required:
        return cast("T", field(metadata=about))
    value = None if default is None else kind.read(default)
    return cast("T", field(default=value, metadata=about))


def settings_of(record: type) -> dict[str, Setting]:
    """The settings of a record, by the name of the field."""
    return {part.name: part.metadata["setting"] for part in fields(record) if "setting" in part.metadata}


# ---------------------------------------------------------------- kinds

SLOWEST = 16 << 10
"""Bytes a second below which nothing would get anywhere."""

SHELLS = ("bash", "zsh", "ksh", "dash", "sh")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text in quotes, not {is_called(value)}")
    if not value.strip():
        raise ValueError("is empty")
    if not value.isprintable():
        raise ValueError("holds a control character")
    return value


def _word(value: object) -> str:
    """A text that is safe as part of an address: it cannot be taken for an option, either."""
    text = _text(value)
    if text.startswith("-") or re.search(r"[\s/@]", text):
        raise ValueError(f"has a character that cannot be part of it: '{text}'")
    return text


def _name(value: object) -> str:
    text = _text(value)
    if "/" in text:
        raise ValueError(f"must not contain '/': '{text}'")
    return text


def _shell(value: object) -> str:
    """A shell that understands what devsync gives it to do."""
    text = _text(value)
    if text.rpartition("/")[2] not in SHELLS or text.startswith("-"):
        raise ValueError(f"is none of {', '.join(SHELLS)}, nor a path to one: '{text}'")
    return text


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"must be a list of texts in brackets, not {is_called(value)}")
    return tuple(_text(one) for one in value)


def _url(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"https://[^\s/?#@]+/?", text):
        raise ValueError(f"must be https:// and the name of a host: '{text}'")
    return text.rstrip("/")


def _local_path(value: object) -> Path:
    return Path(_text(value))


def _remote_folder(value: object) -> str:
    """A folder on the machine that nobody will miss if it is made the project's own."""
    text = _text(value)
    if not text.startswith(("/", "~/")) and text != "~":
        raise ValueError(f"must begin with '/' or '~/': '{text}'")
    if ".." in text.split("/"):
        raise ValueError(f"must not contain '..': '{text}'")
    plain = posixpath.normpath("/" + text.lstrip("/")) if text.startswith("/") else posixpath.normpath(text)
    if plain in ("/", "~"):
        raise ValueError(
            f"must be a folder of its own, not {'the whole disk' if plain == '/' else 'the home folder'}"
        )
    if plain == "/mnt" or plain.startswith("/mnt/"):
        raise ValueError(
            f"must not be below /mnt, Azure's temporary disk, which deallocation empties: '{text}'"
        )
    return text.rstrip("/")


def _port(lowest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"must be a number without quotes, not {is_called(value)}")
        if not lowest <= value <= 65535:
            raise ValueError(f"must be from {lowest} to 65535, not {value}")
        return value

    return read


def _duration(*, positive: bool) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError(f'must be written with its unit and in quotes, such as "45m", not {value}')
        text = _text(value)
        try:
            seconds = quantity.duration(text)
        except ValueError as error:
            raise ValueError(f"'{text}' {error}") from None
        if positive and not seconds:
            raise ValueError("must be longer than nothing")
        return seconds

    return read


def _duration_or_never(value: object) -> float | None:
    return None if value in ("never", "off") else _duration(positive=True)(value)


def _time_of_day(value: object) -> float | None:
    return None if value == "off" else _measured(value, quantity.time_of_day)


def _hours(value: object) -> tuple[float, float] | None:
    return None if value == "off" else _measured(value, quantity.hours)


def _measured(value: object, read: Callable[[str], T]) -> T:
    text = _text(value)
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"'{text}' {error}") from None


def _share(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'must be written as a percentage in quotes, such as "10%", not {value}')
    text = _text(value)
    try:
        return quantity.share(text)
    except ValueError as error:
        raise ValueError(f"'{text}' {error}") from None


def _percent(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError(f"must be a number without quotes, not {is_called(value)}")
    if not 0 <= value <= 100:
        raise ValueError(f"must be from 0 to 100, not {value}")
    return float(value)


def _size(value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError(f'must be written with its unit and in quotes, such as "2GiB", not {value}')
    text = _text(value)
    try:
        return quantity.size(text)
    except ValueError as error:
        raise ValueError(f"'{text}' {error}") from None


def _rate(value: object) -> int:
    rate = _size(value)
    if rate < SLOWEST:
        raise ValueError("must be 16KiB (a second) or more")
    return rate


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {is_called(value)}")
    return value


def choice(*words: str) -> Kind[str]:
    """One of a few words."""

    def read(value: object) -> str:
        text = _text(value)
        if text not in words:
            known = ", ".join(words)
            raise ValueError(f"'{text}' is none of {known}{did_you_mean(text, words)}")
        return text

    return Kind("one of " + ", ".join(f'`"{word}"`' for word in words), read)


TEXT = Kind("text", _text)
NAME = Kind("text", _name)
WORD = Kind("text", _word)
SHELL = Kind("shell", _shell)
SWITCH = Kind("true or false", _switch)
TEXTS = Kind("list of texts", _texts)
URL = Kind("URL", _url)
LOCAL_PATH = Kind("path on this computer", _local_path)
REMOTE_FOLDER = Kind("folder on the machine", _remote_folder)
PORT = Kind("port, 1 to 65535", _port(1))
FREE_PORT = Kind("port, 0 to 65535", _port(0))
PAUSE = Kind("duration, 0 or longer", _duration(positive=False))
DURATION = Kind("duration", _duration(positive=True))
DURATION_OR_NEVER = Kind('duration, or `"never"`', _duration_or_never)
DURATION_OR_OFF = Kind('duration, or `"off"`', _duration_or_never)
TIME_OF_DAY_OR_OFF = Kind('time of day, or `"off"`', _time_of_day)
HOURS_OR_OFF = Kind('hours, or `"off"`', _hours)
SHARE = Kind("percentage", _share)
PERCENT = Kind("number, 0 to 100", _percent)
SIZE = Kind("size", _size)
RATE = Kind("size (a second)", _rate)


# ---------------------------------------------------------------- words for people


def called(key: str) -> str:
    """A key as it can be shown and written: quoted where TOML wants it quoted."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", key):
        return key
    return '"' + key.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def is_called(value: object) -> str:
    names: Mapping[type, str] = {bool: "true or false", list: "a list", dict: "a table", str: "a text"}
    return names.get(type(value), str(value))


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`, did you mean 'right'?`, or nothing if nothing is near."""
    import difflib  # only a mistake pays for it

    known = list(known)
    last = wrong.rpartition(".")[2]
    alike = [one for one in known if one.rpartition(".")[2] == last]  # the right key in the wrong table
    near = difflib.get_close_matches(wrong, alike, 1, cutoff=0) or difflib.get_close_matches(wrong, known, 1)
    return f", did you mean '{near[0]}'?" if near else ""
