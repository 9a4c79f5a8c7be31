"""The house rules that can be read from the syntax tree: who may import whom, and what never appears."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]

ROOMS: dict[str, set[str]] = {
    "core": set(),
    "ports": {"core"},
    "probe": {"core"},
    "replica": {"core", "ports"},
    "ssh": {"core", "ports"},
    "machine": {"core", "ports"},
    "merge": {"core", "ports"},
    "work": {"core", "ports", "probe"},
    "daemon": {"core", "ports"},
    "store": {"core", "ports"},
    "settings": {"core", "ports"},
    "folders": {"ports"},
    "config": {"core", "ports", "settings", "folders"},
    "app": {
        *("core", "ports", "replica", "ssh", "machine", "merge", "work", "daemon", "store"),
        *("settings", "folders", "config"),
    },
    "cli": {"core", "ports", "settings", "folders", "config"},
    "__main__": {"cli"},
}
"""Each room (a package or module below devsync) and the other rooms that it may import."""

CLIENT_HALF = {"devsync.daemon.client", "devsync.daemon.frames", "devsync.daemon.lock"}
"""What the command line may import of the daemon."""

CORE_MAY = {
    *("__future__", "bisect", "collections", "dataclasses", "enum", "functools", "itertools", "math"),
    *("operator", "re", "string", "types", "typing", "unicodedata"),
}
"""The standard library as far as it does no I/O, does not wait and does not tell the time."""

THIRD_PARTY: dict[str, set[str]] = {
    "apscheduler": {"devsync.daemon.bell"},
    "azure": {"devsync.machine.azure_client"},
    "click": {"devsync.cli"},
    "cryptography": {"devsync.machine.embedded_server"},
    "desktop_notifier": {"devsync.app.notifier"},
    "nbdime": {"devsync.merge.notebook"},
    "paramiko": {"devsync.ssh.transport", "devsync.machine.embedded_connection"},
    "pathspec": {"devsync.replica.patterns"},
    "platformdirs": {"devsync.folders"},
    "rich": {"devsync.cli"},
    "watchdog": {"devsync.replica.eyes"},
    "zstandard": {"devsync.replica.codec"},
}
"""Each library and where its name may appear: one module, or the one package that is made of it. The
SSH library has two, since the embedded machine is the other end of it."""

ENVIRONMENT = {
    "devsync.cli": "hands it to the rest",
    "devsync.machine.embedded_account": "makes the environment of a login from it",
    "devsync.probe.view": "finds Jupyter's files, commands and the state folder on the machine",
    "devsync.replica.git": "finds git's own files as git finds them",
    "devsync.work.jobs_there": "hands a login's environment on to the machine's own systemd",
    "devsync.ssh.transport": "asks whether there is an SSH agent, as every SSH client does",
}
"""Who may read the environment, and why."""

LONGEST = 400  # lines

NOT_IN_3_8 = {
    *("removeprefix", "removesuffix", "is_relative_to", "hardlink_to", "bit_count", "pairwise"),
    *("tomllib", "zoneinfo", "graphlib"),
    *("Annotated", "Concatenate", "Never", "NotRequired", "ParamSpec", "Required", "Self", "TypeAlias"),
    *("TypeGuard", "Unpack", "assert_never", "override"),
}
KEYWORDS_NOT_IN_3_8 = {"slots", "kw_only", "strict"}


def modules() -> list[str]:
    """Every module of the package, by its dotted name."""
    paths = sorted((TOP / "devsync").rglob("*.py"))
    return [".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def path_of(module: str) -> Path:
    """The file of a module."""
    path = TOP.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def exists(module: str) -> bool:
    """Whether there is such a module of ours."""
    return path_of(module).is_file()


def imports(node: ast.AST) -> Iterator[str]:
    """Every module that is imported below `node`; what is taken from a package may be a module itself."""
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            yield from (alias.name for alias in one.names)
        elif isinstance(one, ast.ImportFrom):
            assert not one.level, "imports are absolute"
            assert one.module
            for alias in one.names:
                whole = f"{one.module}.{alias.name}"
                yield whole if one.module.startswith("devsync") and exists(whole) else one.module


def room_of(module: str) -> str:
    """The room that a module of ours is in; that of devsync itself, which holds the version, has no name."""
    return module.split(".")[1] if "." in module else ""


def below(module: str, places: set[str]) -> bool:
    """Whether a module is one of `places`, or in a package that is."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


every_module = pytest.mark.parametrize("module", modules())


@every_module
def test_a_room_imports_only_what_it_may(module: str) -> None:
    room = room_of(module)
    if not room:
        return
    for name in imports(tree(module)):
        other = room_of(name) if name.split(".")[0] == "devsync" else ""
        if other in ("", room):
            continue
        if room == "cli" and (other == "app" or name in CLIENT_HALF):
            continue
        assert other in ROOMS[room], f"{module} must not import {name}"


@every_module
def test_core_touches_nothing(module: str) -> None:
    if room_of(module) == "core":
        outside = {name.split(".")[0] for name in imports(tree(module))} - {"devsync"}
        assert outside <= CORE_MAY


@every_module
def test_a_library_is_known_in_one_place(module: str) -> None:
    for name in {name.split(".")[0] for name in imports(tree(module))}:
        if name != "devsync" and name not in sys.stdlib_module_names:
            assert below(module, THIRD_PARTY[name]), f"{module} must not import {name}"


