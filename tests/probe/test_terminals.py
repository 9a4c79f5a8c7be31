"""A line in a real terminal of the user's, which is no work."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator

import pytest

from devsync.probe import terminals
from devsync.probe.view import View

LONG_AGO = 1_700_000_000 * 10**9


@pytest.fixture
def shell() -> Iterator[tuple[int, str]]:
    """What somebody sees, and the terminal of a shell that does nothing."""
    import fcntl
    import termios

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["sh", "-c", "read line"],
        stdin=theirs,
        stdout=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0),
    )
    try:
        yield ours, os.ttyname(theirs)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def test_a_line_is_shown_and_leaves_no_trace(shell: tuple[int, str]) -> None:
    ours, path = shell
    assert path in terminals.terminals(View())
    os.utime(path, ns=(LONG_AGO, LONG_AGO))
    assert terminals.write(path, "the machine \x1b[2J ends in 5 min")
    assert os.read(ours, 1000).decode().split("\x07")[1].strip() == "the machine ?[2J ends in 5 min"
    assert (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns) == (LONG_AGO, LONG_AGO)


def test_a_terminal_that_is_gone_or_takes_nothing_is_passed_over(shell: tuple[int, str]) -> None:
    _, path = shell
    assert not terminals.write("/dev/pts/none", "hello")
    while terminals.write(path, "x" * 400):
        pass  # nobody reads: sooner or later it is full, and is not waited for
