"""No test leaves a thread or a child process behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE = 5.0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts into the background so, and children inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def children() -> set[int]:
    """The processes that this one started and has not waited for (where the system tells)."""
    found: set[int] = set()
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(int(pid) for pid in task.read_text().split())
        except OSError:
            continue  # that thread has just ended
    return found


def _describe(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        command = ""
    return f"{pid} {command or '(ended, not waited for)'}"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a helper keeps for its next start is not left in the home folder of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    threads, processes = set(threading.enumerate()), children()
    yield
    deadline = time.monotonic() + PATIENCE
    for thread in set(threading.enumerate()) - threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = sorted(thread.name for thread in set(threading.enumerate()) - threads)
    assert not left, f"threads were left behind: {', '.join(left)}"
    orphans = sorted(children() - processes)
    assert not orphans, f"processes were left behind: {', '.join(map(_describe, orphans))}"
    assert os.getcwd(), "the current folder is gone"
