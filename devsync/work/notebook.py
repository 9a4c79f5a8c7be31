"""The near end of a notebook's execution: what is wished for, checked, and the command for the machine."""

from __future__ import annotations

import ast
import inspect
import json
import keyword
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from devsync.ports import DevsyncError, Misuse
from devsync.work import notebook_there

TRAVELLING = ("devsync.work.notebook_there",)
"""The program that is handed over."""

# $1 is the program, $2 what it is handed. The Python of the login comes first, then that of the `jupyter`
# found there, then the usual places. An interpreter that the project's own modules could mislead (a random.py
# in its folder, say) is kept from looking there.
_FIND = r"""
alone='import sys; sys.path[:] = filter(None, sys.path); '
has='from importlib.util import find_spec as f; sys.exit(not (sys.version_info >= (3, 8) and f("nbformat") and
(f("nbclient") or f("nbconvert"))))'
jupyter=$(command -v jupyter) && jupyter=$(sed -n '1s/^#! *//p' "$jupyter")
for python in python3 python "$jupyter" .venv/bin/python .devsync/venv/bin/python .devsync/conda/bin/python \
  /anaconda*/bin/python /opt/*conda*/bin/python "$HOME"/*conda3/bin/python "$HOME"/*forge*/bin/python
do
  case ${python##*/} in python*) ;; *) continue ;; esac
  command -v "$python" >/dev/null 2>&1 && "$python" -c "$alone$has" 2>/dev/null || continue
  exec "$python" -c "${alone}exec(sys.argv.pop(1))" "$1" "$2"
done
printf 'devsync: no Jupyter is found on the machine: no Python there has nbclient or nbconvert\n\n' >&2
printf 'hint: devsync run -- python3 -m pip install nbclient ipykernel, or activate one in [run] setup\n' >&2
exit 125
"""


@dataclass(frozen=True)
class Wishes:
    """What is to be executed. Paths are relative to the project's folder.

    `parameters` are Python expressions by name; `timeout` is in seconds, for each cell; `output` is where the
    result goes, None being the notebook itself; `kernel` None is the notebook's own.
    """

    file: str
    parameters: Mapping[str, str]
    timeout: int | None = None
    kernel: str | None = None
    output: str | None = None
    colours: bool = False


def words(wishes: Wishes) -> list[str]:
    """The command that executes a notebook in the project's folder on the machine."""
    program = inspect.getsource(notebook_there)
    return ["sh", "-c", _FIND, "devsync-notebook", program, json.dumps(asdict(wishes))]


def check(path: Path) -> None:
    """Raises DevsyncError unless there is a notebook at `path`, as far as that is seen at a glance."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DevsyncError(f"there is no notebook {path}") from None
    except OSError as error:
        raise DevsyncError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DevsyncError(f"{path} is no notebook: it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise DevsyncError(f"{path} is no notebook: line {error.lineno} is no JSON: {error.msg}") from None
    if not isinstance(document, dict) or not isinstance(document.get("nbformat"), int):
        raise DevsyncError(f"{path} is no notebook, but some other JSON")


def seconds(timeout: float | None) -> int | None:
    """A time-out as nbclient takes it: whole seconds, at least one."""
    return None if timeout is None else max(1, math.ceil(timeout))


def parameters(given: Iterable[str]) -> dict[str, str]:
    """`K=V` as Python expressions: V is what it is in Python (`3`, `1e-3`, `True`, `[1, 2]`), else a text.

    Raises Misuse if K is no name for a variable.
    """
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier() or keyword.iskeyword(name):
            raise Misuse(f"this sets no parameter: '{one}'", hint="as in --param epochs=3")
        found[name] = _expression(value)
    return found


def _expression(text: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `0xfor` is a text, and no reason for advice
        try:
            ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return repr(text)
    return text.strip()
