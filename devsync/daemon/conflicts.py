"""Where both sides differ, and which of them is to be right."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from devsync.core.reconcile import Mode, reconcile
from devsync.core.snapshot import Change, File, Leaf, Link, RelPath
from devsync.daemon.engine import LOCAL, REMOTE, Engine
from devsync.ports import DevsyncError

LONGEST_NAME = 255  # bytes


def shown(leaf: Leaf | None) -> dict[str, object] | None:
    """A leaf for people and programs: digest, size and executable bit of a file, or a link's target."""
    if leaf is None:
        return None
    if isinstance(leaf, Link):
        return {"link": leaf.target}
    return {"digest": leaf.digest, "size": leaf.size, "executable": leaf.executable}


def conflicts(engine: Engine, _args: Mapping[str, Any]) -> list[dict[str, object]]:
    """The open conflicts, as `devsync conflicts --json` prints them."""
    return [
        {"path": path, "kind": one.kind, "local": shown(one.local), "remote": shown(one.remote)}
        for path, one in sorted(engine.conflicts.items())
    ]


def difference(engine: Engine, _args: Mapping[str, Any]) -> list[dict[str, object]]:
    """What differs between the sides now, and what is to become of it, as `devsync diff --json` prints it.

    `change`: to-remote, to-local, merge, conflict, held, unknown or skipped.
    """
    plan = engine.look(None, None)
    here = {change.path: change for change in plan.to_local}
    there = {change.path: change for change in plan.to_remote}
    rows: list[dict[str, object]] = []
    for path in {**here, **there}:
        change = here.get(path) or there[path]
        both = path in here and path in there
        rows.append(
            {
                "path": path,
                "change": "merge" if both else "to-local" if path in here else "to-remote",
                "action": "create" if change.old is None else "delete" if change.new is None else "update",
                "local": shown(here[path].old if path in here else change.new),
                "remote": shown(there[path].old if path in there else change.new),
            }
        )
    rows += [{"change": "conflict", **row} for row in conflicts(engine, {})]
    rows += [{"path": path, "change": "held", "why": why} for path, why in plan.held.items()]
    rows += [{"path": path, "change": "unknown", "why": why} for path, why in engine.unknown.items()]
    rows += [
        {"path": path, "change": "skipped", "why": f"a {kind} {place}"}
        for side, place in ((LOCAL, "here"), (REMOTE, "on the machine"))
        for path, kind in engine.skipped[side].items()
    ]
    return sorted(rows, key=lambda row: str(row["path"]))


def resolve(engine: Engine, args: Mapping[str, Any]) -> list[dict[str, object]]:
    """End the conflicts at `paths`; `keep`: local, remote or both. What loses goes to its side's trash.

    With both, the local version keeps the path, and the machine's is `beside` it on both sides.
    """
    paths, keep = [str(path) for path in args["paths"]], str(args["keep"])
    for path in paths:
        if path not in engine.conflicts:
            raise DevsyncError(f"no conflict is open at {path!r}", hint="devsync conflicts lists them")
    done: list[dict[str, object]] = []
    for path in paths:
        beside = _set_aside(engine, path) if keep == "both" else None
        _decide(engine, path, REMOTE if keep == "remote" else LOCAL)
        done.append({"path": path, "keep": keep, "beside": beside})
    return done


def _decide(engine: Engine, path: RelPath, winner: str) -> None:
    """Make the other side what the winner's side is, at `path` and below it."""
    local, remote = (engine.sides[side].scan({path}) for side in (LOCAL, REMOTE))
    for problem in (*local.problems.values(), *remote.problems.values()):
        raise DevsyncError(f"{path}: {problem}", hint="the conflict is still open")
    first, second = (local, remote) if winner == LOCAL else (remote, local)
    plan = reconcile(engine.ancestor, first, second, Mode.MIRROR, {path})
    if plan.conflicts:
        raise DevsyncError(f"{path}: something else is in the way", hint="move it, then resolve this again")
    if winner == REMOTE:
        plan = replace(plan, to_local=plan.to_remote, to_remote=())
    result = engine.carry_out(plan)
    for why in (*result.problems.values(), *("it has just been changed again" for _ in result.again)):
        raise DevsyncError(f"{path}: {why}", hint="the conflict is still open")
    engine.look({path}, {path})


def _set_aside(engine: Engine, path: RelPath) -> RelPath:
    """Bring the machine's version here under a name of its own, and from here to the machine."""
    remote, local = engine.sides[REMOTE], engine.sides[LOCAL]
    leaf = remote.scan({path}).leaves.get(path)
    if leaf is None:
        raise DevsyncError(
            f"{path}: on the machine there is a folder, which cannot be kept beside a file",
            hint="--keep local or --keep remote",
        )
    beside = name_beside(path, leaf)
    if isinstance(leaf, File):
        staging = local.staging()
        remote.supply([(path, leaf)], staging)
        for why in staging.finish().values():
            raise DevsyncError(f"{path}: {why}", hint="the conflict is still open")
    [outcome] = local.apply([Change(beside, None, leaf)])
    if not outcome.done:
        raise DevsyncError(f"{beside}: {outcome.problem or 'there is such a file already'}")
    engine.cycle({beside}, {beside})
    return beside


def name_beside(path: RelPath, leaf: Leaf) -> RelPath:
    """Where the machine's version of `path` is kept: `name.remote-DIGEST.ext`, a name that fits."""
    folder, slash, name = path.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if not stem:
        stem, dot, ending = name, "", ""
    digest = leaf.digest if isinstance(leaf, File) else hashlib.sha256(_bytes(leaf.target)).hexdigest()
    mark = f".remote-{digest[:8]}{dot}{ending}"
    while len(_bytes(stem + mark)) > LONGEST_NAME and len(stem) > 1:
        stem = stem[:-1]
    return f"{folder}{slash}{stem}{mark}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
