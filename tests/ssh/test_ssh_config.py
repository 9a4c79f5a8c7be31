"""What an ssh_config says: paramiko reads it, and is lighter for all but one of its keywords."""

from __future__ import annotations

import subprocess
import sys


def _told(code: str) -> str:
    """What a Python of its own prints: what is imported is a matter of the process."""
    words = [sys.executable, "-P", "-c", code]
    return subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, text=True, check=True).stdout


def test_match_exec_is_obeyed() -> None:
    text = 'Match exec "exit 0"\n  User ada\nMatch exec "exit 1"\n  User nobody\nHost *\n  Port 77\n'
    ask = "from devsync.ssh.transport import ssh_options; "
    ask += f"f = ssh_options({text!r}, 'h'); print(*map(f.get, ['user', 'port']))"
    assert _told(ask) == "ada 77\n"


def test_without_it_nothing_is_imported_for_it() -> None:
    ask = "import devsync.ssh.transport, sys; print('asyncio' in sys.modules, sys.modules['invoke'])"
    assert _told(ask) == "False None\n"
