"""devsync under the user's own systemd: writes the unit, and asks systemctl about a project's instance."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from devsync.folders import home
from devsync.ports import DevsyncError

UNIT = "devsync@.service"

NO_ANSWER = 30.0
"""Seconds after which systemctl is not waited for any more."""


@dataclass(frozen=True)
class ServiceStatus:
    """The document of `service status --json`. `active` and `enabled` are systemd's own words."""

    unit: str
    installed: bool
    active: str
    enabled: str
    lingers: bool


class Service:
    """The instance of one project."""

    def __init__(self, root: Path, environ: Mapping[str, str]) -> None:
        """DevsyncError where there is no systemd."""
        found = shutil.which("systemctl", path=environ.get("PATH"))
        if found is None:
            raise DevsyncError("there is no systemd on this computer", hint="devsync start works without one")
        self._systemctl, self._environ = found, dict(environ)
        above = environ.get("XDG_CONFIG_HOME", "")
        config = Path(above) if os.path.isabs(above) else home(environ) / ".config"
        self._file = config / "systemd" / "user" / UNIT
        self.unit = f"devsync@{_escaped(os.path.realpath(root))}.service"

    def install(self, *, at_login: bool) -> None:
        """Write the unit and start the project's instance; `at_login`: at each login from now on, too."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(unit_text())
        except OSError as error:
            raise DevsyncError(f"{self._file} cannot be written: {error.strerror}") from error
        self._ask("daemon-reload")
        if at_login:
            self._ask("enable", self.unit)
        self._ask("restart", self.unit)

    def uninstall(self) -> None:
        """End the project's instance for good; the unit goes with the last of them."""
        if not self._file.exists():
            return
        self._ask("disable", "--now", self.unit)
        others = self._ask("list-units", "--plain", "--no-legend", "--all", "devsync@*.service").split()
        if not any(word.startswith("devsync@") and word != self.unit for word in others):
            self._file.unlink(missing_ok=True)
            self._ask("daemon-reload")

    def status(self) -> ServiceStatus:
        """How the instance is."""
        active, enabled = (self._word(question) for question in ("is-active", "is-enabled"))
        return ServiceStatus(self.unit, self._file.exists(), active, enabled, self._lingers())

    def _lingers(self) -> bool:
        """Whether the user's services go on after the last logout."""
        user = self._environ.get("USER") or str(os.getuid())
        return Path("/var/lib/systemd/linger", user).exists()

    def _word(self, question: str) -> str:
        said = self._run(question, self.unit).stdout.split()
        return said[0] if said else "unknown"

    def _ask(self, *words: str) -> str:
        done = self._run(*words)
        if done.returncode:
            said = done.stderr.strip() or f"exit status {done.returncode}"
            raise DevsyncError(
                f"systemctl --user {shlex.join(words)} failed: {said}",
                hint=f"journalctl --user -u {shlex.quote(self.unit)} tells more",
            )
        return done.stdout

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self._systemctl, "--user", *words],
                capture_output=True,
                text=True,
                check=False,
                timeout=NO_ANSWER,
                env=self._environ,
            )
        except subprocess.TimeoutExpired as error:
            raise DevsyncError("systemd does not answer", hint="systemctl --user status") from error
        except OSError as error:
            raise DevsyncError(f"systemctl cannot be run: {error.strerror}") from error


def unit_text() -> str:
    """The unit as it belongs on this computer: with the devsync that this is."""
    text = resources.files("devsync.app").joinpath(UNIT).read_text(encoding="utf-8")
    beside = Path(sys.executable).with_name("devsync")
    command = f'"{beside}"' if beside.exists() else f'"{sys.executable}" -P -m devsync'
    return text.replace("%h/.local/bin/devsync", command.replace("%", "%%"))


def _escaped(path: str) -> str:
    """As `systemd-escape --path` does it."""
    shown = path.strip("/")
    if not shown:
        return "-"
    plain = "".join(
        "-"
        if letter == "/"
        else letter
        if letter.isascii() and (letter.isalnum() or letter in ":_.")
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
        for letter in shown
    )
    return f"\\x2e{plain[1:]}" if plain.startswith(".") else plain
