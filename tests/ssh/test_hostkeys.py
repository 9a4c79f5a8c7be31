"""known_hosts: which lines speak of a host, what they decide, and how a new key is written down."""

from __future__ import annotations

import base64
import subprocess
import threading
from pathlib import Path

import pytest

from devsync.ports import DevsyncError, NeedsUser
from devsync.ssh import hostkeys
from devsync.ssh.hostkeys import ANY, HostKeyChanged, UnknownHostKey

KIND = "ssh-ed25519"
KEY, OTHER = b"the machine's key", b"a key of somebody else"


def line(names: str, key: bytes = KEY, kind: str = KIND, marker: str = "") -> str:
    return f"{marker}{names} {kind} {base64.b64encode(key).decode()} a comment\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hostkeys, "GLOBAL", tmp_path / "of the system")
    return tmp_path / "known_hosts"


def verify(file: Path, name: str = "host", key: bytes = KEY, *, accept: str | None = None) -> None:
    hostkeys.verify([file], name, KIND, key, plain="host", accept=accept)


@pytest.mark.parametrize(
    ("names", "name", "found"),
    [
        ("host", "host", True),
        ("host,other", "other", True),
        ("HOST", "host", True),
        ("host", "hostess", False),
        ("*.example.com", "vm.example.com", True),
        ("*.example.com", "example.com", False),
        ("vm?", "vm7", True),
        ("*,!vm7", "vm7", False),
        ("!vm7,*", "vm8", True),
        ("[host]:2222", "[host]:2222", True),
        ("[host]:2222", "h:2222", False),
        ("[host]:2222", "host", False),
        ("|1|broken|", "host", False),
        ("|1|a|b|c|d", "host", False),
    ],
)
def test_names(file: Path, names: str, name: str, found: bool) -> None:
    file.write_text(line(names))
    assert bool(hostkeys.lookup([file], name)) is found


def test_names_that_were_hashed_by_openssh_are_recognised(file: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file.parent / "key"], check=True)
    public = " ".join((file.parent / "key.pub").read_text().split()[:2])
    file.write_text(f"host,[host]:2222 {public}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "host" not in file.read_text()
    assert hostkeys.lookup([file], "host")
    assert hostkeys.lookup([file], "[host]:2222")
    assert not hostkeys.lookup([file], "[host]:2223")


def test_lines_that_say_nothing_are_passed_over(file: Path) -> None:
    authority = line("host", marker="@cert-authority ")
    file.write_text(f"# a comment\n\nhost\nhost ssh-ed25519 not*base64\n{authority}@else x y z\n")
    assert hostkeys.lookup([file, file.parent / "missing"], "host") == []


def test_a_file_with_any_bytes_is_read(file: Path) -> None:
    file.write_bytes(b"# caf\xe9\n" + line("host").encode())
    assert [entry.line for entry in hostkeys.lookup([file], "host")] == [2]


def test_the_known_key_passes(file: Path) -> None:
    file.write_text(line("host", b"an RSA key", "ssh-rsa") + line("host"))
    verify(file)


def test_a_key_that_is_known_for_the_host_is_good_on_every_port(file: Path) -> None:
    file.write_text(line("host"))
    verify(file, "[host]:2222")
    with pytest.raises(UnknownHostKey):
        verify(file, "[host]:2222", OTHER)


def test_an_unknown_key_is_shown_and_not_added(file: Path) -> None:
    with pytest.raises(UnknownHostKey) as caught:
        verify(file)
    assert (caught.value.host, caught.value.kind) == ("host", KIND)
    assert caught.value.fingerprint == hostkeys.fingerprint(KEY)
    assert caught.value.fingerprint in caught.value.message
    assert "devsync start --accept-host-key" in caught.value.hint
    assert not file.exists()


@pytest.mark.parametrize("accept", [ANY, hostkeys.fingerprint(KEY)])
def test_an_accepted_key_is_added(tmp_path: Path, file: Path, accept: str) -> None:
    file = tmp_path / "new folder" / "known_hosts"
    verify(file, "[host]:2222", accept=accept)
    assert file.read_text().split()[:2] == ["[host]:2222", KIND]
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    verify(file, "[host]:2222")


def test_the_other_lines_stay_as_they_are(file: Path) -> None:
    before = b"# caf\xe9\n" + line("other").encode().rstrip()  # and no line end
    file.write_bytes(before)
    verify(file, accept=ANY)
    after = file.read_bytes()
    assert after.startswith(before + b"\n")
    assert after.count(b"\n") == 3


def test_another_fingerprint_accepts_nothing(file: Path) -> None:
    with pytest.raises(UnknownHostKey):
        verify(file, accept=hostkeys.fingerprint(OTHER))
    assert not file.exists()


def test_two_connections_that_accept_at_once_write_one_line(file: Path) -> None:
    together = threading.Barrier(8)

    def accept() -> None:
        together.wait()
        hostkeys.remember(file, "host", KIND, KEY)

    threads = [threading.Thread(target=accept) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("accept", [None, ANY, hostkeys.fingerprint(OTHER)])
def test_a_changed_key_is_refused_whatever_is_accepted(file: Path, accept: str | None) -> None:
    before = line("elsewhere") + line("host")
    file.write_text(before)
    with pytest.raises(HostKeyChanged) as caught:
        verify(file, key=OTHER, accept=accept)
    for part in (
        f"{file}, line 2",
        hostkeys.fingerprint(KEY),
        hostkeys.fingerprint(OTHER),
        "nothing was sent",
    ):
        assert part in caught.value.message
    assert "ssh-keygen -R 'host'" in caught.value.hint
    assert file.read_text() == before


def test_a_key_of_another_kind_is_a_changed_key(file: Path) -> None:
    file.write_text(line("host", b"an RSA key", "ssh-rsa"))
    with pytest.raises(HostKeyChanged, match="ssh-rsa"):
        verify(file, accept=ANY)


@pytest.mark.parametrize("names", ["*", "host"])
def test_a_revoked_key_is_refused_even_where_it_is_known(file: Path, names: str) -> None:
    file.write_text(line("host") + line(names, marker="@revoked "))
    with pytest.raises(HostKeyChanged, match=r"revoked in .*, line 2"):
        verify(file, accept=ANY)


def test_a_key_that_the_whole_computer_trusts_is_good(file: Path) -> None:
    hostkeys.GLOBAL.write_text(line("host"))
    verify(file)


def test_a_file_that_cannot_be_read_or_written_is_named(file: Path) -> None:
    file.mkdir()
    with pytest.raises(NeedsUser, match="known_hosts cannot be read"):
        verify(file)
    with pytest.raises(DevsyncError, match=r"cannot be added to .*known_hosts"):
        hostkeys.remember(file, "host", KIND, KEY)


def test_the_fingerprint_is_the_one_that_openssh_prints(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    told = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key"], check=True, capture_output=True, text=True)
    key = base64.b64decode((tmp_path / "key.pub").read_text().split()[1])
    assert hostkeys.fingerprint(key) == told.stdout.split()[1]
