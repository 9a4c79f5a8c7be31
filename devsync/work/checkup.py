"""Asks the machine what `devsync doctor` wants to know of it, in the user's own environment there."""

from __future__ import annotations

from devsync.core.checkup import Facts, facts
from devsync.core.jobs import Order
from devsync.ports import Connection, DevsyncError
from devsync.work.command import Surroundings, command_line

LONGEST = 1 << 20
"""Bytes of an answer; whoever says more is not believed."""

# Each line is asked for with a limit of its own: a driver that hangs must not take the rest with it.
_SCRIPT = r"""
say() { printf 'check-%s=%s\n' "$1" "$2"; }
within() { if command -v timeout >/dev/null; then timeout "$@"; else shift; "$@"; fi; }
say time "$(date +%s)"
say python "$(within 10 python3 -c 'import platform; print(platform.python_version())' 2>/dev/null)"
folder=$1; while [ ! -d "$folder" ]; do folder=$(dirname -- "$folder"); done
say free "$(df -Pk -- "$folder" 2>/dev/null | awk 'NR == 2 { print $4 }')"
[ -r /proc/sys/fs/inotify/max_user_watches ] && say watches "$(cat /proc/sys/fs/inotify/max_user_watches)"
if command -v nvidia-smi >/dev/null; then
  if gpu=$(within 15 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1)
  then say gpu "$(printf %s "$gpu" | tr '\n' ';')"
  else say gpu-error "$(printf %s "${gpu:-it does not answer}" | tr '\n' ' ')"; fi
fi
has() { python3 -c 'import importlib.util as u, sys
sys.exit(not u.find_spec(sys.argv[1]))' "$1" 2>/dev/null; }
if has torch; then say torch "$(within 60 python3 -c 'import torch
print(torch.__version__, "gpu" if torch.cuda.is_available() else "cpu")' 2>/dev/null)"; fi
export TF_CPP_MIN_LOG_LEVEL=3
if has tensorflow; then say tensorflow "$(within 60 python3 -c 'import tensorflow as t
print(t.__version__, "gpu" if t.config.list_physical_devices("GPU") else "cpu")' 2>/dev/null)"; fi
if command -v jupyter >/dev/null; then
  say jupyter "$(within 20 jupyter --version 2>/dev/null |
    awk '/jupyterlab|notebook/ { print $1, $3 }' | tr '\n' ';')"
fi
exit 0
"""


def ask(connection: Connection, folder: str, around: Surroundings) -> Facts:
    """The machine's facts. `around` has the home as its folder: the project's own may not exist yet.

    Raises Unavailable; DevsyncError if the login environment cannot be had.
    """
    place = folder.replace("~", "$HOME", 1) if folder.startswith("~") else folder
    script = f'set -- "{_escaped(place)}"\n{_SCRIPT}'
    process = connection.exec(command_line(around, Order(("/bin/sh", "-c", script)), buffered=True))
    try:
        answer = bytearray()
        while len(answer) < LONGEST and (chunk := process.recv(65536)):
            answer += chunk
        complaint = process.recv_stderr(65536)
        if process.wait() == 125:
            said = complaint.decode("utf-8", "replace").strip().splitlines()
            why = said[-1].removeprefix("devsync: ") if said else "it ended before the command"
            raise DevsyncError(
                f"the login shell there cannot be used: {why}", hint="see [run] in devsync.toml"
            )
    finally:
        process.close()
    return facts(answer.decode("utf-8", "replace"))


def _escaped(place: str) -> str:
    """As it stands between double quotes, with a leading $HOME left to the shell."""
    head, rest = ("$HOME", place[5:]) if place.startswith("$HOME") else ("", place)
    return head + "".join("\\" + letter if letter in '\\"$`' else letter for letter in rest)
