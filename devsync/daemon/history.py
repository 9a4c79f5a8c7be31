"""The versions that devsync has replaced or deleted, on both sides: listed and brought back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from devsync.core.snapshot import Change, RelPath, within
from devsync.core.version import Trash, Version
from devsync.daemon.conflicts import shown
from devsync.daemon.engine import LOCAL, REMOTE, Engine
from devsync.ports import DevsyncError


def history(engine: Engine, args: Mapping[str, Any]) -> list[dict[str, object]]:
    """The old versions of `path` and below it, or all of them, the newest first."""
    path = args.get("path")
    found = _versions(engine, None if path is None else str(path), args.get("side"))
    return [
        {
            "path": version.path,
            "version": version.id,
            "side": side,
            "time": _moment(version.time),
            "reason": version.reason,
            "content": shown(version.leaf),
        }
        for side, version in found
    ]


def restore(engine: Engine, args: Mapping[str, Any]) -> dict[str, object]:
    """Bring back a version of `path` on its side, and from there to the other; what is there now goes to
    the trash. Without `version` it is the newest; `side` says in whose trash to look.
    """
    path, wanted, only = str(args["path"]), args.get("version"), args.get("side")
    of_path = [found for found in _versions(engine, path, only) if found[1].path == path]
    chosen = [(side, version) for side, version in of_path if wanted in (None, version.id)]
    if not chosen:
        which = f"version {wanted} of {path!r}" if wanted else f"old version of {path!r}"
        raise DevsyncError(f"there is no {which}", hint="devsync history lists what is kept")
    side, version = chosen[0]
    replica = engine.sides[side]
    assert isinstance(replica, Trash)  # its versions were listed
    look = replica.scan({path})
    for problem in look.problems.values():
        raise DevsyncError(f"{path}: {problem}")
    now = look.leaves.get(path)
    leaf = replica.restage(version.id)
    [outcome] = replica.apply([Change(path, now, leaf)])
    if not outcome.done:
        why = outcome.problem or "something is there that is not mirrored, or it has just been changed"
        raise DevsyncError(f"{path} was not brought back: {why}")
    result = engine.cycle({path}, {path})
    return {
        "path": path,
        "version": version.id,
        "side": side,
        "content": shown(leaf),
        "conflict": path in engine.conflicts,
        "problem": result.problems.get(path) or engine.held.get(path),
    }


def _moment(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return None  # a record that something else has written


def _versions(engine: Engine, path: RelPath | None, only: str | None) -> list[tuple[str, Version]]:
    """(side, version), the newest first."""
    found: list[tuple[str, Version]] = []
    for side in (LOCAL, REMOTE):
        replica = engine.sides[side]
        if only not in (None, side):
            continue
        if isinstance(replica, Trash):
            found += [(side, version) for version in replica.versions()]
        elif only == side:
            raise DevsyncError(
                "the machine's old versions cannot be listed without Python there",
                hint="they are in .devsync/trash of its folder",
            )
    chosen = [one for one in found if path is None or within(one[1].path, {path})]
    return sorted(chosen, key=lambda one: -one[1].time)
