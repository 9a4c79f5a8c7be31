"""The near end of Jupyter: which one there is on the machine, how it is started, what is asked of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from devsync.core.jobs import Order
from devsync.core.jupyter import Kernel, Place, Server, kernels_from_json, server_from_json
from devsync.ports import Connection, DevsyncError
from devsync.work.command import Surroundings, command_line

TRAVELLING = (
    "devsync.core.idle",
    "devsync.core.observation",
    "devsync.probe.processes",
    "devsync.probe.view",
    "devsync.probe.jupyter",
    "devsync.work.jupyter_there",
)
"""The modules that travel for it; the last has the verbs."""

VERBS = ((TRAVELLING[-1], TRAVELLING[:-1]),)
"""What the helper needs besides its own verbs."""

LONGEST = 1 << 20
"""Bytes of an answer; whoever says more is not believed."""

FURTHER = 20
"""So many ports does Jupyter try by itself, should its own be taken in that very moment."""

# The project's own environments come first, then that of the login, then the usual places. What cannot tell
# its version, such as a script of an environment that was moved, is none.
_FIND = r"""
say() { printf '\ndevsync-%s=%s\n' "$1" "$2"; }
for place in .venv/bin/ .devsync/venv/bin/ .devsync/conda/bin/ '' /anaconda/bin/ /anaconda3/bin/ \
  /opt/*conda*/bin/ "$HOME"/*conda3/bin/ "$HOME"/*forge*/bin/
do
  for kind in lab notebook; do
    found=$(command -v "${place}jupyter-$kind") && "$found" --version >/dev/null 2>&1 </dev/null || continue
    case $found in /*) ;; *) found=$PWD/$found ;; esac
    say jupyter "$found"
    exit 0
  done
done
python=
for one in .venv/bin/python .devsync/venv/bin/python .devsync/conda/bin/python; do
  [ -z "$python" ] && [ -x "$one" ] && python=$one
done
[ -z "$python" ] && [ -w "${VIRTUAL_ENV:-${CONDA_PREFIX:-/nowhere}}" ] && python=python
if [ -n "$python" ] && "$python" -m pip --version >/dev/null 2>&1; then
  say install "$python -m pip install jupyterlab"
elif [ -n "$python" ] && command -v uv >/dev/null; then
  say install "uv pip install --python $python jupyterlab"
elif command -v uv >/dev/null; then
  say install "uv venv .devsync/venv"
  say install "uv pip install --python .devsync/venv/bin/python jupyterlab"
elif python3 -c 'import ensurepip, venv' 2>/dev/null; then
  say install "python3 -m venv .devsync/venv"
  say install ".devsync/venv/bin/python -m pip install jupyterlab"
elif command -v conda >/dev/null; then
  say install "conda create --yes --prefix .devsync/conda jupyterlab"
fi
exit 0
"""

T = TypeVar("T")


class JupyterDesk:
    """Where the machine is asked about Jupyter, by a helper that knows VERBS; `close` ends that. One owner.

    Every method may raise Unavailable, and DevsyncError for what the machine says.
    """

    def __init__(
        self,
        ask: Callable[..., Any],
        close: Callable[[], None],
        connection: Connection,
        around: Surroundings,
        command: str | None,
    ) -> None:
        """`ask(verb, **arguments)` waits for the helper's answer; `command` is the user's own for Jupyter."""
        self._ask, self.close, self._connection = ask, close, connection
        self._around, self._command = around, command

    def server(self) -> Server | None:
        """The one that shows the project, whoever started it."""
        return _judged(server_from_json, self._ask("jupyter-server", root=self._around.folder))

    def kernels(self) -> list[Kernel] | None:
        """Its kernels; None if no server runs."""
        answer = self._ask("jupyter-kernels", root=self._around.folder)
        return None if answer is None else _judged(kernels_from_json, answer)

    def place(self) -> Place:
        """The Jupyter that can be started, as the user's commands would find it."""
        if self._command is not None:
            return Place(("/bin/sh", "-c", f'{self._command} "$@"', "devsync-jupyter"))
        order = Order(("/bin/sh", "-c", _FIND))
        process = self._connection.exec(command_line(self._around, order, marked=False, buffered=True))
        try:
            said = bytearray()
            while len(said) < LONGEST and (chunk := process.recv(65536)):
                said += chunk
            complaint = process.recv_stderr(65536)
            if process.wait() != 0:
                raise DevsyncError(
                    f"the machine could not be searched for Jupyter: {_last_line(complaint)}",
                    hint="see [run] in devsync.toml",
                )
        finally:
            process.close()
        return place(said.decode("utf-8", "replace"))

    def order(self, place: Place, port: int) -> Order:
        """What starts it, on the first free port from `port` on, with a fresh token in a file of its own."""
        told = self._ask("jupyter-prepare", root=self._around.folder, port=port)
        try:
            root, token_file = str(told["root"]), str(told["token_file"])
            options = [
                *("--no-browser", "--ip=127.0.0.1", f"--port={int(told['port'])}"),
                *(f"--port-retries={FURTHER}", f"--notebook-dir={root}"),
                *(["--allow-root"] if told["superuser"] is True else []),
            ]
        except (TypeError, KeyError, ValueError) as error:
            raise _nonsense() from error
        return Order(
            (*place.words, *options),
            {"JUPYTER_TOKEN_FILE": token_file},
            "jupyter",
            shown=("devsync", "jupyter"),
            service=True,
        )


def place(said: str) -> Place:
    """What the search has found."""
    lines = [line.partition("=")[::2] for line in said.splitlines() if line.startswith("devsync-")]
    found = [value for name, value in lines if name == "devsync-jupyter"]
    installs = [value for name, value in lines if name == "devsync-install"]
    return Place(tuple(found[:1]), tuple(installs))


def _judged(judge: Callable[[object], T], answer: object) -> T:
    try:
        return judge(answer)
    except ValueError as error:
        raise _nonsense() from error


def _nonsense() -> DevsyncError:
    return DevsyncError("the machine's helper gave an answer about Jupyter that makes no sense")


def _last_line(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].replace("devsync: ", "", 1) if lines else "it said nothing"
