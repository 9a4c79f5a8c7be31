"""OpenSSH's real server on a loopback port, with a home folder of its own, for as long as a test needs it."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from devsync.ssh.target import Target

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
)
PRIVILEGE_SEPARATION = Path("/run/sshd")
READY_WITHIN = 10.0
CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
UseDNS no
MaxStartups 200
Subsystem sftp {sftp} -d {home}
SetEnv HOME={home} DEVSYNC_TEST_SSHD={folder}
"""


class Sshd:
    """A server in `folder`: started by `start`, ended by `stop`; may be started again on the same port.

    `home` stands for the user's home folder there. `client_key` opens the door; `known_hosts` names the
    server's key. `extra` are further lines of sshd_config and may be changed between a stop and a start.
    """

    def __init__(self, folder: Path, extra: Sequence[str] = ()) -> None:
        self.folder = folder
        self.extra = list(extra)
        self.home = folder / "home"
        self.client_key = folder / "client_key"
        self.host_key = folder / "host_key"
        self.known_hosts = folder / "known_hosts"
        self.log = folder / "sshd.log"
        self.user = getpass.getuser()
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True)
        # sshd starts every command in the home folder that /etc/passwd names; bash comes here first.
        (self.home / ".bashrc").write_text('cd "$HOME"\n')
        keygen(self.client_key)
        shutil.copy(f"{self.client_key}.pub", folder / "authorized_keys")
        self.new_host_key()

    @property
    def target(self) -> Target:
        """How to reach it: nothing of the user's own ~/.ssh takes part."""
        return Target(
            "127.0.0.1",
            port=self.port,
            user=self.user,
            identity_file=self.client_key,
            known_hosts=self.known_hosts,
            config_file=None,
            connect_timeout=10.0,
        )

    def new_host_key(self, kind: str = "ed25519") -> None:
        """Another key from the next start on."""
        self.host_key.unlink(missing_ok=True)
        keygen(self.host_key, kind)

    def host_public_key(self) -> str:
        """Kind and key, as they stand in known_hosts."""
        return " ".join(Path(f"{self.host_key}.pub").read_text().split()[:2])

    def fingerprint(self) -> str:
        """The host key's fingerprint, as OpenSSH prints it."""
        told = subprocess.run(
            ["ssh-keygen", "-lf", self.host_key], capture_output=True, text=True, check=True
        )
        return told.stdout.split()[1]

    def trust(self) -> None:
        """Write the present host key to `known_hosts`, and nothing else."""
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {self.host_public_key()}\n")

    def start(self) -> None:
        """Return when it listens; the first time, on a free port, and with its key in `known_hosts`."""
        assert SSHD is not None, "there is no sshd on this computer"
        if os.getuid() == 0:
            PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        first = self.port == 0
        self.port = self.port or free_port()
        config = self.folder / "sshd_config"
        sftp = next((path for path in SFTP_SERVERS if os.path.exists(path)), "internal-sftp")
        text = CONFIG.format(port=self.port, folder=self.folder, home=self.home, sftp=sftp)
        # sshd takes the first value of an option.
        config.write_text("".join(f"{line}\n" for line in self.extra) + text)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait_until_it_listens(self._process)
        if first:
            self.trust()

    def stop(self) -> None:
        """End the server, every connection, and every process that was started through it."""
        if self._process is None:
            return
        children = self.processes()  # who they are can be seen only as long as their parent lives
        self._process.terminate()
        self._process.wait(timeout=10)
        self._process = None
        _kill(children)
        while left := self.processes():  # RACE: what is killed may just have started another
            _kill(left)

    def cut(self) -> None:
        """End every connection, while the server goes on listening."""
        _kill(self.processes())

    def processes(self) -> list[int]:
        """The server's descendants, and whatever else carries its mark in the environment; not itself."""
        parents, marked = {}, []
        mark = f"DEVSYNC_TEST_SSHD={self.folder}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    marked.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile, or is not ours
        below = _below(self._process.pid, parents) if self._process else set()
        return sorted({*marked, *below})

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                    assert sock.recv(4) == b"SSH-"
                    return
            except OSError:
                assert process.poll() is None, f"sshd did not start:\n{self.log.read_text()}"
                assert time.monotonic() < deadline, f"sshd does not listen:\n{self.log.read_text()}"
                threading.Event().wait(0.02)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended meanwhile


def _below(root: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level} - found
        found |= level
    return found


def free_port() -> int:
    """A loopback port that nobody uses at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "") -> None:
    """Make a pair of keys: `path` and `path`.pub."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", path], check=True
    )
