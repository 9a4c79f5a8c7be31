"""The devsync.toml of whoever drives devsync against tests/fakes/sshd.py: tests and benchmarks."""

from __future__ import annotations

from tests.fakes.sshd import Sshd

MACHINE = """\
[machine]
provider = "ssh"

[ssh]
host = "127.0.0.1"
port = {port}
user = "{user}"
identity_file = "{key}"
known_hosts = "{known_hosts}"

[sync]
path = "{path}"
"""

TUNNEL = """
[[tunnel]]
local = 0
remote = {remote}
"""


def config_for(
    sshd: Sshd,
    *,
    port: int | None = None,
    remote: int | None = 9,
    path: str = "~/work/project",
    further: str = "",
) -> str:
    """A devsync.toml that leads to `sshd`, by way of another port if one is given.

    `remote` is the far end of its tunnel; None: it has none. `further` follows the keys of [sync].
    """
    if port is not None:
        line = f"[127.0.0.1]:{port} {sshd.host_public_key()}\n"
        if line not in (known := sshd.known_hosts.read_text()):
            sshd.known_hosts.write_text(known + line)
    machine = MACHINE.format(
        port=port or sshd.port,
        user=sshd.user,
        key=sshd.client_key,
        known_hosts=sshd.known_hosts,
        path=path,
    )
    if remote is None:
        return "tunnel = []\n\n" + machine + further
    return machine + further + TUNNEL.format(remote=remote)
