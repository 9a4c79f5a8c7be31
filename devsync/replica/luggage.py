"""What travels to the machine: the sources that the helper needs, and the line that starts them there."""

from __future__ import annotations

import inspect
import json
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import import_module

from devsync import ports
from devsync.replica.channel import HelperChannel

TRAVELLING = (
    "devsync.core.snapshot",
    "devsync.core.ignore",
    "devsync.core.names",
    "devsync.core.version",
    "devsync.replica.walk",
    "devsync.replica.digests",
    "devsync.replica.atomic",
    "devsync.replica.home",
    "devsync.replica.naming",
    "devsync.replica.owner",
    "devsync.replica.codec",
    "devsync.replica.arrival",
    "devsync.replica.delta",
    "devsync.replica.older",
    "devsync.replica.parcel",
    "devsync.replica.packing",
    "devsync.replica.trash",
    "devsync.replica.commit",
    "devsync.replica.tree",
    "devsync.replica.frames",
    "devsync.replica.sums",
    "devsync.replica.wire",
    "devsync.replica.inotify",
    "devsync.replica.helper",
)
"""Every module that travels: Python 3.8, the standard library and one another."""

SYNC = b"\n\x00devsync helper \x01\n"
"""What comes before the first frame. Whatever a login shell says before it is skipped."""

NOISE_LIMIT = 1 << 20  # bytes

TOO_OLD = 96
NO_PYTHON = 127

_PYTHONS = (
    "python3",
    "/usr/bin/python3",
    "/usr/local/bin/python3",
    "/opt/homebrew/bin/python3",
    "/anaconda/bin/python",
    "/anaconda/bin/python3",
    "/opt/conda/bin/python3",
    "/opt/miniconda/bin/python3",
    '"$HOME"/miniconda3/bin/python3',
    '"$HOME"/anaconda3/bin/python3',
    *(f"python3.{minor}" for minor in range(14, 7, -1)),
)

# One line without single quotes, backslashes and exclamation marks, so that every shell hands it on. The
# buffer of one byte never reads ahead, so whoever waits for the next frame may ask the descriptor itself.
_FIRST = (
    "import sys,io,zlib;sys.version_info<(3,8) and sys.exit(96);"
    "i=io.BufferedReader(io.FileIO(0),1);exec(zlib.decompress(i.read(int(i.read(8),16))))"
)

_SECOND = """
import hashlib, importlib.util, json, linecache, marshal, os, sys, time

class Luggage:
    def __init__(self, sources, codes):
        self.sources = sources
        self.codes = codes
    def find_spec(self, name, path=None, target=None):
        if name not in self.sources:
            return None
        spec = importlib.util.spec_from_loader(name, self, is_package=not self.sources[name])
        return spec
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        source, where = self.sources[module.__name__], "<%s>" % module.__name__
        linecache.cache[where] = (len(source), None, source.splitlines(True), where)
        exec(self.codes[module.__name__], module.__dict__)

def compiled(sources, digest):
    cache = os.environ.get("XDG_CACHE_HOME", "")
    folder = os.path.join(cache if os.path.isabs(cache) else os.path.expanduser("~/.cache"), "devsync")
    name = "helper-%s-%s" % (digest, importlib.util.MAGIC_NUMBER.hex())
    codes = kept(os.path.join(folder, name))
    if codes is None:
        codes = {name: compile(text, "<%s>" % name, "exec") for name, text in sources.items()}
        try:
            keep(folder, name, marshal.dumps(codes))
        except OSError:
            pass
    return codes

def kept(path):
    # Whoever could write it could run what he likes here: nobody but this user may.
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            info = os.fstat(file.fileno())
            if info.st_uid != os.geteuid() or info.st_mode & 0o177077 != 0o100000:
                return None
            content = file.read(1 << 24)
    except OSError:
        return None
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    return marshal.loads(content[32:])

def keep(folder, name, content):
    os.makedirs(folder, 0o700, exist_ok=True)
    for old in os.listdir(folder):
        path = os.path.join(folder, old)
        if old.startswith("helper-") and os.lstat(path).st_mtime < time.time() - 30 * 86400:
            os.unlink(path)
    new = os.path.join(folder, "helper-new-%s" % os.urandom(8).hex())
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(hashlib.sha256(content).digest() + content)
    os.rename(new, os.path.join(folder, name))

def start(stdin, packed):
    luggage = json.loads(packed)
    codes = compiled(luggage["sources"], hashlib.sha256(packed.encode("utf-8")).hexdigest()[:32])
    sys.meta_path.insert(0, Luggage(luggage["sources"], codes))
    from devsync.replica.helper import main
    more = {}
    for name in luggage["verbs"]:
        more.update(importlib.import_module(name).VERBS)
    main(stdin, luggage["sync"].encode("ascii"), more)
"""
"""Compiling costs more than all the rest of the start: the code is kept in the user's cache, for a month."""


