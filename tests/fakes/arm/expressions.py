"""Evaluates the expressions of a deployment's template, as far as devsync's template uses the language."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+)|(?P<name>\w+)|(?P<sign>[(),.]))")


class Wrong(Exception):
    """What Azure would call an InvalidTemplate."""


@dataclass(frozen=True)
class Scope:
    """Where a template is evaluated; `group` is "" at a subscription, `reference` finds a resource by id."""

    subscription: str
    group: str
    parameters: Mapping[str, Any]
    reference: Callable[[str], Mapping[str, Any]]

    def base(self) -> str:
        at_group = f"/resourceGroups/{self.group}" if self.group else ""
        return f"/subscriptions/{self.subscription}{at_group}"


def evaluate(value: Any, scope: Scope) -> Any:
    """`value` with every expression in it replaced by what it means; null members of objects are left out."""
    if isinstance(value, dict):
        found = {key: evaluate(one, scope) for key, one in value.items()}
        return {key: one for key, one in found.items() if one is not None}
    if isinstance(value, list):
        return [evaluate(one, scope) for one in value]
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        parser = _Parser(value[1:-1], scope)
        found = parser.expression()
        parser.end()
        return found
    return value


class _Parser:
    """A recursive descent that evaluates as it goes."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text, self._scope, self._at = text, scope, 0

    def expression(self) -> Any:
        found = self._token()
        if found.lastgroup == "text":
            return found["text"][1:-1].replace("''", "'")
        if found.lastgroup == "number":
            return int(found["number"])
        if found.lastgroup != "name":
            raise Wrong(f"unexpected {found[0]!r} in {self._text}")
        value = self._call(found["name"])
        while self._takes("."):
            name = self._token()["name"]
            if name not in value:
                raise Wrong(f"the language expression property '{name}' doesn't exist: {self._text}")
            value = value[name]
        return value

    def end(self) -> None:
        if self._text[self._at :].strip():
            raise Wrong(f"more than an expression: {self._text}")

    def _call(self, name: str) -> Any:
        if name not in _FUNCTIONS:
            raise Wrong(f"the template function '{name}' is not valid")
        if not self._takes("("):
            raise Wrong(f"'{name}' is not called: {self._text}")
        given: list[Any] = []
        while not self._takes(")"):
            given.append(self.expression())
            self._takes(",")
        return _FUNCTIONS[name](self._scope, *given)

    def _token(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise Wrong(f"cannot be read: {self._text}")
        self._at = found.end()
        return found

    def _takes(self, sign: str) -> bool:
        found = _TOKEN.match(self._text, self._at)
        if found is None or found["sign"] != sign:
            return False
        self._at = found.end()
        return True


def _parameters(scope: Scope, name: str) -> Any:
    if name not in scope.parameters:
        raise Wrong(f"the template parameter '{name}' is not found")
    return scope.parameters[name]


def _resource_id(scope: Scope, kind: str, *names: str) -> str:
    return f"{scope.base()}/providers/{_path(kind, names)}"


def _path(kind: str, names: tuple[str, ...]) -> str:
    provider, *types = kind.split("/")
    if len(types) != len(names):
        raise Wrong(f"{kind} has {len(types)} names, not {len(names)}")
    return "/".join([provider, *(part for pair in zip(types, names, strict=True) for part in pair)])


def _reference(scope: Scope, resource: str, version: str = "", full: str = "") -> Mapping[str, Any]:
    found = scope.reference(resource)
    if full == "Full":
        return found
    properties = found["properties"]
    assert isinstance(properties, dict)
    return properties


def _object(scope: Scope, *pairs: Any) -> dict[str, Any]:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "parameters": _parameters,
    "format": lambda scope, text, *values: text.format(*values),
    "if": lambda scope, which, one, other: one if which else other,
    "empty": lambda scope, value: not value,
    "null": lambda scope: None,
    "json": lambda scope, text: json.loads(text),
    "createArray": lambda scope, *values: list(values),
    "createObject": _object,
    "greater": lambda scope, one, other: one > other,
    "guid": lambda scope, *parts: str(uuid.uuid5(uuid.NAMESPACE_OID, "-".join(parts))),
    "uniqueString": lambda scope, *parts: hashlib.sha256("-".join(parts).encode()).hexdigest()[:13],
    "resourceGroup": lambda scope: {"id": scope.base()},
    "resourceId": _resource_id,
    "subscriptionResourceId": lambda scope, kind, *names: (
        f"/subscriptions/{scope.subscription}/providers/{_path(kind, names)}"
    ),
    "reference": _reference,
}
