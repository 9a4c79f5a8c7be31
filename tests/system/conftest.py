"""A real sshd, and a project whose machine it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.system.project import Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes race real clocks here: what fails is tried once more, and the summary counts it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


CONFIG = """\
[machine]
provider = "ssh"

[ssh]
host = "127.0.0.1"
port = {port}
user = "{user}"
identity_file = "{key}"
known_hosts = "{known_hosts}"

[sync]
path = "~/work/project"

[[tunnel]]
local = 0
remote = {remote}
"""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """OpenSSH's server, started."""
    server = Sshd(tmp_path / "machine")
    server.start()
    yield server
    server.stop()


def config_for(sshd: Sshd, *, port: int | None = None, remote: int = 9) -> str:
    """A devsync.toml that leads to `sshd`, by way of another port if one is given."""
    if port is not None:
        sshd.known_hosts.write_text(
            sshd.known_hosts.read_text() + f"[127.0.0.1]:{port} {sshd.host_public_key()}\n"
        )
    return CONFIG.format(
        port=port or sshd.port,
        user=sshd.user,
        key=sshd.client_key,
        known_hosts=sshd.known_hosts,
        remote=remote,
    )


@pytest.fixture
def project(tmp_path: Path, sshd: Sshd) -> Iterator[Project]:
    """A project whose machine is `sshd`; its folder there is `there(sshd)`."""
    made = Project(tmp_path, config_for(sshd))
    yield made
    made.close()


def there(sshd: Sshd) -> Path:
    """The project's folder on the machine."""
    return sshd.home / "work" / "project"
