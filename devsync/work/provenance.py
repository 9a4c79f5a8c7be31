"""From which state of the project something runs: commit, branch, and the digest of what is not committed."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from pathlib import Path

PATIENCE = 20.0
"""Seconds that git may take for one answer."""

LARGE = 8 * 1024 * 1024
"""Bytes. A new file beyond that counts by its name, size and time, not by its content."""


def origin(root: Path) -> dict[str, str | None]:
    """`commit`, `branch` and `difference`; None for each that git does not tell.

    `difference` is a SHA-256 over the difference to the commit and the files that git does not know, but
    does not ignore either; None if there is nothing of the kind. Equal digests: the same code has run.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    branch = _git(root, "symbolic-ref", "--short", "--quiet", "HEAD")
    return {
        "commit": _line(commit),
        "branch": _line(branch),
        "difference": _difference(root, committed=commit is not None),
    }


def _difference(root: Path, *, committed: bool) -> str | None:
    known = b""
    if committed:
        known = _git(root, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color") or b""
    new = _git(root, "ls-files", *([] if committed else ["--cached"]), "--others", "--exclude-standard", "-z")
    names = sorted(set((new or b"").split(b"\0")) - {b""})
    if not known and not names:
        return None
    digest = hashlib.sha256(known)
    for name in names:
        digest.update(b"\0" + name + b"\0" + _content(os.path.join(os.fsencode(root), name)))
    return digest.hexdigest()


def _content(path: bytes) -> bytes:
    """What a file counts by; a link by its target."""
    try:
        about = os.lstat(path)
        if stat.S_ISLNK(about.st_mode):
            return os.readlink(path)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGE:
            return b"%d %d" % (about.st_size, about.st_mtime_ns)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b"gone"


def _git(root: Path, *words: str) -> bytes | None:
    """What git says; None if it fails, is not there, or takes too long."""
    # Never the user's own hooks and pagers, no lock, and this repository, whatever the environment names.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root), *words]
    clean = ["env", "-u", "GIT_DIR", "-u", "GIT_WORK_TREE", "-u", "GIT_INDEX_FILE", *command]
    try:
        done = subprocess.run(
            clean, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _line(said: bytes | None) -> str | None:
    return os.fsdecode(said).strip() or None if said is not None else None
