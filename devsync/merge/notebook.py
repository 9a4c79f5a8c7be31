"""A program of its own: merges the notebooks `local` and `remote` into `local`, as seen from `base`.

The exit status is 0 if they go together. What people write (cells, their order, sources, metadata) is
merged by nbdime. What a run leaves (outputs, counts, times) belongs to its cell whole and never conflicts:
where both sides ran a cell, the later run stays if the notebook tells both times, else the machine's.
"""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

MEMORY = 4 << 30  # bytes of address space
PROCESSOR = 60  # seconds

WITH_IDS = 5
"""From this minor version of format 4 on cells have ids."""

RUN_METADATA = ("execution", "ExecuteTime", "collapsed", "scrolled", "autoscroll")
ENDED = ("shell.execute_reply", "iopub.status.idle", "iopub.execute_input")
"""What of `execution` tells when a run ended, or was under way; the best first."""

Notebook = dict[str, Any]
Run = dict[str, Any]
"""What a run left in a cell, as in the cell."""

Runs = dict[str, Run]
"""By the names of the cells. What the last kernel said of itself is there, too, under no name."""


def main() -> int:
    """Merge; 0 if `local` holds the result, 1 if there is none, 2 if one is no notebook of format 4."""
    if sys.platform == "linux":  # elsewhere it cannot be limited
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR))
    try:
        three = [_read(Path(name)) for name in ("base", "local", "remote")]
    except ValueError:
        return 2
    merged = merge(three)
    if merged is None:
        return 1
    text = json.dumps(merged, ensure_ascii=False, indent=1, sort_keys=True) + "\n"  # as Jupyter has it
    Path("local").write_text(text, encoding="utf-8")
    return 0


def merge(three: Sequence[Notebook]) -> Notebook | None:
    """What base, local and remote make together; None if they do not go together. They are used up."""
    minor = max(int(one.get("nbformat_minor", 0)) for one in three)
    ids = _name_cells(three)
    runs = [_take_runs(one) for one in three]
    for one in three:
        one["nbformat_minor"] = minor
    merged = _merge_written(*three)
    if merged is None or not _faithful(three, merged):
        return None
    for cell in merged["cells"]:
        _give_run(cell, later(*(run.get(cell["id"]) for run in runs)))
        cell["source"] = cell["source"].splitlines(keepends=True)
        name = cell.pop("id")
        if minor >= WITH_IDS:
            cell["id"] = ids.pop(name, name)
    merged["metadata"].update(later(*(run[""] for run in runs)))
    return merged


def later(base: Run | None, local: Run | None, remote: Run | None) -> Run:
    """Which run of a cell stays. None where there is no such cell."""
    if remote is None or local is None:
        return local or remote or {}
    if local in (base, remote):
        return remote
    if remote == base:
        return local
    here, there = _ended(local), _ended(remote)
    return local if here is not None and there is not None and here > there else remote


def _ended(run: Run) -> datetime | None:
    times = run.get("metadata", {}).get("execution")
    for stamp in ENDED:
        try:
            return datetime.fromisoformat(times[stamp]).astimezone()
        except (KeyError, TypeError, ValueError):
            pass
    return None


def _read(path: Path) -> Notebook:
    """A notebook, with each source as one text. ValueError for anything else."""
    notebook = json.loads(path.read_bytes())
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4:
        raise ValueError("no notebook of format 4")
    try:
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
            dict(cell["metadata"])
        dict(notebook["metadata"])
    except (KeyError, TypeError) as error:
        raise ValueError("no notebook") from error
    return notebook


# ---------------------------------------------------------------- which cells are the same


def _name_cells(three: Sequence[Notebook]) -> dict[str, str]:
    """Make `id` tell which cells are the same, also where they have none, or the same one twice.

    The ids for which other names stand then, by these names.
    """
    ids = [[cell.get("id") for cell in one["cells"]] for one in three]
    if all(len({*names}) == len(names) and all(names) for names in ids):
        return {}
    base, *others = ([(cell.get("cell_type"), cell["source"]) for cell in one["cells"]] for one in three)
    names = [[f"base-{number}" for number in range(len(base))]]
    names += [_names_after(names[0], base, other, prefix) for other, prefix in zip(others, "lr", strict=True)]
    stood: dict[str, str] = {}
    for one, called in zip(three, names, strict=True):
        for cell, name in zip(one["cells"], called, strict=True):
            if cell.get("id") and cell["id"] not in stood.values():
                stood[name] = cell["id"]
            cell["id"] = name
    return stood


def _names_after(names: list[str], base: list[Any], other: list[Any], prefix: str) -> list[str]:
    """Names for the cells of `other`: the base's for what is alike, or alone changed in its place."""
    called = [f"{prefix}-{number}" for number in range(len(other))]
    for _, start, end, first, last in SequenceMatcher(None, base, other, autojunk=False).get_opcodes():
        if end - start == last - first:
            called[first:last] = names[start:end]
    return called


# ---------------------------------------------------------------- what runs leave


def _take_runs(notebook: Notebook) -> Runs:
    """Take out what runs have left."""
    info = notebook["metadata"].pop("language_info", None)
    runs: Runs = {"": {} if info is None else {"language_info": info}}
    for cell in notebook["cells"]:
        if "outputs" not in cell:
            continue
        run = {name: cell[name] for name in ("outputs", "execution_count") if name in cell}
        found = [name for name in RUN_METADATA if name in cell["metadata"]]
        run["metadata"] = {name: cell["metadata"].pop(name) for name in found}
        cell["outputs"], cell["execution_count"] = [], None
        runs[cell["id"]] = run
    return runs


def _give_run(cell: dict[str, Any], run: Run) -> None:
    if "outputs" in cell and run:  # else it is no code any more, or was none
        cell["metadata"].update(run["metadata"])
        cell.update({**run, "metadata": cell["metadata"]})


# ---------------------------------------------------------------- what people write


def _merge_written(base: Notebook, local: Notebook, remote: Notebook) -> Notebook | None:
    if remote in (base, local):
        return local
    if local == base:
        return remote
    from nbdime.diffing.notebooks import diff_notebooks
    from nbdime.merging.decisions import apply_decisions
    from nbdime.merging.generic import decide_merge_with_diff
    from nbdime.utils import Strategies

    # No strategies: what would need one is a conflict.
    ours, theirs = diff_notebooks(base, local), diff_notebooks(base, remote)
    decisions = decide_merge_with_diff(base, local, remote, ours, theirs, Strategies())
    if any(decision.conflict for decision in decisions):
        return None
    merged: Notebook = apply_decisions(base, decisions)
    return merged


def _faithful(three: Sequence[Notebook], merged: Notebook) -> bool:
    """Whether each cell is there that should be, once, with the source that one side alone gave it.

    nbdime finds out by likeness which parts are the same; what it makes of that is believed if the
    cells say so, too.
    """
    before, here, there, after = (
        {cell["id"]: cell["source"] for cell in one["cells"]} for one in (*three, merged)
    )
    if max(Counter(cell["id"] for cell in merged["cells"]).values(), default=1) > 1:
        return False
    kept = {name for name in before if name in here and name in there}
    if after.keys() != kept | (here.keys() - before.keys()) | (there.keys() - before.keys()):
        return False
    for name, source in after.items():
        mine, theirs, old = here.get(name), there.get(name), before.get(name)
        if old in (mine, theirs) and source != (theirs if mine == old else mine):
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
