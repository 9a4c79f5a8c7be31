"""Which server is meant: devsync.toml and ~/.ssh/config together."""

from __future__ import annotations

import getpass
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from devsync.ports import Misuse
from devsync.ssh import connect, identities
from devsync.ssh.target import Route, Target


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path


def route(home: Path, config: str, target: Target) -> Route:
    (home / ".ssh" / "config").write_text(config)
    return connect._route(target)


def test_without_a_configuration_there_are_defaults(home: Path) -> None:
    found = connect._route(Target("vm.example.com"))
    assert (found.host, found.port, found.user) == ("vm.example.com", 22, getpass.getuser())
    assert found.known_hosts == (home / ".ssh/known_hosts",)
    assert (found.known_as, found.identities, found.jumps) == ("vm.example.com", (), ())


def test_what_the_configuration_says(home: Path) -> None:
    found = route(
        home,
        """
        Host vm
            HostName 10.0.0.7
            Port 2222
            User=alice
            IdentityFile ~/.ssh/vm_key
            IdentityFile "~/with a blank"
            IdentitiesOnly yes
            UserKnownHostsFile ~/.ssh/a ~/.ssh/b
        Host *
            User bob
        """,
        Target("vm"),
    )
    assert (found.host, found.port, found.user) == ("10.0.0.7", 2222, "alice")
    assert found.identities == (home / ".ssh/vm_key", home / "with a blank")
    assert found.identities_only
    assert found.known_hosts == (home / ".ssh/a", home / ".ssh/b")
    assert found.known_as == "[10.0.0.7]:2222"
    assert str(found) == "alice@10.0.0.7:2222"


def test_what_is_asked_for_wins(home: Path) -> None:
    config = "Host *\n Port 2222\n User bob\n IdentityFile ~/b\n UserKnownHostsFile ~/k\n HostKeyAlias x\n"
    asked = Target(
        "vm", port=23, user="alice", identity_file=Path("~/a"), known_hosts=Path("~/mine"), alias="my-machine"
    )
    found = route(home, config, asked)
    assert (found.port, found.user, found.known_as) == (23, "alice", "my-machine")
    assert found.identities == (home / "a", home / "b")
    assert found.known_hosts == (home / "mine",)
    assert route(home, config, Target("vm")).known_as == "x"


def test_an_alias_stands_in_known_hosts_without_a_port(home: Path) -> None:
    assert connect._route(Target("10.0.0.7", port=2222, alias="devsync-vm")).known_as == "devsync-vm"
    assert connect._route(Target("10.0.0.7", port=2222, alias="devsync-vm")).plain_name == "devsync-vm"
    assert connect._route(Target("10.0.0.7", port=2222)).plain_name == "10.0.0.7"


def test_a_proxy_command_is_told_the_port_and_the_user_that_are_asked_for(home: Path) -> None:
    found = route(
        home, "Host vm\n ProxyCommand nc %h %p %r\n Port 2222\n", Target("vm", port=23, user="alice")
    )
    assert found.proxy_command == "nc vm 23 alice"
    assert route(home, "Host vm\n ProxyCommand none\n", Target("vm")).proxy_command is None


def test_jump_hosts(home: Path) -> None:
    found = route(home, "Host vm\n ProxyJump alice@a:23, b,ssh://c@[::1]:24\n", Target("vm", user="bob"))
    assert [(jump.user, jump.host, jump.port) for jump in found.jumps] == [
        ("alice", "a", 23),
        (None, "b", None),
        ("c", "::1", 24),
    ]
    assert route(home, "Host vm\n ProxyJump none\n", Target("vm")).jumps == ()


def test_a_jump_host_for_all_is_not_its_own(home: Path) -> None:
    config = "Host *\n ProxyJump bastion\n"
    (jump,) = route(home, config, Target("vm")).jumps
    assert connect._route(jump).jumps == ()


def test_includes(home: Path) -> None:
    (home / ".ssh" / "conf.d").mkdir()
    (home / ".ssh" / "conf.d" / "one").write_text("Host other\n User included\n")
    (home / ".ssh" / "conf.d" / "two").write_text("Include config\n")  # a circle
    config = "Include conf.d/*\nUser everybody\nHost vm\n Include missing\n Port 2222\n"
    assert route(home, config, Target("other")).user == "included"
    assert (route(home, config, Target("vm")).user, route(home, config, Target("vm")).port) == (
        "everybody",
        2222,
    )
    assert route(home, config, Target("third")).port == 22


@pytest.mark.parametrize(
    "config", ["Host vm\n Port abc\n", "Host vm\n Port 70000\n", "nonsense\n", "Host vm\n ProxyJump a b:c\n"]
)
def test_a_configuration_that_cannot_be_read(home: Path, config: str) -> None:
    with pytest.raises(Misuse):
        route(home, config, Target("vm"))


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "a;b", "$(x)", "a\nb", "a'b", "`x`"])
def test_a_host_that_a_shell_would_read_otherwise_is_refused(host: str) -> None:
    with pytest.raises(Misuse):
        Target(host)


@pytest.mark.parametrize("user", ["", "-x", "a b", "a;b", "a\nProxyCommand x", "$x"])
def test_a_user_that_a_shell_would_read_otherwise_is_refused(user: str) -> None:
    with pytest.raises(Misuse):
        Target("vm", user=user)


def test_usual_names_are_taken() -> None:
    for host in ("vm", "10.0.0.7", "fe80::1%eth0", "a_b.example.com", "müller.example"):
        Target(host, user="alice@corp.example")


@pytest.mark.parametrize(("kind", "form"), [("ed25519", ()), ("rsa", ()), ("rsa", ("-m", "PEM"))])
def test_the_public_half_of_a_locked_key(tmp_path: Path, kind: str, form: tuple[str, ...]) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "secret", *form, "-f", path], check=True)
    told = identities.public_key(path)
    assert told is not None
    assert told == identities._from_public((tmp_path / "key.pub").read_bytes())


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END\n"]
)
def test_a_file_that_is_no_key_has_no_public_half(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    assert identities.public_key(tmp_path / "key") is None
    assert identities.public_key(tmp_path / "missing") is None


def test_a_target_can_be_varied() -> None:
    assert replace(Target("vm"), port=23).port == 23
