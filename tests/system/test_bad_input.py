"""Whatever is wrong, the command line says what and what to do, and touches nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devsync.folders import socket_path, state_dir
from tests.fakes import az
from tests.fakes.arm import GROUP, SUBSCRIPTION, VM_NAME, Arm, Vm, World
from tests.fakes.sshd import Sshd, free_port, keygen
from tests.system.conftest import config_for, there
from tests.system.project import Project, tree, wait_for

pytestmark = pytest.mark.timeout(60)


@dataclass
class Place:
    """A project, its machine, and where everything around them lies."""

    project: Project
    sshd: Sshd
    folder: Path

    @property
    def file(self) -> Path:
        """The project's devsync.toml."""
        return self.project.root / "devsync.toml"

    def change(self, old: str, new: str) -> None:
        """Edit devsync.toml."""
        text = self.file.read_text()
        assert old in text
        self.file.write_text(text.replace(old, new))

    def state(self) -> Path:
        """The project's state folder, made if it is missing."""
        return state_dir(self.project.root, self.project.environ)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """One machine for all: it is touched by few."""
    made = Sshd(tmp_path_factory.mktemp("machine"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def place(tmp_path: Path, server: Sshd) -> Iterator[Place]:
    server.trust()
    project = Project(tmp_path, config_for(server))
    (project.root / "code.py").write_text("print('untouched')\n")
    yield Place(project, server, tmp_path)
    project.end()
    shutil.rmtree(server.home / "work", ignore_errors=True)


Setup = Callable[[Place], None]


@dataclass(frozen=True)
class Case:
    """What was done to the place, the command, its exit status, and words that must be said."""

    setup: Setup
    command: str
    status: int
    said: tuple[str, ...]
    silent: tuple[str, ...] = field(default=("Traceback", "bug in devsync"))


def nothing(place: Place) -> None:
    """All is well, and nothing runs."""


def config(old: str, new: str) -> Setup:
    return lambda place: place.change(old, new)


def appended(text: str) -> Setup:
    def setup(place: Place) -> None:
        place.file.write_text(place.file.read_text() + text)

    return setup


def no_config(place: Place) -> None:
    place.file.rename(place.folder / "elsewhere.toml")


def closed_port(place: Place) -> None:
    place.change(f"port = {place.sshd.port}", f"port = {free_port()}")


def other_key(place: Place) -> None:
    keygen(place.folder / "other_key")
    place.change(str(place.sshd.client_key), str(place.folder / "other_key"))


def empty_known_hosts(place: Place) -> None:
    place.sshd.known_hosts.write_text("# nobody\n")


def other_host_key(place: Place) -> None:
    keygen(place.folder / "host_key")
    kind, key = (place.folder / "host_key.pub").read_text().split()[:2]
    place.sshd.known_hosts.write_text(f"[127.0.0.1]:{place.sshd.port} {kind} {key}\n")


def path_is_a_file(place: Place) -> None:
    (place.sshd.home / "work").mkdir()
    (place.sshd.home / "work" / "file").write_text("not a folder\n")
    place.change("~/work/project", "~/work/file")


def path_below_a_file(place: Place) -> None:
    path_is_a_file(place)
    place.change("~/work/file", "~/work/file/below")


def state_is_a_file(place: Place) -> None:
    place.project.state.write_text("not a folder\n")


def state_of_another(place: Place) -> None:
    if os.getuid():
        pytest.skip("only root can give a folder away")
    os.chown(place.state(), 12345, -1)


def garbage_memory(place: Place) -> None:
    (place.state() / "project.db").write_bytes(b"this is no database " * 400)


def log_is_a_folder(place: Place) -> None:
    (place.state() / "daemon.log").mkdir()


def dead_socket(place: Place) -> None:
    """What a killed daemon leaves, and worse."""
    socket_path(place.state(), place.project.environ).write_bytes(b"\0garbage\n")


CONFIGURATION = {
    "unknown key": Case(
        config("user =", "usr ="), "start", 2, ("devsync.toml:7", "did you mean 'ssh.user'?")
    ),
    "unknown table": Case(appended("[tunel]\n"), "start", 2, ("devsync.toml", "tunel", "'tunnel'?")),
    "wrong type": Case(config("port = ", "port = true #"), "start", 2, ("ssh.port: must be a number",)),
    "bad duration": Case(appended('[idle]\nafter = "45 x"\n'), "start", 2, ("idle.after", "known: ms, s, m")),
    "no such key file": Case(config("client_key", "no_key"), "start", 2, ("ssh.identity_file", "no_key")),
    "no TOML": Case(appended("[[[\n"), "start", 2, ("devsync.toml:17", "not valid TOML")),
    "no TOML, run": Case(appended("[[[\n"), "run -- true", 125, ("not running",)),
    "no config": Case(no_config, "start", 2, ("no devsync.toml", "devsync init")),
    "temporary disk": Case(config("~/work/project", "/mnt/x"), "start", 2, ("sync.path", "temporary disk")),
    "the whole disk": Case(config("~/work/project", "/"), "push", 2, ("a folder of its own",)),
    "out of home": Case(config("~/work/project", "~/../x"), "push", 2, ("must not contain '..'",)),
}
USAGE = {
    "unknown command": Case(nothing, "strat", 2, ("did you mean 'start'?",)),
    "unknown option": Case(nothing, "start --forground", 2, ("Did you mean '--foreground'?",)),
    "negative timeout": Case(nothing, "start --timeout -5s", 2, ("--timeout", "'-5s'", "45m")),
    "timeout, no unit": Case(nothing, "flush --timeout 5", 2, ("needs a unit",)),
    "no such folder": Case(nothing, "-C /no/such/folder status", 2, ("does not exist",)),
    "keepalive nonsense": Case(nothing, "keepalive banana", 2, ("'banana' is not written like",)),
    "keepalive nothing": Case(nothing, "keepalive", 2, ("devsync keepalive 2h",)),
    "keepalive for ever": Case(nothing, "keepalive 99999999d", 2, ("nobody works for so long",)),
    "vm nonsense": Case(nothing, "vm reboot", 2, ("No such command 'reboot'",)),
}
NO_DAEMON = {
    "status": Case(nothing, "status", 3, ("project: stopped",)),
    "flush": Case(nothing, "flush", 3, ("not running", "hint: devsync start")),
    "idle": Case(nothing, "idle", 3, ("not running", "hint: devsync start")),
    "keepalive": Case(nothing, "keepalive 2h", 3, ("not running",)),
    "run": Case(nothing, "run -- true", 125, ("not running", "hint: devsync start")),
    "stop": Case(nothing, "stop", 0, ("was not running",)),
    "garbage for a socket": Case(dead_socket, "status", 3, ("stopped",)),
}
MACHINE = {
    "closed port": Case(closed_port, "start --timeout 1s", 3, ("refuses the connection", "ssh.port")),
    "closed port, push": Case(closed_port, "push", 3, ("refuses the connection", "ssh.port")),
    "refused login": Case(other_key, "start", 3, ("refuses the login; tried:", "other_key", "ssh.user")),
    "unknown host key": Case(empty_known_hosts, "start", 3, ("not known yet", "SHA256:", "ssh-keygen -lf")),
    "changed host key": Case(
        other_host_key, "start", 3, ("has changed", "nothing was sent", "ssh-keygen -R")
    ),
    "path is a file": Case(path_is_a_file, "start", 3, ("~/work/file", "cannot be used", "sync.path")),
    "path below a file": Case(
        path_below_a_file, "push", 3, ("~/work/file/below", "cannot be used", "sync.path")
    ),
    "path not writable": Case(config("~/work/project", "/proc/x"), "start", 3, ("/proc/x", "cannot be used")),
}
STATE = {
    "a file": Case(state_is_a_file, "start", 1, ("cannot use the state folder", "DEVSYNC_STATE_DIR")),
    "another's": Case(state_of_another, "start", 1, ("not a folder of yours", "DEVSYNC_STATE_DIR")),
    "garbage memory": Case(garbage_memory, "start", 1, ("project.db", "away and start again")),
    "log is a folder": Case(log_is_a_folder, "start", 1, ("cannot write the log", "Is a directory")),
}
CASES = {
    f"{table}: {name}": case
    for table, cases in (
        ("configuration", CONFIGURATION),
        ("usage", USAGE),
        ("no daemon", NO_DAEMON),
        ("machine", MACHINE),
        ("state", STATE),
    )
    for name, case in cases.items()
}


@contextmanager
def untouched(place: Place) -> Iterator[None]:
    """Neither side changes, no daemon is left, and nobody is shown a traceback."""
    here, remote = tree(place.project.root), kept(place)
    yield
    assert tree(place.project.root) == here
    assert kept(place) == remote
    assert not there(place.sshd).exists()
    wait_for("no daemon is left", lambda: not place.project.daemons(), patience=5.0)
    for said in place.project.state.glob("*/daemon.*") if place.project.state.is_dir() else ():
        assert said.is_dir() or "Traceback" not in said.read_text()


def kept(place: Place) -> dict[str, tuple[bytes, bool]]:
    """What is on the machine, but for the record of its work, which is written there all the time."""
    found = tree(place.sshd.home)
    return {
        path: what for path, what in found.items() if not path.startswith(".local/state/devsync-sampler/")
    }


@pytest.mark.parametrize("name", CASES)
def test_it_is_said_what_is_wrong_and_nothing_is_touched(place: Place, name: str) -> None:
    case = CASES[name]
    case.setup(place)
    with untouched(place):
        done = place.project.devsync(*case.command.split(), expect=case.status)
    told = done.stderr + done.stdout
    for words in case.said:
        assert words in told
    for words in case.silent:
        assert words not in told


def test_stopped_as_json(place: Place) -> None:
    done = place.project.devsync("status", "--json", expect=3)
    assert json.loads(done.stdout) == {"project": "project", "state": "stopped"}
    assert done.stderr == ""


# ---------------------------------------------------------------- a cloud


@contextmanager
def cloud(place: Place, *vms: Vm) -> Iterator[tuple[World, az.Az]]:
    """The project's machine is a VM, and `az` is on PATH."""
    world = World(*vms)
    world.retry_after = 0
    program = az.install(place.folder / "bin")
    place.project.environ |= {"PATH": f"{program.folder}:/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
    with Arm(place.folder, world) as arm:
        place.change(
            'provider = "ssh"\n',
            f'provider = "azure"\n[machine.azure]\nsubscription_id = "{SUBSCRIPTION}"\n'
            f'resource_group = "{GROUP}"\nvm_name = "{VM_NAME}"\nendpoint = "{arm.url}"\n'
            f'ca_bundle = "{arm.ca}"\n',
        )
        yield world, program


def test_no_such_vm(place: Place) -> None:
    with cloud(place) as (world, _), untouched(place):
        refused = place.project.devsync("start", expect=3)
        assert "hint: check" in refused.stderr
        place.project.devsync("vm", "status", expect=1)
        assert "start" not in world.log


def test_no_az_at_all(place: Place) -> None:
    with cloud(place, Vm()) as (world, program), untouched(place):
        (program.folder / "az").unlink()
        assert "install the Azure CLI" in place.project.devsync("start", expect=3).stderr
        assert world.log == []


# ---------------------------------------------------------------- a machine that says nothing


def test_a_port_that_never_answers(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, untouched(place):
        place.file.write_text(config_for(place.sshd, port=silent.getsockname()[1]))
        (place.folder / "before").mkdir()
        here = tree(place.project.root)
        refused = place.project.devsync("start", "--timeout", "1s", expect=3)
        assert "not synchronised in time" in refused.stderr
        assert tree(place.project.root) == here
        place.file.write_text(config_for(place.sshd))


def test_ctrl_c_while_it_starts_leaves_nothing_running(place: Place) -> None:
    with untouched(place):
        text = place.file.read_text()
        closed_port(place)
        start = _spawn(place.project, "start")
        assert start.stderr is not None
        assert start.stderr.readline()
        start.send_signal(signal.SIGINT)
        _, told = start.communicate(timeout=20)
        assert start.returncode == 130
        assert "Traceback" not in told
        assert "stopped" in told
        place.file.write_text(text)


def _spawn(project: Project, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "devsync", *words],
        cwd=project.root,
        env=project.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---------------------------------------------------------------- while a daemon runs


def test_a_daemon_that_dies_during_a_flush(project: Project, sshd: Sshd) -> None:
    project.devsync("start")
    sshd.stop()  # so that the flush has something to wait for
    wait_for("the loss is noticed", lambda: project.status()["state"] == "offline")
    flush = _spawn(project, "flush")
    assert flush.stderr is not None
    assert "waiting for the machine" in flush.stderr.readline()
    project.kill()
    _, told = flush.communicate(timeout=20)
    assert flush.returncode == 3
    assert "the daemon went away" in told
    assert "Traceback" not in told
    sshd.start()
    project.devsync("start")


def test_what_a_running_daemon_is_not_ready_for(place: Place) -> None:
    project = place.project
    project.devsync("start")
    pid = project.pid()
    assert str(pid) in project.devsync("start", "--foreground", expect=1).stderr
    assert "cannot be deallocated" in project.devsync("vm", "deallocate", expect=3).stderr
    assert project.status()["state"] == "watching", "what was refused changes nothing"
    client_sees_garbage(socket_path(place.state(), project.environ))
    assert project.pid() == pid


def client_sees_garbage(path: Path) -> None:
    """A client that speaks something else is hung up on."""
    for words in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"J\xff\xff\xff\xff",
        b"J\0\0\0\x02[]",
        b'J\0\0\0\x0e{"op":"dance"}',
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(words)
            client.shutdown(socket.SHUT_WR)
            answer = client.makefile("rb").read()
        assert b"result" not in answer
        assert (b"does not know 'dance'" in answer) is (b"dance" in words)


@pytest.mark.parametrize("how", ["gone", "exchanged"])
def test_a_project_folder_that_is_gone_halts_and_deletes_nothing(place: Place, how: str) -> None:
    project, root = place.project, place.project.root
    project.devsync("start")
    before = tree(there(place.sshd))
    socket_file = socket_path(place.state(), project.environ)
    away = place.folder / "away"
    root.rename(away)
    if how == "exchanged":
        root.mkdir()
        shutil.copy(away / "devsync.toml", root)
    wait_for("it halts", lambda: _state_behind(socket_file) == "halted")
    assert tree(there(place.sshd)) == before

    if how == "exchanged":
        assert "HALTED" in project.devsync("status").stdout
        project.devsync("flush", expect=4)
        shutil.rmtree(root)
    away.rename(root)
    project.devsync("start")
    assert project.status()["state"] == "watching"
    assert tree(there(place.sshd)) == before == tree(root)


def _state_behind(path: Path) -> str:
    from devsync.daemon.client import Client

    client = Client.connect(path)
    assert client is not None
    with client:
        return str(client.call("status")["state"])


# ---------------------------------------------------------------- names


def test_a_path_of_every_kind_of_byte_works_end_to_end(tmp_path: Path, server: Sshd) -> None:
    odd = os.fsdecode(b"we ird '\"$x\n\xff\xc3\xa9;`id`*")
    text = config_for(server).replace("~/work/project", "~/work/od d '$x`id`")
    project = Project(tmp_path / odd, text)
    try:
        (project.root / odd).write_text("a file of that name\n")
        project.devsync("start")
        remote = server.home / "work" / "od d '$x`id`"
        assert tree(remote) == tree(project.root)
        project.devsync("run", "--", "sh", "-c", "pwd > where")
        assert (project.root / "where").read_text() == f"{remote}\n"
        project.devsync("stop")
        project.devsync("push")
        assert not any(said.read_text() for said in project.state.glob("*/daemon.out"))
    finally:
        project.end()
