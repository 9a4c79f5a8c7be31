"""Settings written out as a commented TOML file."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from devsync.settings.schema import Setting

WIDTH = 110
"""Columns; a meaning that does not fit beside its setting stands above it."""


def render(
    settings: Mapping[str, Setting], values: Mapping[str, object], arrays: Collection[str] = ()
) -> str:
    """Every setting with its meaning: those in `values` with their value, the others as a comment.

    The header of an array is a comment, too, if nothing of it is given: an empty one would be an element.
    """
    tables: dict[str, list[tuple[str, Setting]]] = {}
    for key, setting in settings.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, []).append((name, setting))
    return "\n".join(
        _table(table, members, values, f"[[{table}]]" if table in arrays else f"[{table}]")
        for table, members in tables.items()
    )


def _table(table: str, members: list[tuple[str, Setting]], values: Mapping[str, object], header: str) -> str:
    given = any(f"{table}.{name}" in values for name, _ in members)
    lines = [header if given or not header.startswith("[[") else f"# {header}"]
    for name, setting in members:
        value = values.get(f"{table}.{name}")
        usual = setting.example if setting.default is None else setting.default
        line = f"# {name} = {written(usual)}" if value is None else f"{name} = {written(value)}"
        beside = f"{line:<36}  # {setting.doc}"
        lines += [beside] if len(beside) <= WIDTH else [f"# {setting.doc}:", line]
    return "\n".join(lines) + "\n"


def written(value: object) -> str:
    """A value as TOML: true or false, a number, a text or a list of texts."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(written(one) for one in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
