"""The tunnel, over a real connection: every byte, every kind of end, the link that goes and comes back."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from devsync.ports import Connection, NeedsUser
from devsync.ssh import tunnel as tunnels
from devsync.ssh.connect import connect
from devsync.ssh.tunnel import Tunnel
from tests.fakes.sshd import Sshd, free_port
from tests.fakes.wan import Wan


class Remote:
    """A server on the machine: each connection is given to `handle` in a thread of its own."""

    def __init__(self, handle: Callable[[socket.socket], None], port: int = 0) -> None:
        self._handle = handle
        self._server = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Remote:
        self._thread = threading.Thread(target=self._accept, name="remote server")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._server.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="remote connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                self._handle(client)
            except OSError:
                pass  # the other end went first


def echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def hold(client: socket.socket) -> None:
    client.sendall(b"hello")
    while client.recv(65536):
        pass


class Link:
    """Whoever keeps the connection, in small: it is there, or away until somebody puts it back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._connection: Connection | None = None

    def __call__(self, timeout: float) -> Connection | None:
        with self._changed:
            self._changed.wait_for(lambda: self._connection is not None, timeout)
            return self._connection

    def set(self, connection: Connection | None) -> None:
        with self._changed:
            self._connection = connection
            self._changed.notify_all()


@contextmanager
def running(remote: int, link: Link, local: int = 0) -> Iterator[Tunnel]:
    """A tunnel at work; in the end everything that it started has ended, too."""
    spawned: list[threading.Thread] = []

    def spawn(name: str, body: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=body, name=name)
        spawned.append(thread)
        thread.start()
        return thread

    service = Tunnel(local, remote, link, spawn)
    stop = threading.Event()
    thread = threading.Thread(target=service.run, args=(stop,), name=service.name)
    thread.start()
    try:
        wait_for(lambda: service.port)
        yield service
    finally:
        stop.set()
        service.interrupt()
        thread.join(5)
        assert not thread.is_alive()
        assert not [one.name for one in spawned if one.is_alive()]
        assert service.state == "closed"


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.005)


def client_of(service: Tunnel) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=15)


def send_all(sock: socket.socket, content: bytes) -> None:
    sock.sendall(content)
    sock.shutdown(socket.SHUT_WR)


