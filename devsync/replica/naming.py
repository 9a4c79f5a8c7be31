"""How the file system below a root takes names, asked by making files there. Travels (Python 3.8)."""

from __future__ import annotations

import os
import unicodedata

from devsync.core.names import Naming
from devsync.replica.home import Home, discard

_PROBE = "probe-name-\u00e9"


def probe(home: Home) -> Naming:
    """Make files in the staging folder and see by what other names they answer."""
    try:
        _make(home.tmp, os.fsencode(_PROBE))
        try:
            return Naming(
                folds_case=_exists(home.tmp, _PROBE.upper()[:-1] + _PROBE[-1]),
                normalises=_exists(home.tmp, unicodedata.normalize("NFD", _PROBE)),
                utf8_only=not _can_be(home.tmp, b"probe-name-\xff"),
                longest=os.fpathconf(home.tmp, "PC_NAME_MAX"),
            )
        finally:
            discard(home.tmp, _PROBE)
    except OSError:
        return Naming()  # nothing can be written, so nothing can be taken for something else, either


def _make(folder: int, name: bytes) -> None:
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder))


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _can_be(folder: int, name: bytes) -> bool:
    try:
        _make(folder, name)
        os.unlink(name, dir_fd=folder)
    except OSError:
        return False
    return True
