"""`devsync doctor`, with a real sshd: what is well, what is not, and what to do."""

from __future__ import annotations

import json

import pytest

from tests.fakes.sshd import Sshd
from tests.system.project import Project

pytestmark = pytest.mark.timeout(60)


def checks(project: Project, expect: int) -> dict[str, dict[str, str]]:
    told = json.loads(project.devsync("doctor", "--json", expect=expect).stdout)
    return {check["name"]: check for check in told}


def test_a_healthy_project(project: Project) -> None:
    found = checks(project, 0)
    names = {"configuration", "git", "ignore rules", "machine", "connection", "python there", "clocks", "gpu"}
    assert names <= found.keys()
    for name in names:
        assert found[name]["state"] == "ok", found[name]
    assert "FAILED" not in project.devsync("doctor").stdout


def test_a_changed_host_key_is_named_and_nothing_beyond_it_is_asked(project: Project, sshd: Sshd) -> None:
    sshd.known_hosts.write_text("")
    found = checks(project, 1)
    assert found["connection"]["state"] == "failed"
    assert "host key" in found["connection"]["text"]
    assert found["connection"]["hint"]
    assert "clocks" not in found


def test_a_typo_in_the_configuration_is_the_first_thing_that_is_told(project: Project) -> None:
    config = project.root / "devsync.toml"
    config.write_text(config.read_text().replace("[sync]", "[snyc]") + "\n[snyc2]\n")
    done = project.devsync("doctor", expect=1)
    assert "FAILED   configuration" in done.stdout
    assert "devsync.toml" in done.stdout


def test_a_setup_that_fails_is_the_login_environments_fault(project: Project) -> None:
    config = project.root / "devsync.toml"
    config.write_text(config.read_text() + '\n[run]\nsetup = "conda activate nowhere"\n')
    found = checks(project, 1)
    assert found["connection"]["state"] == "ok"
    assert "setup failed" in found["login environment"]["text"]
