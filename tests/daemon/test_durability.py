"""What must be on the disk before what, so that a power failure finds an old or a new state, never a mix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devsync.daemon.engine import LOCAL, REMOTE
from devsync.store import Store
from tests.daemon.rig import Pair


def told(log: list[str], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which leaves its name behind when it is done."""

    def telling(*args: Any, **named: Any) -> Any:
        done = call(*args, **named)
        log.append(name)
        return done

    return telling


@pytest.mark.parametrize("writer", [LOCAL, REMOTE])
def test_20_the_intent_is_kept_before_the_change_and_the_ancestor_after_it(
    pair: Pair, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.agree(a="first", b="b")
    source, target = (pair.local, pair.remote) if writer == LOCAL else (pair.remote, pair.local)
    log: list[str] = []
    for place, name in ((pair.store, "begin"), (target, "apply"), (pair.store, "settle")):
        monkeypatch.setattr(place, name, told(log, name, getattr(place, name)))
    pair.write(source, "a", "second version")
    del source.entries["b"]
    assert pair.cycle().complete
    assert log == ["begin", "apply", "settle"]


def test_20_what_the_store_has_taken_is_on_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "project.db")
    modes = [store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]
    assert modes == [2, "wal"], "FULL: each transaction is synchronised before it is over"
    store.close()
