"""Where the project is, and where devsync keeps its own files on this computer: defaults, state, socket."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from devsync.ports import DevsyncError, Misuse

FILE_NAME = "devsync.toml"

SOCKET_LIMIT = 100
"""Bytes. Linux takes 107 in the address of a Unix socket, macOS 103."""


def find_project(start: Path) -> Path:
    """The nearest folder, from `start` upwards, that holds a devsync.toml. Raises Misuse."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if os.path.isfile(folder / FILE_NAME):
            return folder
    raise Misuse(f"no {FILE_NAME} here or in any parent folder: {start}", hint="`devsync init` writes one")


def home(environ: Mapping[str, str]) -> Path:
    """The user's home folder."""
    return Path(environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir)


def expand(path: Path, below: Path, environ: Mapping[str, str]) -> Path:
    """An absolute path: `~` is the home folder, what is relative is so to `below`."""
    if path.parts[:1] == ("~",):
        return home(environ).joinpath(*path.parts[1:])
    return below / path


def user_file(environ: Mapping[str, str]) -> Path:
    """The file with the defaults for every project; it need not be there."""
    above = environ.get("XDG_CONFIG_HOME", "")
    folder = Path(above) if os.path.isabs(above) else home(environ) / ".config"
    return folder / "devsync" / "config.toml"


def state_home(environ: Mapping[str, str]) -> Path:
    """The folder above the state of every project; it need not be there."""
    told = environ.get("DEVSYNC_STATE_DIR")
    if told:
        return Path(told).absolute()
    import platformdirs

    return platformdirs.user_state_path("devsync")


def state_dir(root: Path, environ: Mapping[str, str]) -> Path:
    """The folder for the state of the project at `root`: one for each real path, however it is reached.

    It is made if it is missing, and nobody else can look into it. Raises DevsyncError if that cannot be.
    """
    real = os.path.realpath(root)
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(real))[:40].strip("-.") or "project"
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return _private(state_home(environ) / f"{readable}-{digest}")


def socket_path(state: Path, environ: Mapping[str, str]) -> Path:
    """Where the daemon of the project with this state folder listens: short enough for any system.

    Where the state folder's own path is too long, the socket is in a private folder with a random name,
    to which a link in the state folder leads, so that every process finds the same one.
    """
    direct = state / "control.sock"
    if _fits(direct):
        return direct
    link = state / "socket-folder"
    with open(state / "socket-folder.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # RACE: two that make the folder at once would not meet in it
        folder = _linked(link)
        if folder is None:
            folder = _short_folder(environ)
            link.unlink(missing_ok=True)
            link.symlink_to(folder)
    return folder / "control.sock"


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= SOCKET_LIMIT


def _linked(link: Path) -> Path | None:
    """Where the link leads, if that is still there, and ours alone."""
    try:
        folder = Path(os.readlink(link))
        about = folder.lstat()
    except OSError:
        return None
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077
    return folder if ours and _fits(folder / "control.sock") else None


def _short_folder(environ: Mapping[str, str]) -> Path:
    import tempfile

    for above in (environ.get("XDG_RUNTIME_DIR"), environ.get("TMPDIR"), "/tmp"):  # noqa: S108 - mkdtemp is private
        if (
            above
            and os.access(above, os.W_OK | os.X_OK)
            and _fits(Path(above) / "devsync-12345678/control.sock")
        ):
            return Path(tempfile.mkdtemp(prefix="devsync-", dir=above))
    raise DevsyncError(
        "found no folder for the control socket", hint="set XDG_RUNTIME_DIR to a folder with a short path"
    )


def _private(folder: Path) -> Path:
    """Make sure that `folder` is there, is ours, and is closed to others."""
    mine = "set DEVSYNC_STATE_DIR to a folder of your own"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            raise DevsyncError(f"the state folder is not a folder of yours: {folder}", hint=mine)
        if about.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise DevsyncError(f"cannot use the state folder: {folder}: {error.strerror}", hint=mine) from error
    return folder
