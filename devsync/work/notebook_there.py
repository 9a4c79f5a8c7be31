"""Executes a notebook on the machine, cell by cell, by the Jupyter that is there. Travels (Python 3.8).

A program of its own, in the project's folder: it is handed one JSON document, as `notebook.Wishes` makes it.
What it tells people goes to standard error. Exit status: 0 every cell was executed; 1 one failed, or took
too long; 125 nothing could be executed, or kept, and the last lines say why; 128 + n signal n stopped it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

FAILED, OWN_FAILURE = 1, 125

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAVE_EVERY = 10.0
"""Seconds between two saves while it runs, so that a long run can be looked at."""

WIDTH = 72
"""Characters of a cell's first line that are shown."""

INJECTED = "injected-parameters"
"""The tag of the cell that sets parameters, as papermill has it."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class Trouble(Exception):
    """Why nothing can be executed; the second argument says what to do."""


class Interrupted(KeyboardInterrupt):
    """A signal asks for the end; the argument is its number. Ctrl-C is one of them."""


class Document:
    """The notebook, and the file that it is saved to. Nobody's edit of that file is written over."""

    def __init__(self, source: str, target: str) -> None:
        """Raises Trouble if `source` is no notebook."""
        self.path = os.path.realpath(target)
        self._seen = _content(self.path)
        self._saved = time.monotonic()
        self.notebook = _read(source)
        for cell in self.notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None

    def inject(self, parameters: Mapping[str, str]) -> None:
        """Set parameters, each a Python expression: behind the cell tagged `parameters`, else on top."""
        cells = self.notebook.cells
        source = "\n".join(["# Parameters", *(f"{name} = {value}" for name, value in parameters.items())])
        cell = importlib.import_module("nbformat.v4").new_code_cell(source, metadata={"tags": [INJECTED]})
        if (self.notebook.nbformat, self.notebook.nbformat_minor) < (4, 5):
            cell.pop("id", None)  # cells have one since then
        earlier, defaults = _tagged(cells, INJECTED), _tagged(cells, "parameters")
        if earlier is not None:
            cells[earlier] = cell
        else:
            cells.insert(0 if defaults is None else defaults + 1, cell)

    def save_now_and_then(self) -> None:
        """Save if the last time is long ago."""
        if time.monotonic() - self._saved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Replace the file as a whole; one that somebody changed meanwhile is left, and ours goes beside."""
        text = importlib.import_module("nbformat").writes(self.notebook)
        data = (text if text.endswith("\n") else text + "\n").encode("utf-8", "surrogateescape")
        if _content(self.path) != self._seen:
            self.path = _beside(self.path)
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        os.makedirs(".devsync", exist_ok=True)
        new = os.path.join(".devsync", f"notebook-{os.getpid()}.new")  # where nothing is mirrored
        try:
            with open(new, "wb") as file:
                file.write(data)
            if os.path.exists(self.path):
                shutil.copymode(self.path, new)
            # RACE: an edit that is saved right here is replaced; on the other side its old version is kept.
            shutil.move(new, self.path)  # in one step, unless it is on another disk
        finally:
            if os.path.exists(new):
                os.unlink(new)
        self._seen, self._saved = data, time.monotonic()


class Progress:
    """Tells which cell runs, and how long it took."""

    def __init__(self, total: int, after: Callable[[], None]) -> None:
        """`after` is called behind each cell."""
        self.number, self._total, self._after = 0, total, after
        self._began = time.monotonic()
        self.cell: Any = None

    @contextmanager
    def step(self, cell: Any) -> Iterator[None]:
        """While the cell is executed."""
        if not runs(cell):
            yield
            return
        self.number += 1
        self.cell = cell
        _say(f"[{self.number:>{len(str(self._total))}}/{self._total}] {first_line(cell.source)}", end="")
        began = time.monotonic()
        try:
            yield
        except BaseException:
            _say(f"  stopped after {time.monotonic() - began:.1f} s")
            raise
        _say(f"  {time.monotonic() - began:.1f} s")
        self._after()

    def where(self) -> str:
        """The cell that it is about."""
        return f"cell {self.number} of {self._total}"

    def spent(self) -> str:
        """The time since the start."""
        return f"{time.monotonic() - self._began:.1f} s"


def runs(cell: Any) -> bool:
    """Whether there is something to execute in it."""
    skipped = "skip-execution" in cell.metadata.get("tags", [])
    return bool(cell.cell_type == "code" and cell.source.strip() and not skipped)


def first_line(source: str) -> str:
    """What a cell is known by."""
    line = source.strip().splitlines()[0].rstrip()
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


# ---------------------------------------------------------------- executing


def by_nbclient(document: Document, how: Mapping[str, Any], progress: Progress) -> None:
    """Execute every cell. Raises what nbclient raises."""
    client = importlib.import_module("nbclient").NotebookClient(
        document.notebook,
        timeout=how["timeout"],
        kernel_name=how["kernel"],
        resources={"metadata": {"path": how["folder"]}},
    )
    # What the kernel itself prints is not of the notebook, unless it says why it does not start.
    with tempfile.TemporaryFile() as said:
        try:
            with client.setup_kernel(stdout=said, stderr=said):
                try:
                    for index, cell in enumerate(document.notebook.cells):
                        with progress.step(cell):
                            client.execute_cell(cell, index)
                except BaseException:
                    client.shutdown_kernel = "immediate"  # nobody waits for what it computes now
                    raise
        except RuntimeError as error:
            said.seek(0)
            words = said.read().decode("utf-8", "replace").strip()
            if progress.number or not words:
                raise
            raise RuntimeError(words) from error
    client.set_widgets_metadata()


def by_nbconvert(document: Document, how: Mapping[str, Any], progress: Progress) -> None:
    """The same by the older tool."""
    processor = importlib.import_module("nbconvert.preprocessors").ExecutePreprocessor(
        timeout=how["timeout"], kernel_name=how["kernel"]
    )
    execute = processor.preprocess_cell

    def step(cell: Any, resources: Any, index: int) -> Any:
        with progress.step(cell):
            return execute(cell, resources, index)

    processor.preprocess_cell = step
    processor.preprocess(document.notebook, {"metadata": {"path": how["folder"]}})


def main(wishes: Mapping[str, Any]) -> int:
    """Execute what is wished for; the exit status."""
    warnings.simplefilter("ignore")  # of the machine's libraries, about themselves
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        document = Document(wishes["file"], wishes["output"] or wishes["file"])
        kernel, language = _kernel(wishes["kernel"], document.notebook)
        if wishes["parameters"]:
            if language.lower() != "python":
                raise Trouble(f"parameters are set in Python only, and {wishes['file']} is in {language}")
            document.inject(wishes["parameters"])
        return _execute(document, wishes, kernel)
    except Trouble as trouble:
        _say("\n\nhint: ".join([f"devsync: {trouble.args[0]}", *(f"{hint}" for hint in trouble.args[1:])]))
        return OWN_FAILURE
    except OSError as error:
        _say(f"devsync: the notebook cannot be saved: {error}")
        return OWN_FAILURE
    except Interrupted as stopped:
        return 128 + int(stopped.args[0])


def _execute(document: Document, wishes: Mapping[str, Any], kernel: str) -> int:
    engine = by_nbclient if importlib.util.find_spec("nbclient") else by_nbconvert
    folder = os.path.dirname(os.path.abspath(wishes["file"]))
    how = {"timeout": wishes["timeout"], "kernel": kernel, "folder": folder}
    progress = Progress(sum(map(runs, document.notebook.cells)), document.save_now_and_then)
    wanted, status, why = document.path, 0, ""
    try:
        engine(document, how, progress)
    except Interrupted as stopped:
        status, why = 128 + int(stopped.args[0]), "was interrupted"
    except Exception as error:  # whatever the machine's libraries raise, what there is is kept
        if not progress.number:
            raise Trouble(f"the kernel '{kernel}' does not start: {_last_line(error)}") from error
        status, why = FAILED, _reason(error, progress.cell, wishes)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # what there is shall be saved whole
    document.save()
    name = os.path.relpath(document.path)
    if document.path != wanted:
        _say(f"devsync: {os.path.relpath(wanted)} was changed meanwhile and is left as it is")
    if status:
        _say(f"devsync: {progress.where()} {why}; the notebook up to there is in {name}")
    else:
        _say(f"{name}: {progress.number} cells in {progress.spent()}")
    return status


def _reason(error: Exception, cell: Any, wishes: Mapping[str, Any]) -> str:
    """Why a cell failed, in a few words; a traceback is shown first."""
    if isinstance(error, TimeoutError):
        return f"took longer than {wishes['timeout']} s"
    if type(error).__name__ == "DeadKernelError":
        return "lost its kernel, which died, perhaps for want of memory"
    errors = [output for output in cell.outputs if output.output_type == "error"]
    if not errors:
        return f"failed: {_last_line(error)}"
    traceback = "\n".join(errors[-1].traceback)
    _say(traceback if wishes["colours"] else _COLOURS.sub("", traceback))
    return f"failed: {errors[-1].ename}: {_COLOURS.sub('', errors[-1].evalue)}"


def _kernel(wanted: str | None, notebook: Any) -> tuple[str, str]:
    """The kernel's name and language. Raises Trouble if there is none of that name."""
    specs = importlib.import_module("jupyter_client.kernelspec")
    manager = specs.KernelSpecManager()
    name = wanted or notebook.metadata.get("kernelspec", {}).get("name") or "python3"
    try:
        return name, manager.get_kernel_spec(name).language
    except specs.NoSuchKernel:
        known = ", ".join(sorted(manager.find_kernel_specs()))
        hint = f"--kernel takes another; there are: {known}" if known else "python3 -m pip install ipykernel"
        raise Trouble(f"there is no kernel '{name}' on the machine", hint) from None