def read_all(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


@pytest.fixture
def link(sshd: Sshd) -> Iterator[Link]:
    with closing(connect(sshd.target)) as connection:
        found = Link()
        found.set(connection)
        yield found


def test_bytes_in_both_directions(link: Link) -> None:
    content = os.urandom(3_000_017)
    with Remote(echo) as remote, running(remote.port, link) as service, client_of(service) as client:
        sender = threading.Thread(target=send_all, args=(client, content))
        sender.start()
        assert hashlib.sha256(read_all(client)).digest() == hashlib.sha256(content).digest()
        sender.join(10)
        wait_for(lambda: service.received == len(content))
        assert (service.sent, service.state, service.problem) == (len(content), "open", "")
        client.close()
        wait_for(lambda: service.connections == 0)


def test_the_far_end_may_end_first_and_still_listen(link: Link) -> None:
    heard: list[bytes] = []

    def speak_then_listen(client: socket.socket) -> None:
        client.sendall(b"all I have to say")
        client.shutdown(socket.SHUT_WR)
        heard.append(read_all(client))

    with Remote(speak_then_listen) as remote, running(remote.port, link) as service:
        with client_of(service) as client:
            assert read_all(client) == b"all I have to say"
            client.sendall(b"and an answer")
            client.shutdown(socket.SHUT_WR)
            wait_for(lambda: heard == [b"and an answer"])
        wait_for(lambda: service.connections == 0)


def test_a_small_message_does_not_wait_for_more(link: Link) -> None:
    with Remote(echo) as remote, running(remote.port, link) as service, client_of(service) as client:
        client.sendall(b"x")
        client.recv(1)
        began = time.monotonic()
        for _ in range(50):
            client.sendall(b"ping")
            assert client.recv(10) == b"ping"
        assert (time.monotonic() - began) / 50 < 0.05


def test_two_hundred_connections(link: Link) -> None:
    with Remote(echo) as remote, running(remote.port, link) as service, ExitStack() as stack:
        clients = [stack.enter_context(client_of(service)) for _ in range(200)]
        for number, client in enumerate(clients):
            send_all(client, b"%d" % number * 1000)
        for number, client in enumerate(clients):
            assert read_all(client) == b"%d" % number * 1000
    assert service.connections == 0


def test_a_client_that_does_not_read_holds_up_nobody_else(link: Link) -> None:
    def flood(client: socket.socket) -> None:
        while True:
            client.sendall(bytes(1 << 20))

    with (
        Remote(flood) as flooded,
        Remote(echo) as echoing,
        running(flooded.port, link) as stuck,
        running(echoing.port, link) as free,
        client_of(stuck),
        client_of(free) as client,
    ):
        wait_for(lambda: stuck.received > 1_000_000)
        client.sendall(b"still here")
        assert client.recv(100) == b"still here"


def test_nobody_listens_there(link: Link) -> None:
    remote = free_port()
    with running(remote, link) as service:
        for _ in range(2):
            with client_of(service) as client:
                began = time.monotonic()
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
                assert time.monotonic() - began < 2
        assert service.problem == f"nobody listens on port {remote} there"
        with Remote(hold, remote), client_of(service) as client:
            assert client.recv(5) == b"hello"
            assert service.problem == ""


def test_a_busy_port_gives_the_next_free_one(link: Link) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, Remote(hold) as remote:
        wanted = taken.getsockname()[1]
        with running(remote.port, link, wanted) as service, client_of(service) as client:
            assert service.wanted == wanted
            assert wanted < service.port <= wanted + tunnels.ALTERNATIVES
            assert client.recv(5) == b"hello"


def test_a_port_that_somebody_else_has_for_ipv6_is_busy(link: Link) -> None:
    try:
        taken = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("there is no IPv6 here")
    with taken, running(1, link, taken.getsockname()[1]) as service:
        assert service.port != service.wanted


def test_no_port_is_free(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "ALTERNATIVES", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NeedsUser, match=f"{port} are all in use"):
            Tunnel(port, 1, link, lambda name, body: threading.Thread(target=body)).run(threading.Event())


def test_it_listens_on_the_loopback_address_only(link: Link) -> None:
    with running(1, link) as service:
        table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [row[1] for row in table if row[3] == "0A" and row[1].endswith(f":{service.port:04X}")]
        assert listening == [f"0100007F:{service.port:04X}"]


def test_new_connections_wait_for_the_link(sshd: Sshd, link: Link) -> None:
    connection = link(0)
    link.set(None)
    with Remote(hold) as remote, running(remote.port, link) as service, client_of(service) as client:
        wait_for(lambda: service.state == "waiting")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        link.set(connection)
        assert client.recv(5) == b"hello"
        wait_for(lambda: service.state == "open")


def test_new_connections_do_not_wait_for_ever(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "LINK_WITHIN", 0.3)
    link.set(None)
    with running(1, link) as service, client_of(service) as client:
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert service.problem == "the machine is out of reach"


def test_a_client_that_leaves_is_not_waited_for(link: Link) -> None:
    link.set(None)
    with running(1, link) as service:
        client_of(service).close()
        wait_for(lambda: service.connections == 0, seconds=3)


def test_a_cut_resets_what_was_open_and_new_connections_work(sshd: Sshd) -> None:
    """An orderly end would make half a reply look complete."""
    link = Link()
    with Wan(sshd.port) as wan, Remote(hold) as remote, running(remote.port, link) as service:
        target = replace(sshd.target, port=wan.port, alias=f"[127.0.0.1]:{sshd.port}")
        with closing(connect(target)) as first, ExitStack() as stack:
            link.set(first)
            clients = [stack.enter_context(client_of(service)) for _ in range(20)]
            for client in clients:
                assert client.recv(5) == b"hello"
            wan.cut()
            assert first.wait_closed(10) is not None
            link.set(None)
            for client in clients:
                client.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
            with closing(connect(target)) as second, client_of(service) as client:
                link.set(second)
                assert client.recv(5) == b"hello"
                client.close()
                wait_for(lambda: service.connections == 0)


def test_a_cut_while_a_client_does_not_read(sshd: Sshd) -> None:
    def flood(client: socket.socket) -> None:
        while True:
            client.sendall(bytes(1 << 20))

    link = Link()
    with (
        Wan(sshd.port) as wan,
        Remote(flood) as remote,
        running(remote.port, link) as service,
        closing(connect(replace(sshd.target, port=wan.port, alias=f"[127.0.0.1]:{sshd.port}"))) as connection,
        client_of(service) as client,
    ):
        link.set(connection)
        wait_for(lambda: service.received > 1_000_000)
        wan.cut()
        assert connection.wait_closed(10) is not None
        link.set(None)
        with pytest.raises(ConnectionResetError):
            read_all(client)


def test_stopping_ends_everything_at_once(link: Link) -> None:
    with Remote(hold) as remote, ExitStack() as stack:
        with running(remote.port, link) as service:
            clients = [stack.enter_context(client_of(service)) for _ in range(5)]
            for client in clients:
                assert client.recv(5) == b"hello"
            link.set(None)
            waiting = stack.enter_context(client_of(service))
            wait_for(lambda: service.connections == 6)
            began = time.monotonic()
        assert time.monotonic() - began < 3
        for client in (*clients, waiting):
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_it_can_run_again_on_the_same_port(link: Link) -> None:
    with Remote(hold) as remote:
        port = free_port()
        for _ in range(3):
            with running(remote.port, link, port) as service, client_of(service) as client:
                assert service.port == port
                assert client.recv(5) == b"hello"
