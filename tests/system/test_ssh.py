"""The link, against OpenSSH's own server: who it is, who we are, commands, and every way to lose it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from devsync.ports import DevsyncError, Misuse, NeedsUser, Process, Terminal, Unavailable
from devsync.ssh import session, transport
from devsync.ssh.connect import connect
from devsync.ssh.hostkeys import ANY, HostKeyChanged, UnknownHostKey
from devsync.ssh.session import Session
from tests.fakes.sshd import Sshd, free_port, keygen
from tests.fakes.wan import Wan


@pytest.fixture
def link(sshd: Sshd) -> Iterator[Session]:
    with closing(connect(sshd.target)) as connection:
        yield connection


@contextmanager
def through(wan: Wan, sshd: Sshd) -> Iterator[Session]:
    target = replace(sshd.target, port=wan.port, alias=f"[127.0.0.1]:{sshd.port}")
    with closing(connect(target)) as connection:
        yield connection


def read_all(process: Process) -> bytes:
    return b"".join(iter(lambda: process.recv(70_000), b""))


def send_all(process: Process, content: bytes | memoryview) -> None:
    process.send(content)
    process.shutdown_write()


def in_background(body: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            body()
        except Unavailable as error:
            caught.append(error)

    thread = threading.Thread(target=run, name="in background")
    thread.start()
    return thread, caught


# ---------------------------------------------------------------- who the machine is


def test_an_unknown_host_key_is_shown_as_openssh_prints_it(sshd: Sshd) -> None:
    sshd.known_hosts.unlink()
    with pytest.raises(UnknownHostKey) as caught:
        connect(sshd.target)
    assert caught.value.fingerprint == sshd.fingerprint()
    assert caught.value.kind == "ssh-ed25519"
    assert caught.value.host == f"[127.0.0.1]:{sshd.port}"
    assert not sshd.known_hosts.exists()
    assert "publickey" not in sshd.log.read_text(), "it began to log in"


@pytest.mark.parametrize("any_key", [False, True])
def test_an_accepted_host_key_is_known_from_then_on(sshd: Sshd, any_key: bool) -> None:
    sshd.known_hosts.unlink()
    connect(sshd.target, accept=ANY if any_key else sshd.fingerprint()).close()
    assert sshd.known_hosts.stat().st_mode & 0o777 == 0o600
    connect(sshd.target).close()


def test_a_changed_host_key_is_refused_and_nothing_is_sent(sshd: Sshd) -> None:
    before = sshd.known_hosts.read_text()
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    for accept in (None, ANY, sshd.fingerprint()):
        with pytest.raises(HostKeyChanged, match=re.escape(f"{sshd.known_hosts}, line 1")):
            connect(sshd.target, accept=accept)
    assert sshd.known_hosts.read_text() == before
    assert "publickey" not in sshd.log.read_text(), "it began to log in"


def test_the_key_that_is_known_is_asked_for(sshd: Sshd) -> None:
    second = sshd.folder / "ecdsa_key"
    keygen(second, "ecdsa")
    sshd.stop()
    sshd.extra = [f"HostKey {sshd.host_key}", f"HostKey {second}"]
    sshd.start()
    for key in (second, sshd.host_key):
        known = " ".join(Path(f"{key}.pub").read_text().split()[:2])
        sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {known}\n")
        connect(sshd.target).close()


def test_an_rsa_host_key(sshd: Sshd) -> None:
    sshd.stop()
    sshd.new_host_key("rsa")
    sshd.start()
    sshd.trust()
    connect(sshd.target).close()


def test_an_alias_names_the_machine_wherever_it_is(sshd: Sshd) -> None:
    sshd.known_hosts.write_text(f"my-machine {sshd.host_public_key()}\n")
    connect(replace(sshd.target, alias="my-machine")).close()
    with pytest.raises(UnknownHostKey):
        connect(sshd.target)


def test_a_server_without_safe_algorithms_is_refused(sshd: Sshd) -> None:
    sshd.stop()
    sshd.extra = ["Ciphers aes128-cbc"]
    sshd.start()
    with pytest.raises(NeedsUser, match="no safe encryption"):
        connect(sshd.target)


def test_the_source_has_no_policy_that_accepts_host_keys() -> None:
    for path in Path(session.__file__).parents[1].rglob("*.py"):
        assert not re.search(r"AutoAddPolicy|WarningPolicy|request_forward_agent", path.read_text()), path


# ---------------------------------------------------------------- who we are


@pytest.fixture
def agent(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An ssh-agent with nothing in it."""
    path = sshd.folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    yield path
    process.terminate()
    process.wait(10)


