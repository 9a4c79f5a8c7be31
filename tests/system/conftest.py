"""A real sshd, and a project whose machine it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.sshd import Sshd
from tests.system.config import config_for as config_for  # noqa: PLC0414 (the tests have it from here)
from tests.system.project import Project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes race real clocks here: what fails is tried once more, and the summary counts it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """OpenSSH's server, started."""
    server = Sshd(tmp_path / "machine")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def project(tmp_path: Path, sshd: Sshd) -> Iterator[Project]:
    """A project whose machine is `sshd`; its folder there is `there(sshd)`."""
    made = Project(tmp_path, config_for(sshd))
    yield made
    made.close()


def there(sshd: Sshd) -> Path:
    """The project's folder on the machine."""
    return sshd.home / "work" / "project"
