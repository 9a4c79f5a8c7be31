"""Keeps credentials from being mirrored by accident: looks at what is about to travel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from os.path import commonpath

from devsync.core import secrets
from devsync.core.snapshot import Change, Digest, File, Leaf, RelPath
from devsync.ports import ContentChanged, Replica

MANY = 100
"""So many contents that git is asked before they are looked at, not after a find."""

FEW = 10
"""So many paths that are held back for one reason are named one by one."""


def _nothing() -> Collection[RelPath]:
    return ()


class Guard:
    """Says which contents are not to travel, and why.

    `allowed` tells the paths that may all the same, `tracked` the paths that git keeps: whoever has the
    repository has their contents, so only their names can hold them back.
    """

    def __init__(
        self, allowed: Callable[[RelPath], bool], tracked: Callable[[], Collection[RelPath]] = _nothing
    ) -> None:
        self._allowed, self._tracked = allowed, tracked

    def held(
        self,
        leaving: Sequence[Change],
        coming: Sequence[Change],
        agreed: Mapping[RelPath, Leaf],
        local: Replica,
    ) -> dict[RelPath, str]:
        """Of changes that bring a content to the machine, or here: path -> why it is held back.

        A name holds a file back in both directions, unless it is on both sides already. A content
        is only looked at where it would leave this computer, git does not keep the file, and it is
        not allowed anyway.
        """
        reasons = {
            change.path: reason
            for change in (*leaving, *coming)
            if change.path not in agreed
            and (reason := secrets.by_name(change.path))
            and not self._allowed(change.path)
        }
        unsuspected = [
            change for change in leaving if change.path not in reasons and not self._allowed(change.path)
        ]
        reasons.update(self._by_content(unsuspected, local))
        return {
            path: f"looks like a credential ({reason}): not mirrored; "
            "name it in sync.allow_secrets if it shall be"
            for path, reason in reasons.items()
        }

    def _by_content(self, changes: list[Change], local: Replica) -> dict[RelPath, str]:
        if len(changes) > MANY:
            kept = self._tracked()
            return _by_content([change for change in changes if change.path not in kept], local)
        found = _by_content(changes, local)
        kept = self._tracked() if found else ()
        return {path: reason for path, reason in found.items() if path not in kept}


def _by_content(changes: Iterable[Change], local: Replica) -> dict[RelPath, str]:
    files = {change.path: change.new for change in changes if isinstance(change.new, File)}
    heads = _Heads()
    # RACE: a file that changes after this and before it is read again has another digest, and is refused.
    local.supply([*{file.digest: (path, file) for path, file in files.items()}.values()], heads)
    return {path: heads.found[file.digest] for path, file in files.items() if file.digest in heads.found}


def summed(held: Mapping[RelPath, str]) -> dict[RelPath, str]:
    """The same for people: many paths with one reason are one line, under the folder that holds them all."""
    alike: dict[str, list[RelPath]] = {}
    for path, why in held.items():
        alike.setdefault(why, []).append(path)
    few: dict[RelPath, str] = {}
    for why, paths in alike.items():
        if len(paths) > FEW:
            few[commonpath([path.rpartition("/")[0] for path in paths]) + "/"] = why
        else:
            few.update(dict.fromkeys(paths, why))
    return few


class _Heads:
    """A staging that judges the beginning of each content, and keeps only what it has found."""

    def __init__(self) -> None:
        self.found: dict[Digest, str] = {}

    def put(self, file: File, chunks: Iterable[bytes]) -> None:
        head = b""
        try:
            for chunk in chunks:
                head += chunk
                if len(head) >= secrets.HEAD:
                    break
        except (ContentChanged, OSError):
            pass  # it cannot travel as it is, either
        if reason := secrets.by_content(head):
            self.found[file.digest] = reason

    def finish(self) -> Mapping[Digest, str]:
        return {}