def unlock(key: Path) -> None:
    """What a user does: ssh-add, here after taking the passphrase off a copy."""
    copy = key.with_name("unlocked")
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", copy], check=True)
    subprocess.run(["ssh-add", "-q", copy], check=True)
    copy.unlink()


def test_a_key_file_that_is_not_there(sshd: Sshd) -> None:
    with pytest.raises(NeedsUser, match=r"there is no key file .*missing"):
        connect(replace(sshd.target, identity_file=sshd.folder / "missing"))


def test_a_refused_login_says_what_was_tried(sshd: Sshd) -> None:
    keygen(sshd.folder / "stranger")
    with pytest.raises(NeedsUser, match=f"{sshd.user}@127.0.0.1:{sshd.port} refuses the login") as caught:
        connect(replace(sshd.target, identity_file=sshd.folder / "stranger"))
    assert str(sshd.folder / "stranger") in caught.value.message
    assert "authorized_keys" in caught.value.hint


def test_a_file_that_is_no_key_is_said_to_be_none(sshd: Sshd) -> None:
    (sshd.folder / "text").write_text("not a key")
    with pytest.raises(NeedsUser, match=r"text \(not a private key\)"):
        connect(replace(sshd.target, identity_file=sshd.folder / "text"))


def test_a_key_with_a_passphrase_needs_the_agent(sshd: Sshd, agent: Path) -> None:
    locked = sshd.folder / "locked"
    keygen(locked, passphrase="secret")
    with (sshd.folder / "authorized_keys").open("a") as file:
        file.write(Path(f"{locked}.pub").read_text())
    Path(f"{locked}.pub").unlink()
    target = replace(sshd.target, identity_file=locked)
    with pytest.raises(NeedsUser, match="is protected by a passphrase") as caught:
        connect(target)
    assert f"ssh-add {locked}" in caught.value.hint
    unlock(locked)
    connect(target).close()


def test_the_agent_is_asked_unless_only_named_identities_count(sshd: Sshd, agent: Path) -> None:
    subprocess.run(["ssh-add", "-q", sshd.client_key], check=True)
    stranger = sshd.folder / "stranger"
    keygen(stranger)
    connect(replace(sshd.target, identity_file=stranger)).close()
    config = sshd.folder / "config"
    config.write_text("IdentitiesOnly yes\n")
    with pytest.raises(NeedsUser, match="refuses the login"):
        connect(replace(sshd.target, identity_file=stranger, config_file=config))


def test_an_agent_that_has_gone_is_none(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(sshd.folder / "gone"))
    connect(sshd.target).close()