# ---------------------------------------------------------------- files


def _read(path: str) -> Any:
    """The notebook at `path`, in the form of nbformat 4."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        json.loads(text)
        return importlib.import_module("nbformat").reads(text, as_version=4)
    except FileNotFoundError:
        raise Trouble(f"there is no {path} on the machine", "is it ignored, or held back?") from None
    except Exception as error:  # noqa: BLE001 - whichever check of nbformat's it does not pass
        raise Trouble(f"{path} is no notebook: {_last_line(error)}") from None


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _beside(path: str) -> str:
    """A free name that tells where it comes from."""
    stem, end = os.path.splitext(path)
    for number in range(1, 1000):
        free = f"{stem}.executed{'' if number == 1 else f'-{number}'}{end}"
        if not os.path.lexists(free):
            return free
    raise OSError(f"no name is free beside {path}")


def _tagged(cells: list[Any], tag: str) -> int | None:
    found = (index for index, cell in enumerate(cells) if tag in cell.metadata.get("tags", []))
    return next(found, None)


def _last_line(error: BaseException) -> str:
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _interrupt(number: int, _frame: Any) -> None:
    raise Interrupted(number)


def _say(text: str, end: str = "\n") -> None:
    try:
        sys.stderr.write(text + end)
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens any more, and the notebook is what counts


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
