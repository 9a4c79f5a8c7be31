"""A stand-in for the Azure CLI: an executable `az` that gives a token, or fails as the real one does."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

LOGGED_OUT = "ERROR: Please run 'az login' to setup account."
EXPIRED = (
    "ERROR: AADSTS700082: The refresh token has expired due to inactivity. "
    "The token was issued on 2026-01-02 and was inactive for 90.00:00:00.\n"
    "Interactive authentication is needed. Please run: az login"
)
OFFLINE = (
    "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: "
    "/x (Caused by NameResolutionError('Temporary failure in name resolution'))"
)


@dataclass(frozen=True)
class Az:
    """An `az` in `folder`, which belongs at the front of PATH."""

    folder: Path

    @property
    def calls(self) -> int:
        """How often it was run."""
        log = self.folder / "calls"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def log_in(self, token: str = "token-of-az", *, seconds: int = 3600) -> None:
        """From now on it prints `token`, good for `seconds`."""
        until = int(time.time()) + seconds
        local = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.localtime(until))
        answer = {
            "accessToken": token,
            "expiresOn": local,
            "expires_on": until,
            "subscription": "11111111-2222-3333-4444-555555555555",
            "tenant": "66666666-7777-8888-9999-000000000000",
            "tokenType": "Bearer",
        }
        self._write(f"printf '%s\\n' {shlex.quote(json.dumps(answer, indent=2))}")

    def fail(self, words: str) -> None:
        """From now on it says `words` on standard error and ends with status 1."""
        self._write(f"printf '%s\\n' {shlex.quote(words)} >&2; exit 1")

    def say(self, words: str) -> None:
        """From now on it prints `words`."""
        self._write(f"printf '%s\\n' {shlex.quote(words)}")

    def _write(self, body: str) -> None:
        program = self.folder / "az"
        log = shlex.quote(str(self.folder / "calls"))
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {log}\n{body}\n')
        program.chmod(0o755)


def install(folder: Path) -> Az:
    """An `az` in `folder` that is logged in."""
    folder.mkdir(parents=True, exist_ok=True)
    az = Az(folder)
    az.log_in()
    return az
