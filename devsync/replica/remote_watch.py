"""Hints from the machine: a second helper that does nothing but watch."""

from __future__ import annotations

import threading
from collections.abc import Callable

from devsync import ports
from devsync.core.snapshot import ROOT
from devsync.replica import wire
from devsync.replica.channel import HelperChannel, nonsense
from devsync.replica.luggage import command_line, start_helper


class RemoteWatch:
    """Implements ports.Service. Owns its helper while it runs; `set_rules` may come from any thread."""

    name = "remote-watch"

    def __init__(
        self,
        open_helper: Callable[[str], ports.Process],
        root: str,
        rules: ports.Rules,
        hints: ports.Hints,
    ) -> None:
        self._open_helper = open_helper
        self._root = root
        self._rules = rules
        self._hints = hints
        self._lock = threading.Lock()  # over _rules and what is sent to _channel
        self._channel: HelperChannel | None = None
        self.watching = ""
        """How the machine is watched: inotify, or polling and why; empty while it is not."""

    def set_rules(self, rules: ports.Rules) -> None:
        """Watch by these rules from now on. A link that is broken is left to `run` to notice."""
        with self._lock:
            self._rules = rules
            if self._channel is not None:
                try:
                    self._channel.ask("watch", rules=rules.to_json())
                except ports.Unavailable:
                    pass

    def run(self, stop: threading.Event) -> None:
        channel = start_helper(self._open_helper(command_line()))
        try:
            channel.call("hello", root=self._root)
            with self._lock:
                self._channel = channel
                channel.ask("watch", rules=self._rules.to_json())
            while not stop.is_set():
                self._take(channel.receive())
        except ports.Unavailable:
            if not stop.is_set():
                raise
        finally:
            with self._lock:
                self._channel = None
            self.watching = ""
            channel.close()

    def interrupt(self) -> None:
        with self._lock:
            channel = self._channel
        if channel is not None:
            channel.interrupt()

    def _take(self, message: object) -> None:
        try:
            if not isinstance(message, dict):
                raise ValueError("no message")
            if "error" in message:
                raise ports.Unavailable(f"the machine cannot be watched: {wire.text(message['error'])}")
            if "hints" in message:
                self._hints.add(wire.hints_from_json(message["hints"]))
            elif "watching" in message:
                why = wire.text(message.get("why", ""))
                self.watching = wire.text(message["watching"]) + (f" ({why})" if why else "")
                self._hints.add([ROOT])  # what changed before the watch was set, nobody has seen
        except ValueError as error:
            raise nonsense(str(error)) from error
