"""The near end of the helper: questions go out, answers come back in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from devsync import ports
from devsync.replica import frames, wire

BLOCK = 1 << 16


class Refusal(ports.DevsyncError):
    """The helper could not do one thing; it goes on. The text is what it said."""


class Answer:
    """An answer that is on its way."""

    def __init__(self, channel: HelperChannel) -> None:
        self._channel = channel
        self.value: dict[str, Any] | None = None

    def result(self) -> Any:
        """Wait for it.

        Raises Halted (the root is gone), Owned, Refusal, Unavailable; DevsyncError for nonsense.
        """
        while self.value is None:
            self._channel.take()
        if "error" not in self.value:
            return self.value.get("ok")
        text = wire.text(str(self.value["error"]))
        if self.value.get("kind") == "gone":
            raise ports.Halted(
                f"on the machine, {text}", hint="if that is meant, start again from an empty folder"
            )
        if self.value.get("kind") == "taken":
            raise ports.Owned(f"the folder on the machine {text}")
        raise Refusal(f"the machine's helper says: {text}")


class HelperChannel:
    """Owns the process. One thread asks; any thread may interrupt."""

    def __init__(self, process: ports.Process, awake: Callable[[], bytes] = bytes) -> None:
        """`awake` waits until the helper lives, and returns what came behind its first sign of life."""
        self._process = process
        self._awake: Callable[[], bytes] | None = awake
        self._buffer = b""
        self._expected: deque[Answer] = deque()

    def awake(self) -> None:
        """Wait until the helper lives. Raises as `start_helper` does."""
        if self._awake is not None:
            awake, self._awake = self._awake, None
            self._buffer = awake()

    def ask(self, verb: str, **arguments: Any) -> Answer:
        """Send a question; several may be on their way."""
        try:
            frame = frames.encode({"do": verb, **arguments})
        except frames.Malformed as error:
            raise ports.DevsyncError(f"too much for one message to the machine: {error}") from error
        self._process.send(frame)
        answer = Answer(self)
        self._expected.append(answer)
        return answer

    def call(self, verb: str, **arguments: Any) -> Any:
        """Ask and wait."""
        return self.ask(verb, **arguments).result()

    def finish(self, verb: str, patience: float) -> None:
        """Ask for a last thing and wait so many seconds for the answer, whatever becomes of it."""
        try:
            answer = self.ask(verb)
            deadline = time.monotonic() + patience
            while answer.value is None and time.monotonic() < deadline:
                if self._buffer or self._process.pending():
                    self.take()
                else:
                    time.sleep(0.005)  # a stream can be asked whether it has something, but not for how long
        except ports.DevsyncError:
            pass  # the link is lost

    def take(self) -> None:
        """Receive the next answer and give it to whoever waits for it."""
        answer = self.receive()
        if not isinstance(answer, dict) or not self._expected:
            raise nonsense("an answer without a question")
        self._expected.popleft().value = answer

    def receive(self) -> Any:
        """The next message, whatever it is. Raises Unavailable at the end."""
        self.awake()
        try:
            return frames.read(self._exactly)
        except EOFError:
            raise ports.Unavailable("the helper on the machine has ended") from None
        except frames.Malformed as error:
            raise nonsense(str(error)) from error

    def interrupt(self) -> None:
        """Every wait ends with Unavailable."""
        self._process.close()

    def close(self) -> None:
        """End the helper; a second call does nothing."""
        self._process.close()

    def _exactly(self, size: int) -> bytes:
        parts = [self._buffer[:size]]
        missing = size - len(parts[0])
        self._buffer = self._buffer[size:]
        while missing:
            data = self._process.recv(max(BLOCK, min(missing, 1 << 20)))
            if not data:
                if len(parts) > 1 or parts[0]:
                    raise ports.Unavailable("the helper on the machine ended in mid-sentence")
                return b""
            parts.append(data[:missing])
            self._buffer = data[missing:]
            missing -= len(parts[-1])
        return b"".join(parts)


def nonsense(what: str) -> ports.DevsyncError:
    """The error for an answer that no honest helper gives."""
    return ports.DevsyncError(f"the machine's helper gave an answer that makes no sense: {what}")