class NoPython(ports.DevsyncError):
    """The machine has no Python that can run the helper; SFTP alone is left."""


def command_line() -> str:
    """What to run on the machine: finds a Python that is new enough, in any login shell.

    Exit status 127: there is no Python; 96: only ones before 3.8.
    """
    script = (
        f"s={NO_PYTHON}; for p in {' '.join(_PYTHONS)}; do "
        'command -v "$p" >/dev/null 2>&1 || continue; '
        f'"$p" -I -S -B -X utf8 -c "{_FIRST}"; r=$?; '
        f"case $r in {TOO_OLD}) s={TOO_OLD};; 126|{NO_PYTHON}) ;; *) exit $r;; esac; "
        "done; exit $s"
    )
    return f"exec sh -c '{script}'"


@cache
def luggage(verbs: Sequence[tuple[str, tuple[str, ...]]] = ()) -> bytes:
    """What the first line reads. `verbs`: modules with a table VERBS, and the modules each needs."""
    names = [*TRAVELLING, *(name for table, needed in verbs for name in (*needed, table))]
    sources: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        sources.update({".".join(parts[:depth]): "" for depth in range(1, len(parts))})  # packages
        sources[name] = inspect.getsource(import_module(name))
    packed = json.dumps(
        {"sources": sources, "verbs": [table for table, _ in verbs], "sync": SYNC.decode("ascii")}
    )
    program = zlib.compress(f"{_SECOND}\nstart(i, {packed!r})\n".encode(), 9)
    return f"{len(program):08x}".encode("ascii") + program


def start_helper(process: ports.Process, verbs: Sequence[tuple[str, tuple[str, ...]]] = ()) -> HelperChannel:
    """Bring the helper to life in a process that runs `command_line()`, and wait until it lives.

    Raises Unavailable if the link breaks, DevsyncError if there is no Python that can run it.
    """
    channel = begin_helper(process, verbs)
    channel.awake()
    return channel


def begin_helper(process: ports.Process, verbs: Sequence[tuple[str, tuple[str, ...]]] = ()) -> HelperChannel:
    """The same without waiting: it may be asked at once, and whether it lives shows with its first answer."""
    try:
        process.send(luggage(tuple(verbs)))
    except ports.Unavailable:
        pass  # it may have ended before it took everything: then it says why, or the link is lost
    return HelperChannel(process, lambda: _await(process))


def _await(process: ports.Process) -> bytes:
    """Wait for the sync string; what came behind it."""
    seen = b""
    try:
        while SYNC not in seen:
            data = process.recv(1 << 12)
            if not data:
                raise _failure(process)
            seen += data
            if len(seen) > NOISE_LIMIT:
                raise ports.DevsyncError("the machine's login shell talks without end")
    except BaseException:
        process.close()
        raise
    return seen[seen.index(SYNC) + len(SYNC) :]


def _failure(process: ports.Process) -> ports.DevsyncError:
    status = process.wait()
    said = _last_words(process)
    if status == NO_PYTHON:
        return NoPython(
            "the machine has no Python 3",
            hint="install python3 there; without it devsync mirrors by SFTP alone",
        )
    if status == TOO_OLD:
        return NoPython("the machine's Python is older than 3.8", hint="install a newer python3 there")
    return ports.DevsyncError(f"the helper did not start on the machine (exit status {status}): {said}")


def _last_words(process: ports.Process) -> str:
    words = b""
    while len(words) < NOISE_LIMIT:
        data = process.recv_stderr(1 << 12)
        if not data:
            break
        words += data
    lines = words.decode("utf-8", "replace").strip().splitlines()
    return (
        "".join(mark if mark.isprintable() else "?" for mark in lines[-1][:300])
        if lines
        else "it said nothing"
    )


__all__ = [
    "NO_PYTHON",
    "SYNC",
    "TOO_OLD",
    "TRAVELLING",
    "begin_helper",
    "command_line",
    "luggage",
    "start_helper",
]
