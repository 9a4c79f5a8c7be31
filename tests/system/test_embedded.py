"""The embedded machine as others see it: OpenSSH's clients, devsync's own, and whoever pulls its plug."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_REQUEST

from devsync.machine.embedded import EmbeddedMachine
from devsync.machine.embedded_state import Record, holder
from devsync.ports import Connection, DevsyncError, NeedsUser, Power, Process, Terminal, Unavailable
from devsync.ssh.connect import connect
from devsync.ssh.sftp import SftpClient
from devsync.ssh.target import Target
from tests.fakes.sshd import free_port, keygen

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the environment of a process")
NEVER = threading.Event()


def quiet(line: str) -> None:
    """Progress that nobody looks at."""


def eventually(true: Callable[[], bool], within: float = 5.0) -> bool:
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            return False
        NEVER.wait(0.02)
    return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with suppress(OSError):  # nobody may have waited for it yet
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextmanager
def running(folder: Path) -> Iterator[EmbeddedMachine]:
    machine = EmbeddedMachine(folder)
    machine.start(NEVER, quiet)
    try:
        yield machine
    finally:
        machine.deallocate(NEVER, quiet)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMachine]:
    with running(tmp_path_factory.mktemp("embedded") / "machine") as made:
        yield made


def target(machine: EmbeddedMachine) -> Target:
    address = machine.address()
    return Target(
        address.host,
        port=address.port,
        user=machine.user,
        identity_file=machine.identity_file,
        known_hosts=machine.known_hosts,
        alias=address.alias,
        config_file=None,
    )


@pytest.fixture
def connection(machine: EmbeddedMachine) -> Iterator[Connection]:
    made = connect(target(machine))
    yield made
    made.close()


@dataclass
class Client:
    """OpenSSH's clients, with nothing of the user's own ~/.ssh."""

    machine: EmbeddedMachine

    def options(self) -> list[str]:
        address = self.machine.address()
        said = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": self.machine.identity_file,
            "UserKnownHostsFile": self.machine.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": address.alias,
            "Port": address.port,
            "User": self.machine.user,
            "LogLevel": "ERROR",
        }
        return ["-F", "/dev/null", *(f"-o{name}={value}" for name, value in said.items())]

    def ssh(self, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["ssh", *self.options(), *arguments]
        return subprocess.run(command, input=given, capture_output=True, timeout=20, check=False)

    def sftp(self, *lines: str) -> subprocess.CompletedProcess[bytes]:
        command = ["sftp", *self.options(), "-b", "-", "127.0.0.1"]
        script = "\n".join(lines).encode()
        return subprocess.run(command, input=script, capture_output=True, timeout=20, check=False)


@pytest.fixture
def client(machine: EmbeddedMachine) -> Client:
    return Client(machine)


def output(process: Process) -> bytes:
    return b"".join(iter(lambda: process.recv(65536), b""))


def line(process: Process) -> bytes:
    """What it says up to the end of a line."""
    said = b""
    while not said.endswith(b"\n"):
        more = process.recv(1)
        assert more, f"it ended after {said!r}"
        said += more
    return said.strip()


# ---------------------------------------------------------------- OpenSSH's clients


@pytest.mark.parametrize("status", [0, 1, 7, 127, 130, 254])
def test_the_status_of_a_command(client: Client, status: int) -> None:
    assert client.ssh("127.0.0.1", f"exit {status}").returncode == status


def test_the_three_streams(client: Client) -> None:
    done = client.ssh("127.0.0.1", "read word; echo out $word; echo err >&2", given=b"in\n")
    assert (done.stdout, done.stderr) == (b"out in\n", b"err\n")


def test_megabytes_there_and_back(client: Client) -> None:
    content = os.urandom(5_000_001)
    assert client.ssh("127.0.0.1", "cat", given=content).stdout == content


def test_new_keys_in_the_middle_of_a_transfer(client: Client) -> None:
    content = os.urandom(8_000_003)
    assert client.ssh("-oRekeyLimit=1M", "127.0.0.1", "cat", given=content).stdout == content


def test_the_end_of_the_input_is_passed_on(client: Client) -> None:
    done = client.ssh("127.0.0.1", "wc -c; echo after", given=b"x" * 100_000)
    assert done.stdout.split() == [b"100000", b"after"]


def test_a_command_that_reads_nothing_ends_all_the_same(client: Client) -> None:
    assert client.ssh("127.0.0.1", "exit 3", given=b"x" * 10_000_000).returncode == 3


def test_a_terminal(client: Client) -> None:
    done = client.ssh("-tt", "127.0.0.1", "tty && test -t 0 && test -t 1 && test -t 2 && echo all")
    assert b"/dev/" in done.stdout
    assert b"all" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("terminal", ["-T", "-tt"])
def test_a_login_shell(client: Client, terminal: str) -> None:
    done = client.ssh(terminal, "127.0.0.1", given=b"pwd; exit 5\n")
    assert done.returncode == 5
    assert os.fsencode(client.machine.home) in done.stdout


def test_the_end_of_the_input_of_a_terminal(client: Client) -> None:
    done = client.ssh("-tt", "127.0.0.1", "cat; echo over", given=b"one\n")
    assert done.stdout.replace(b"\r", b"").endswith(b"over\n")


def test_sftp_of_openssh(client: Client, tmp_path: Path) -> None:
    (tmp_path / "here").write_bytes(content := os.urandom(3_000_003))
    done = client.sftp(
        f"put {tmp_path / 'here'} one",
        "rename one two",
        "chmod 640 two",
        "mkdir folder",
        "symlink two folder/link",
        "ls -la",
        "df",
        f"get two {tmp_path / 'back'}",
        "rm two",
        "rm folder/link",
        "rmdir folder",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == content
    assert b"-rw-r-----" in done.stdout
    assert not {"one", "two", "folder"} & set(os.listdir(client.machine.home))


def test_forwarding_of_openssh(client: Client) -> None:
    local = free_port()
    with echo_server() as remote:
        command = ["ssh", *client.options(), "-N", "-L", f"127.0.0.1:{local}:localhost:{remote}", "127.0.0.1"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as tunnel:
            try:
                assert eventually(lambda: listens(local))
                with socket.create_connection(("127.0.0.1", local), timeout=5) as through:
                    through.sendall(b"there and back")
                    through.shutdown(socket.SHUT_WR)
                    assert through.makefile("rb").read() == b"there and back"
            finally:
                tunnel.terminate()


def test_only_its_own_key_and_user_may_log_in(machine: EmbeddedMachine, tmp_path: Path) -> None:
    keygen(tmp_path / "other")
    with pytest.raises(NeedsUser):
        connect(replace(target(machine), identity_file=tmp_path / "other")).close()
    with pytest.raises(NeedsUser):
        connect(replace(target(machine), user="root")).close()


def test_what_runs_ends_when_the_client_is_gone(client: Client) -> None:
    command = ["ssh", *client.options(), "127.0.0.1", "echo $$; sleep 300"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as ssh:
        assert ssh.stdout is not None
        pid = int(ssh.stdout.readline())
        assert alive(pid)
        ssh.kill()
    assert eventually(lambda: not alive(pid))


# ---------------------------------------------------------------- devsync's own client


@contextmanager
def echo_server() -> Iterator[int]:
    """A port that sends back what it gets, each time until the other side has said all."""

    def serve() -> None:
        threads = []
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threads.append(threading.Thread(target=echo, args=(peer,)))
                threads[-1].start()
        for thread in threads:
            thread.join()

    def echo(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            while data := peer.recv(65536):
                peer.sendall(data)

    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_fifty_connections_through_the_tunnel(connection: Connection) -> None:
    with echo_server() as port:
        streams = [connection.forward("localhost", port) for _ in range(50)]
        for number, stream in enumerate(streams):
            stream.send(b"%d" % number * 1000)
            stream.shutdown_write()
        for number, stream in enumerate(streams):
            assert b"".join(iter(lambda s=stream: s.recv(65536), b"")) == b"%d" % number * 1000  # type: ignore[misc]
            stream.close()


def test_a_port_where_nobody_listens(connection: Connection) -> None:
    with pytest.raises(ConnectionRefusedError):
        connection.forward("127.0.0.1", free_port())


def test_forwarding_goes_nowhere_else(connection: Connection) -> None:
    with pytest.raises((DevsyncError, OSError)):
        connection.forward("192.0.2.1", 80)


def test_a_signal_that_ends_a_command(connection: Connection) -> None:
    process = connection.exec("kill -TERM $$")
    assert process.wait() == 128 + signal.SIGTERM
    process.close()


def test_the_terminal_has_the_size_of_the_clients(connection: Connection) -> None:
    process = connection.exec(
        "stty -echo; stty size; echo $TERM;"
        "trap 'stty size; exit 4' WINCH; echo go; while :; do sleep 0.02; done",
        Terminal("vt220", 101, 33),
    )
    assert [line(process), line(process), line(process)] == [b"33 101", b"vt220", b"go"]
    process.resize(77, 22)
    assert line(process) == b"22 77"
    assert process.wait() == 4
    process.close()


def test_ctrl_c_in_a_terminal(connection: Connection) -> None:
    process = connection.exec("echo go; exec sleep 300", Terminal("vt100", 80, 24))
    assert line(process) == b"go"
    process.send(b"\x03")
    assert process.wait() == 128 + signal.SIGINT
    process.close()


@pytest.mark.parametrize("terminal", [None, Terminal("vt100", 80, 24)])
def test_closing_the_channel_hangs_up(connection: Connection, terminal: Terminal | None) -> None:
    process = connection.exec("echo $$; sleep 300 & echo $!; wait", terminal)
    shell, sleep = int(line(process)), int(line(process))
    process.close()
    assert eventually(lambda: not alive(shell) and not alive(sleep))


def test_closing_while_the_command_reads_nothing_hangs_up(connection: Connection) -> None:
    process = connection.exec("echo $$; exec sleep 300")
    pid = int(line(process))
    process.send(b"x" * 200_000)
    process.close()
    assert eventually(lambda: not alive(pid))


def test_the_output_outlives_the_command_as_in_openssh(connection: Connection) -> None:
    process = connection.exec("(sleep 0.2; echo late) & exit 6")
    assert output(process) == b"late\n"
    assert process.wait() == 6
    process.close()


def test_the_environment_is_that_of_a_login(
    machine: EmbeddedMachine, connection: Connection, tmp_path: Path
) -> None:
    process = connection.exec("pwd; echo $HOME; command -v python3; python3 -c 'import devsync'; env")
    lines = output(process).decode().splitlines()
    home, python = str(machine.home), Path(sys.executable).parent / "python3"
    assert lines[:3] == [home, home, str(python)]
    assert not [text for text in lines if text.startswith(("PYTEST", "DEVSYNC_STATE"))]
    process.close()


def test_a_channel_has_one_command_and_takes_signals(machine: EmbeddedMachine) -> None:
    address = machine.address()
    transport = paramiko.Transport((address.host, address.port))
    transport.connect(username=machine.user, pkey=paramiko.Ed25519Key(filename=machine.identity_file))
    with transport, transport.open_session() as channel:
        channel.exec_command("trap 'exit 9' USR1; echo go; while :; do sleep 0.02; done")
        assert channel.recv(3) == b"go\n"
        message = paramiko.Message()
        message.add_byte(cMSG_CHANNEL_REQUEST)
        message.add_int(channel.remote_chanid)
        message.add_string("signal")
        message.add_boolean(False)
        message.add_string("USR1")
        transport._send_user_message(message)  # type: ignore[attr-defined]  # there is no public call
        assert channel.recv_exit_status() == 9
        with pytest.raises(paramiko.SSHException):
            channel.exec_command("true")
    transport.join(5)


def test_names_that_are_no_utf_8_and_a_relative_path(
    machine: EmbeddedMachine, connection: Connection
) -> None:
    sftp = SftpClient(connection.subsystem("sftp"))
    name = b"caf\xe9 \xff"
    sftp.write_file(name, [b"content"], 0o600).result()
    try:
        assert (os.fsencode(machine.home) + b"/" + name) == sftp.realpath(name).result()
        assert name in sftp.list_folder(b".").result()
        assert b"".join(sftp.read_file(name, 7)) == b"content"
    finally:
        sftp.remove(name).result()
        sftp.close()


def test_another_subsystem_is_refused(connection: Connection) -> None:
    with pytest.raises(DevsyncError):
        connection.subsystem("netconf").recv(1)


# ---------------------------------------------------------------- power


def record(machine: EmbeddedMachine) -> Record:
    found = holder(machine.home.parent / "power")
    assert found is not None
    return found


def test_files_and_identity_outlive_a_power_cycle(tmp_path: Path) -> None:
    with running(tmp_path / "state") as machine:
        before, known = record(machine), machine.known_hosts.read_bytes()
        (machine.home / "file").write_text("kept")
        machine.deallocate(NEVER, quiet)
        assert machine.power() is Power.DEALLOCATED
        with pytest.raises(Unavailable):
            machine.address()
        assert eventually(lambda: not alive(before.pid))
        machine.start(NEVER, quiet)
        after = record(machine)
        assert (after.port, after.alias) == (before.port, before.alias)
        assert after.pid != before.pid
        assert machine.known_hosts.read_bytes() == known
        assert (machine.home / "file").read_text() == "kept"


def test_a_second_start_does_nothing(machine: EmbeddedMachine) -> None:
    before = record(machine)
    told: list[str] = []
    EmbeddedMachine(machine.home.parent).start(NEVER, told.append)
    assert record(machine) == before
    assert not told


def test_two_starts_at_once_make_one_machine(tmp_path: Path) -> None:
    machines = [EmbeddedMachine(tmp_path / "state") for _ in range(3)]
    threads = [threading.Thread(target=machine.start, args=(NEVER, quiet)) for machine in machines]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {machine.power() for machine in machines} == {Power.RUNNING}
        assert len({machine.address() for machine in machines}) == 1
    finally:
        machines[0].deallocate(NEVER, quiet)


def test_the_keys_are_private(machine: EmbeddedMachine) -> None:
    folder = machine.home.parent
    assert folder.stat().st_mode & 0o777 == 0o700
    for key in (machine.identity_file, folder / "host_key"):
        assert key.stat().st_mode & 0o777 == 0o600


@linux
def test_a_machine_that_was_killed_is_off_and_starts_empty(tmp_path: Path) -> None:
    with running(tmp_path / "state") as machine:
        connection = connect(target(machine))
        process = connection.exec("setsid sh -c 'echo $$; exec sleep 300' </dev/null")
        left = int(line(process))
        os.kill(record(machine).pid, signal.SIGKILL)
        assert eventually(lambda: machine.power() is Power.DEALLOCATED)
        connection.close()
        assert alive(left)
        machine.start(NEVER, quiet)
        assert not alive(left)


@linux
def test_everything_that_runs_on_it_ends_with_it(tmp_path: Path) -> None:
    with running(tmp_path / "state") as machine:
        connection = connect(target(machine))
        pids = []
        for command in (
            "echo $$; exec sleep 300",
            "trap '' HUP TERM; echo $$; while :; do sleep 1; done",
            "setsid sh -c 'echo $$; exec sleep 300' </dev/null",
        ):
            pids.append(int(line(connection.exec(command))))
        began = time.monotonic()
        machine.deallocate(NEVER, quiet)
        assert time.monotonic() - began < 2.0
        assert not any(map(alive, pids))
        connection.close()


def test_the_number_of_another_process_is_never_taken_for_its_own(tmp_path: Path) -> None:
    machine = EmbeddedMachine(tmp_path / "state")
    machine.home.mkdir(parents=True)
    with subprocess.Popen(["sleep", "300"]) as other:
        try:
            left_behind = {"pid": other.pid, "port": 1, "alias": "x", "ending": False}
            (tmp_path / "state" / "power").write_text(json.dumps(left_behind))
            assert machine.power() is Power.DEALLOCATED
            machine.deallocate(NEVER, quiet)
            assert other.poll() is None
            with running(tmp_path / "state") as started:
                assert record(started).pid != other.pid
            assert other.poll() is None
        finally:
            other.kill()


HOLD = """
import os, sys
from pathlib import Path
from devsync.machine.embedded_state import PowerLock, Record
lock = PowerLock(Path(sys.argv[1]))
assert lock.take()
if sys.argv[2] == "deallocating":
    lock.write(Record(os.getpid(), 1, "x", ending=True))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("power", [Power.STARTING, Power.DEALLOCATING])
