"""A machine made of files: what a `View` shows of it is what a test has put there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from devsync.probe.view import View


class Machine(View):
    """Its folders lie below `folder`; its clocks stand still; commands answer as they are told."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.now, self.uptime = 1_790_000_000.0, 1000.0
        self.answers: dict[str, tuple[int, str] | OSError] = {}
        self.pages: dict[str, tuple[int, bytes] | OSError] = {}
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        (folder / "proc").mkdir(parents=True)
        super().__init__(
            {"HOME": str(folder / "home"), "PATH": str(folder / "bin"), **(environ or {})}, str(folder)
        )

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.uptime

    def command(self, name: str, *places: str) -> str | None:
        return name if any(line.startswith(name) for line in self.answers) else None

    def run(self, words: Sequence[str], timeout: float) -> tuple[int, str]:
        line = " ".join(words)
        answer = next(value for start, value in self.answers.items() if line.startswith(start))
        if isinstance(answer, OSError):
            raise answer
        return answer

    def http(
        self, address: tuple[str, int] | str, path: str, headers: Mapping[str, str], timeout: float, tls: bool
    ) -> tuple[int, bytes]:
        self.asked.append((path, headers))
        answer = next(
            (value for start, value in self.pages.items() if path.startswith(start)), ConnectionRefusedError()
        )
        if isinstance(answer, OSError):
            raise answer
        return answer

    def write(self, name: str, text: str) -> Path:
        """A file of the machine's."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def process(
        self,
        pid: int,
        words: str,
        *,
        own: int = 0,
        reaped: int = 0,
        parent: int = 1,
        name: str = "",
        group: str = "/user.slice/user-1000.slice/session-1.scope",
        terminal: int | None = None,
        environ: str = "",
        started: int = 100,
    ) -> None:
        """A process; its times are in clock ticks. Words that hold spaces are divided by NUL."""
        name = name or os.path.basename(words.partition(" ")[0])
        device = 0 if terminal is None else (136 << 8) | terminal
        fields = [parent, pid, pid, device, -1, 4194304, 9, 8, 7, 6, own, 0, reaped, 0, 20, 0, 1, 0, started]
        stat = f"{pid} ({name}) S " + " ".join(map(str, fields))
        self.write(f"proc/{pid}/stat", stat)
        self.write(
            f"proc/{pid}/cmdline",
            (words if "\0" in words else words.replace(" ", "\0")) + "\0" if words else "",
        )
        self.write(f"proc/{pid}/cgroup", f"0::{group}\n")
        self.write(f"proc/{pid}/environ", environ + "\0")

    def cores(self, *busy: int, total: int) -> None:
        """Ticks that each core has worked, of so many."""
        rows = [f"cpu{number} {ticks} 0 0 {total - ticks} 0 0 0 0 0 0" for number, ticks in enumerate(busy)]
        self.write("proc/stat", "\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *rows, "ctxt 5"]))

    def pass_by(self, seconds: float) -> None:
        """Time passes, and the next look is a new one."""
        self.now += seconds
        self.uptime += seconds
        self.processes.forget()