def test_the_default_keys_are_tried(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(sshd.folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    target = replace(sshd.target, identity_file=None)
    with pytest.raises(NeedsUser, match="tried: nothing"):
        connect(target)
    (sshd.folder / ".ssh").mkdir()
    (sshd.folder / ".ssh" / "id_ed25519").write_bytes(sshd.client_key.read_bytes())
    connect(target).close()


def test_a_server_that_has_had_enough_is_not_asked_again(sshd: Sshd) -> None:
    sshd.stop()
    sshd.extra = ["MaxAuthTries 1"]
    sshd.start()
    config = sshd.folder / "config"
    for number in (1, 2):
        keygen(sshd.folder / f"stranger{number}")
    config.write_text("".join(f"IdentityFile {sshd.folder}/stranger{number}\n" for number in (1, 2)))
    with pytest.raises(NeedsUser, match=r"Too many authentication failures"):
        connect(replace(sshd.target, identity_file=None, config_file=config))


def test_a_server_that_takes_no_keys(sshd: Sshd) -> None:
    sshd.stop()
    sshd.extra = ["PubkeyAuthentication no", "PasswordAuthentication yes"]
    sshd.start()
    with pytest.raises(NeedsUser, match="takes no keys, only: password"):
        connect(sshd.target)


def test_a_server_that_wants_more_than_a_key(sshd: Sshd) -> None:
    sshd.stop()
    sshd.extra = ["AuthenticationMethods publickey,password", "PasswordAuthentication yes"]
    sshd.start()
    with pytest.raises(NeedsUser, match="wants more than a key: password"):
        connect(sshd.target)


# ---------------------------------------------------------------- out of reach


def test_nobody_listens(sshd: Sshd) -> None:
    sshd.stop()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{sshd.port} refuses the connection"):
        connect(sshd.target)


def test_a_name_that_does_not_exist(sshd: Sshd) -> None:
    with pytest.raises(Unavailable, match=r"the name no\.\.where could not be resolved"):
        connect(replace(sshd.target, host="no..where"))


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", os.urandom(3000)])
def test_something_else_listens(sshd: Sshd, words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(words)
                while client.recv(1000):
                    pass

        thread = threading.Thread(target=answer, name="something else")
        thread.start()
        target = replace(sshd.target, port=server.getsockname()[1], connect_timeout=0.5)
        with pytest.raises(Unavailable, match="did not answer as an SSH server does"):
            connect(target)
        thread.join(10)


def test_a_server_that_stops_in_mid_handshake_leaves_no_thread(sshd: Sshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                while client.recv(1000):
                    pass

        thread = threading.Thread(target=answer, name="half a server")
        thread.start()
        target = replace(sshd.target, port=server.getsockname()[1], connect_timeout=0.5)
        with pytest.raises(Unavailable, match="broke off the key exchange"):
            connect(target)
        thread.join(10)


# ---------------------------------------------------------------- ways there


def config_with(sshd: Sshd, *lines: str) -> Path:
    path = sshd.folder / "config"
    path.write_text(
        f"Host *\n  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.client_key}\n"
        + "".join(f"{line}\n" for line in lines)
    )
    return path


def test_jump_hosts(sshd: Sshd) -> None:
    # One server plays every part; only the names differ.
    sshd.known_hosts.write_text(f"* {sshd.host_public_key()}\n")
    config = config_with(
        sshd, "Host vm", "  HostName 127.0.0.1", f"  ProxyJump 127.0.0.1,localhost:{sshd.port}"
    )
    target = replace(sshd.target, host="vm", port=None, user=None, identity_file=None, config_file=config)
    with closing(connect(target)) as connection:
        process = connection.exec("echo $SSH_CONNECTION; head -c 3000000 /dev/zero")
        assert len(read_all(process)) > 3_000_000
        assert process.wait() == 0
    assert sshd.log.read_text().count("Accepted publickey") == 3


def test_the_host_behind_a_jump_host_is_away(sshd: Sshd) -> None:
    sshd.known_hosts.write_text(f"* {sshd.host_public_key()}\n")
    away = free_port()
    config = config_with(sshd, "Host vm", "  HostName 127.0.0.1", f"  ProxyJump 127.0.0.1:{sshd.port}")
    with pytest.raises(Unavailable, match=f"127.0.0.1:{away} cannot be reached from 127.0.0.1"):
        connect(replace(sshd.target, host="vm", port=away, config_file=config))


def test_jump_hosts_in_a_circle(sshd: Sshd) -> None:
    config = sshd.folder / "config"
    config.write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(Misuse, match="in a circle"):
        connect(replace(sshd.target, host="a", config_file=config))


def test_a_proxy_command(sshd: Sshd) -> None:
    relay = sshd.folder / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def out():\n"
        "    try:\n"
        "        while data := sock.recv(65536): os.write(1, data)\n"
        "    finally:\n"
        "        os._exit(0)\n"
        "threading.Thread(target=out, daemon=True).start()\n"
        "while data := os.read(0, 65536): sock.sendall(data)\n"
    )
    config = config_with(sshd, f"ProxyCommand python3 {relay} 127.0.0.1 %p")
    sshd.known_hosts.write_text(f"* {sshd.host_public_key()}\n")
    with closing(connect(replace(sshd.target, host="vm", config_file=config))) as connection:
        process = connection.exec("head -c 3000000 /dev/zero")
        assert len(read_all(process)) == 3_000_000
        sshd.cut()
        assert connection.wait_closed(10) is not None


def test_a_proxy_command_that_fails(sshd: Sshd) -> None:
    config = config_with(sshd, "ProxyCommand exit 1")
    with pytest.raises(Unavailable, match="did not answer as an SSH server does"):
        connect(replace(sshd.target, config_file=config))


# ---------------------------------------------------------------- commands


def test_a_command(link: Session, sshd: Sshd) -> None:
    process = link.exec("pwd; echo trouble >&2; exit 7")
    assert read_all(process) == f"{sshd.home}\n".encode()
    assert process.recv_stderr(100) == b"trouble\n"
    assert process.recv_stderr(100) == b""
    assert process.wait() == 7
    process.close()
    process.close()


def test_a_command_that_a_signal_ended(link: Session) -> None:
    for name, status in (("KILL", 137), ("TERM", 143)):
        process = link.exec(f"kill -{name} $$")
        assert read_all(process) == b""
        assert process.wait() == status


def test_a_command_with_any_bytes(link: Session) -> None:
    name = os.fsdecode(b"caf\xe9")
    assert read_all(link.exec(f"printf %s '{name}' | od -An -tx1")) == b" 63 61 66 e9\n"


def test_a_terminal(link: Session) -> None:
    process = link.exec("tty; stty size; read line; stty size", Terminal("xterm", 91, 33))
    seen = b""
    while b"33 91" not in seen:
        seen += process.recv(1000)
    assert b"/dev/" in seen
    process.resize(120, 40)
    process.send(b"\n")
    assert b"40 120" in read_all(process)
    assert process.wait() == 0


def test_the_agent_is_not_forwarded(link: Session) -> None:
    assert read_all(link.exec("echo [$SSH_AUTH_SOCK]")) == b"[]\n"


def test_both_directions_at_once_and_half_close(link: Session) -> None:
    content = os.urandom(5_000_001)
    process = link.exec("cat")
    thread, caught = in_background(lambda: send_all(process, memoryview(content)))
    assert read_all(process) == content
    thread.join(10)
    assert not caught
    assert process.wait() == 0


def test_one_large_send_is_as_fast_as_many(link: Session) -> None:
    process = link.exec("wc -c")
    began = time.monotonic()
    process.send(bytes(200_000_000))
    process.shutdown_write()
    assert read_all(process) == b"200000000\n"
    assert time.monotonic() - began < 20


def test_what_is_pending(link: Session) -> None:
    process = link.exec("read line; echo answer")
    assert not process.pending()
    process.send(b"\n")
    assert process.recv(1) == b"a"
    assert process.pending()
    assert process.recv(100) == b"nswer\n"
    assert process.recv(100) == b""
    assert process.pending()


def test_a_command_that_has_ended_takes_nothing_more(link: Session) -> None:
    process = link.exec("true")
    assert process.wait() == 0
    with pytest.raises(Unavailable, match="the other end has closed the stream"):
        for _ in range(1000):
            process.send(bytes(100_000))


def test_closing_a_stream_wakes_who_reads_it(link: Session) -> None:
    process = link.exec("sleep 60")
    thread, caught = in_background(lambda: process.recv(1))
    process.close()
    thread.join(10)
    assert [str(error) for error in caught] == ["the stream was closed here"]
    with pytest.raises(Unavailable):
        process.wait()


def test_closing_a_stream_wakes_who_writes_to_it(link: Session) -> None:
    process = link.exec("sleep 60")
    thread, caught = in_background(lambda: process.send(bytes(50_000_000)))
    thread.join(0.5)
    process.close()
    thread.join(10)
    assert len(caught) == 1


def test_a_subsystem_and_one_that_is_not_there(link: Session) -> None:
    stream = link.subsystem("sftp")
    stream.send(b"\0\0\0\5\1\0\0\0\3")
    assert stream.recv(9)[4:] == b"\2\0\0\0\3"
    stream.close()
    with pytest.raises(DevsyncError, match="has no telepathy"):
        link.subsystem("telepathy").recv(1)


@pytest.mark.parametrize("sessions", [1, 3])
def test_a_server_that_limits_sessions(sshd: Sshd, sessions: int) -> None:
    sshd.stop()
    sshd.extra = [f"MaxSessions {sessions}"]
    sshd.start()
    with closing(connect(sshd.target)) as connection:
        held = [connection.exec("cat") for _ in range(sessions)]
        with pytest.raises(DevsyncError, match="no further session") as caught:
            connection.exec("true")
        assert not isinstance(caught.value, Unavailable)
        assert "MaxSessions" in caught.value.hint
        for process in held:
            process.send(b"still here")
            process.shutdown_write()
            assert read_all(process) == b"still here"
            assert process.wait() == 0
            process.close()
        assert connection.exec("exit 5").wait() == 5


def test_ten_threads_share_a_connection(link: Session) -> None:
    def work(number: int) -> None:
        for turn in range(5):
            process = link.exec(f"printf %{1000 + number}s{turn}")
            assert len(read_all(process)) == 1001 + number
            assert process.wait() == 0
            process.close()

    for thread, caught in [in_background(partial(work, number)) for number in range(9)]:
        thread.join(30)
        assert not caught


def test_new_keys_in_the_midst_of_everything(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides ask for new keys all the time, while channels come, carry and go."""
    sshd.stop()
    sshd.extra = ["RekeyLimit 3M"]
    sshd.start()
    monkeypatch.setattr(transport, "REKEY_BYTES", 2_000_000)
    content = os.urandom(12_000_000)
    with closing(connect(sshd.target)) as connection:

        def chatter() -> None:
            for number in range(40):
                assert connection.exec(f"head -c 300000 /dev/zero; exit {number}").wait() == number

        thread, caught = in_background(chatter)
        process = connection.exec("cat")
        writer, refused = in_background(lambda: send_all(process, content))
        assert read_all(process) == content
        writer.join(30)
        thread.join(30)
        assert not caught
        assert not refused
        assert connection.wait_closed(0) is None


def test_a_channel_that_ends_while_keys_are_exchanged(sshd: Sshd) -> None:
    """On a long line, the machine closes channels before it has heard that we want new keys."""
    with Wan(sshd.port, delay=0.15) as wan, through(wan, sshd) as connection:
        processes = [connection.exec("read line; exit 6") for _ in range(5)]
        for process in processes:
            process.send(b"\n")
        threading.Event().wait(
            0.1
        )  # the machine has the line after 0.15 s, and hears of new keys after 0.25 s
        exchange, _ = in_background(connection._transport.renegotiate_keys)
        for process in processes:
            assert process.wait() == 6
        exchange.join(10)
        assert not exchange.is_alive()
        assert connection.exec("exit 8").wait() == 8


# ---------------------------------------------------------------- forwarding


def test_forwarding(link: Session, sshd: Sshd) -> None:
    stream = link.forward("127.0.0.1", sshd.port)
    assert stream.recv(4) == b"SSH-"
    stream.close()
    with pytest.raises(ConnectionRefusedError):
        link.forward("127.0.0.1", free_port())


def test_a_server_that_forbids_tunnels(sshd: Sshd) -> None:
    sshd.stop()
    sshd.extra = ["AllowTcpForwarding no"]
    sshd.start()
    with closing(connect(sshd.target)) as connection, pytest.raises(DevsyncError, match="forbids tunnels"):
        connection.forward("127.0.0.1", sshd.port)


# ---------------------------------------------------------------- the heartbeat, and losing the link


def test_the_heartbeat_is_answered(sshd: Sshd) -> None:
    with Wan(sshd.port, delay=0.05) as wan, through(wan, sshd) as connection:
        assert connection.rtt() is None
        assert connection.wait_closed(0.5) is None
        rtt = connection.rtt()
        assert rtt is not None
        assert 0.09 < rtt < 0.4


def test_a_dead_path_is_noticed(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes and nothing is refused, as when a laptop sleeps; the limits are shortened."""
    monkeypatch.setattr(session, "HEARTBEAT", 0.2)
    monkeypatch.setattr(session, "PATIENCE", 0.5)
    with Wan(sshd.port) as wan, through(wan, sshd) as connection:
        process = connection.exec("sleep 60")
        thread, caught = in_background(lambda: process.recv(1))
        assert connection.wait_closed(0.6) is None
        wan.blackhole(True)
        began = time.monotonic()
        assert connection.wait_closed(10) == "no answer for 0.7 s"
        assert time.monotonic() - began < 1.5
        thread.join(5)
        assert "no answer" in str(caught[0])


def test_a_busy_line_is_not_taken_for_a_dead_one(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat's answer waits behind a second's worth of data."""
    monkeypatch.setattr(session, "HEARTBEAT", 0.1)
    monkeypatch.setattr(session, "PATIENCE", 0.5)
    with Wan(sshd.port, rate=2_000_000) as wan, through(wan, sshd) as connection:
        process = connection.exec("head -c 4000000 /dev/zero")
        thread, caught = in_background(lambda: read_all(process))
        while thread.is_alive():
            assert connection.wait_closed(0.1) is None
        assert not caught


def test_a_lost_link_is_no_end_of_file(sshd: Sshd) -> None:
    with Wan(sshd.port) as wan, through(wan, sshd) as connection:
        silent = connection.exec("sleep 60")
        full = connection.exec("sleep 60")
        talking = connection.exec("echo -n some; exec sleep 60")
        assert talking.recv(4) == b"some"
        reader, lost_in_read = in_background(lambda: silent.recv(1))
        writer, lost_in_write = in_background(lambda: full.send(bytes(50_000_000)))
        waiter, lost_in_wait = in_background(silent.wait)
        writer.join(0.3)
        wan.cut()
        assert connection.wait_closed(10) is not None
        for thread, caught in ((reader, lost_in_read), (writer, lost_in_write), (waiter, lost_in_wait)):
            thread.join(10)
            assert "is lost" in str(caught[0])
        for call in (
            lambda: talking.recv(1),
            lambda: talking.recv_stderr(1),
            lambda: talking.send(b"x"),
            talking.wait,
            lambda: talking.resize(80, 24),
            lambda: connection.exec("true"),
            lambda: connection.subsystem("sftp"),
            lambda: connection.forward("127.0.0.1", sshd.port),
        ):
            with pytest.raises(Unavailable, match="is lost"):
                call()


def test_what_had_come_before_the_link_was_lost_can_be_read(sshd: Sshd) -> None:
    with Wan(sshd.port) as wan, through(wan, sshd) as connection:
        process = connection.exec("echo complete; exit 4")
        assert process.wait() == 4
        while not process._channel.eof_received:
            threading.Event().wait(0.01)
        wan.cut()
        assert connection.wait_closed(10) is not None
        assert read_all(process) == b"complete\n"
        assert process.wait() == 4


def test_a_server_that_goes_says_so(sshd: Sshd, capfd: pytest.CaptureFixture[str]) -> None:
    with closing(connect(sshd.target)) as connection:
        sshd.stop()
        reason = connection.wait_closed(10)
        assert reason is not None
        assert connection.wait_closed(0) == reason
    assert capfd.readouterr().err == ""


def test_the_connection_comes_back_on_the_same_port(sshd: Sshd) -> None:
    connection = connect(sshd.target)
    sshd.stop()
    assert connection.wait_closed(10) is not None
    sshd.start()
    with closing(connection), closing(connect(sshd.target)) as again:
        assert again.exec("exit 9").wait() == 9


def test_close_ends_the_thread_and_everything_that_waits(sshd: Sshd) -> None:
    before = set(threading.enumerate())
    connection = connect(sshd.target)
    process = connection.exec("sleep 60")
    thread, caught = in_background(lambda: process.recv(1))
    began = time.monotonic()
    connection.close()
    connection.close()
    thread.join(10)
    assert time.monotonic() - began < 2
    assert "closed here" in str(caught[0])
    assert connection.wait_closed(0) == "it was closed here"
    assert set(threading.enumerate()) == before