def test_the_states_on_the_way(tmp_path: Path, power: Power) -> None:
    machine = EmbeddedMachine(tmp_path / "state")
    machine.home.mkdir(parents=True)
    (tmp_path / "state" / "power").write_text('{"pid": 1, "port": 1, "alias": "x", "ending": false}')
    command = [sys.executable, "-c", HOLD, str(tmp_path / "state" / "power"), power.value]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        assert machine.power() is power
        with pytest.raises(Unavailable):
            machine.address()
        other.stdin.close()
        machine.deallocate(NEVER, quiet)
        assert machine.power() is Power.DEALLOCATED


def test_it_ends_when_its_folder_is_gone(tmp_path: Path) -> None:
    with running(tmp_path / "state") as machine:
        pid = record(machine).pid
        shutil.rmtree(tmp_path / "state")
        assert machine.power() is Power.DEALLOCATED
        assert eventually(lambda: not alive(pid))


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    machine = EmbeddedMachine(tmp_path / "state")
    machine.home.mkdir(parents=True)
    (tmp_path / "state" / "host_key").write_text("no key at all")
    with pytest.raises(DevsyncError, match="cannot be started") as failed:
        machine.start(NEVER, quiet)
    assert "server.log" in failed.value.hint
    assert machine.power() is Power.DEALLOCATED
    (tmp_path / "file").touch()
    with pytest.raises(DevsyncError, match="Not a directory"):
        EmbeddedMachine(tmp_path / "file").start(NEVER, quiet)
