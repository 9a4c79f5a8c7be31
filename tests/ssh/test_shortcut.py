"""The shortcut of a tunnel: every byte once and in order, whoever carries it; none after the end."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from paramiko.buffered_pipe import BufferedPipe

from devsync.ssh.process import Shortcut
from tests.system.project import wait_for

SMALL_WINDOW = 20_000


class Channel:
    """As much of the library's channel as the shortcut knows, and the reader's side of it."""

    def __init__(self, threshold: int) -> None:
        self.in_buffer: BufferedPipe[bytes] | Shortcut = BufferedPipe()
        self.in_window_sofar = 0
        self.in_window_threshold = threshold
        self.acknowledged = 0

    def recv(self, size: int) -> bytes:
        """As the library does it: who reads also acknowledges, once there is enough of it."""
        data = self.in_buffer.read(size, None)
        self.in_window_sofar += len(data)
        if self.in_window_sofar > self.in_window_threshold:
            self.acknowledged += self.in_window_sofar
            self.in_window_sofar = 0
        return data


class Client:
    """Takes of each offer what `room` says: all of it, a part, or nothing."""

    def __init__(self, room: Callable[[int], int]) -> None:
        self.got = b""
        self.offers = 0
        self._room = room

    def take(self, data: bytes) -> int:
        """A Take."""
        self.offers += 1
        size = self._room(len(data))
        self.got += data[:size]
        return size


@pytest.mark.parametrize("seed", range(5))
def test_every_byte_arrives_once_and_in_order(seed: int) -> None:
    channel, chance = Channel(SMALL_WINDOW), random.Random(seed)
    moods = random.Random(-seed)
    client = Client(lambda size: moods.choice((0, size // 2, size)))
    shortcut = shortcut_of(channel, client)
    pieces = [chance.randbytes(chance.randrange(1, 500)) for _ in range(3000)]

    def read() -> None:
        while data := channel.recv(chance.choice((100, 10_000))):
            client.got += data

    reader = threading.Thread(target=read)
    reader.start()
    for piece in pieces:
        shortcut.feed(piece)
    shortcut.close()
    reader.join(10)
    assert client.got == b"".join(pieces)
    assert channel.acknowledged + channel.in_window_sofar == len(client.got)
    assert channel.in_window_sofar <= SMALL_WINDOW + 10_000, "the window is opened again in time"


def test_only_what_somebody_waits_for_is_taken_and_nothing_after_the_end() -> None:
    channel, client = Channel(SMALL_WINDOW), Client(lambda size: size)
    shortcut = shortcut_of(channel, client)
    shortcut.feed(b"nobody waits yet")
    assert client.offers == 0
    assert channel.recv(100) == b"nobody waits yet"

    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(channel.recv(100)))
    reader.start()
    wait_for("somebody waits", lambda: shortcut.awaited)
    shortcut.feed(b"taken")
    assert (client.got, read) == (b"taken", [])
    shortcut.end()
    shortcut.feed(b"the client is gone")
    reader.join(10)
    assert (client.got, read) == (b"taken", [b"the client is gone"])


def shortcut_of(channel: Channel, client: Client) -> Shortcut:
    """A shortcut in place of the channel's pipe."""
    shortcut = Shortcut(cast("Any", channel), client.take)
    channel.in_buffer = shortcut
    return shortcut