@pytest.mark.parametrize("module", [module for module in modules() if room_of(module) == "cli"])
def test_the_command_line_imports_the_application_only_to_run(module: str) -> None:
    for statement in tree(module).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for name in imports(statement):
                assert room_of(name) != "app", f"{module} imports {name} even for --help"
                assert name.split(".")[0] != "rich", f"{module} imports {name} even when it draws nothing"


@every_module
def test_the_environment_is_read_at_the_edge(module: str) -> None:
    if below(module, set(ENVIRONMENT)):
        return
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            assert node.attr not in ("environ", "environb", "getenv", "getenvb"), f"{module}:{node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            assert not {alias.name for alias in node.names} & {"environ", "getenv"}, f"{module}:{node.lineno}"


@every_module
def test_no_host_key_is_taken_on_trust(module: str) -> None:
    text = path_of(module).read_text(encoding="utf-8")
    assert "AutoAddPolicy" not in text
    assert "WarningPolicy" not in text


@every_module
def test_a_module_says_what_it_is_for_and_is_no_longer_than_it_should(module: str) -> None:
    assert ast.get_docstring(tree(module)), module
    assert len(path_of(module).read_text(encoding="utf-8").splitlines()) <= LONGEST


# ---------------------------------------------------------------- what travels to the machine


LISTS = {
    "devsync.replica.luggage": "TRAVELLING",
    "devsync.replica.remote_events": "LISTENING",
    "devsync.replica.remote_probe": "PROBING",
    "devsync.replica.remote_questions": "TELLING",
    "devsync.work.jobs": "TRAVELLING",
    "devsync.work.jupyter": "TRAVELLING",
    "devsync.work.notebook": "TRAVELLING",
}
"""Where the modules are named that travel: to every helper, to the one that probes, to the one for jobs;
and the program that executes a notebook."""


def travelling() -> tuple[str, ...]:
    """The modules that LISTS lead to, read without importing anything."""
    return tuple(name for module, table in LISTS.items() for name in listed(module, table))


def listed(module: str, table: str) -> tuple[str, ...]:
    """The names in a table of a module."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == table:
            found = ast.literal_eval(node.value)
            assert isinstance(found, tuple)
            return found
    raise AssertionError(f"{module} does not say what travels")


every_traveller = pytest.mark.parametrize("module", travelling())


@every_traveller
def test_a_traveller_needs_the_standard_library_and_other_travellers(module: str) -> None:
    for name in imports(tree(module)):
        if name.split(".")[0] == "devsync":
            assert name in travelling() or name in (
                "devsync.core",
                "devsync.probe",
                "devsync.replica",
                "devsync.work",
            ), f"{module} needs {name}"
        else:
            optional = (
                name == "zstandard" and module == "devsync.replica.codec"
            )  # used where it happens to be
            assert optional or name.split(".")[0] in sys.stdlib_module_names


@every_traveller
def test_a_traveller_is_python_3_8(module: str) -> None:
    text = path_of(module).read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 8))
    assert "from __future__ import annotations" in text
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute):
            assert node.attr not in NOT_IN_3_8, f"{module}:{node.lineno}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            assert not {alias.name for alias in node.names} & NOT_IN_3_8, f"{module}:{node.lineno}"
        if isinstance(node, ast.Call):
            named = {keyword.arg for keyword in node.keywords}
            assert not named & KEYWORDS_NOT_IN_3_8, f"{module}:{node.lineno}"


@every_traveller
def test_a_traveller_makes_no_new_kind_of_type_at_run_time(module: str) -> None:
    """`list[int]`, collections.abc's `Callable[[], None]` and `X | None` stand in annotations only."""
    generic = {"dict", "frozenset", "list", "set", "tuple", "type"}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module in ("collections", "collections.abc"):
            generic |= {alias.asname or alias.name for alias in node.names}
    plain = {"bool", "bytes", "float", "int", "object", "str", "None"}
    for node in evaluated(tree(module)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in generic, f"{module}:{node.lineno}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            sides = {ast.unparse(node.left), ast.unparse(node.right)}
            assert not sides & plain, f"{module}:{node.lineno}"


def evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below that is no annotation."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from evaluated(child)


# ---------------------------------------------------------------- the readers themselves


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import os.path
from devsync import ports, __version__
from devsync.core.snapshot import File
def late():
    if True:
        from devsync.cli import output
"""
    assert set(imports(ast.parse(source))) == {
        "os.path",
        "devsync",
        "devsync.ports",
        "devsync.core.snapshot",
        "devsync.cli.output",
    }


def test_annotations_are_not_evaluated() -> None:
    source = "def f(a: list[int], *b: set[int]) -> dict[str, int]:\n    c: tuple[int] = 1\nd = frozenset[int]"
    found = [ast.unparse(node) for node in evaluated(ast.parse(source)) if isinstance(node, ast.Subscript)]
    assert found == ["frozenset[int]"]


def test_every_room_and_every_library_is_there() -> None:
    assert {room_of(module) for module in modules()} - {""} == set(ROOMS)
    everywhere = {name.split(".")[0] for module in modules() for name in imports(tree(module))}
    assert set(THIRD_PARTY) <= everywhere
