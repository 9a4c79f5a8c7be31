"""Who a command of the embedded machine runs as: its home, its shell, its environment."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import devsync
from devsync.machine.embedded_process import MARK, Command, Size
from devsync.machine.embedded_state import USER

_KEPT = ("LANG", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Account:
    """The machine's only account. `mark` is how its processes are known."""

    home: Path
    mark: str

    def command(self, line: str, environment: Mapping[str, str], terminal: Size | None) -> Command:
        """A command line, as `ssh host LINE` has it run."""
        return self._command("/bin/sh", ["/bin/sh", "-c", line], environment, terminal)

    def login(self, environment: Mapping[str, str], terminal: Size | None) -> Command:
        """A login shell."""
        shell = self._entry()[1]
        return self._command(shell, ["-" + os.path.basename(shell)], environment, terminal)

    def sftp(self) -> Command:
        """The SFTP server, on the standard streams of a process."""
        # -P keeps the home folder off the module path, -S makes the start quick.
        arguments = [sys.executable, "-P", "-S", "-s", "-m", "devsync.machine.embedded_sftp"]
        package = Path(devsync.__file__).parent.parent
        return self._command(sys.executable, arguments, {"PYTHONPATH": str(package)}, None)

    def _command(
        self, program: str, arguments: list[str], environment: Mapping[str, str], terminal: Size | None
    ) -> Command:
        return Command(program, arguments, {**self._environment(), **environment}, str(self.home), terminal)

    def _environment(self) -> dict[str, str]:
        """As after a login: of this process's own only the language, the time zone and the path."""
        name, shell = self._entry()
        kept = {key: value for key, value in os.environ.items() if key in _KEPT or key.startswith("LC_")}
        return {
            **kept,
            "HOME": str(self.home),
            "USER": name,
            "LOGNAME": name,
            "SHELL": shell,
            # First the Python that runs this, so that `python3` is there, and what its environment holds.
            "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", os.defpath),
            MARK: self.mark,
        }

    @staticmethod
    def _entry() -> tuple[str, str]:
        """The name and the shell that the system has for this user."""
        try:
            entry = pwd.getpwuid(os.getuid())
        except KeyError:
            return USER, "/bin/sh"
        return entry.pw_name, entry.pw_shell if os.access(entry.pw_shell, os.X_OK) else "/bin/sh"
