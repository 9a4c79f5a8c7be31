"""The line of every key, held against documents that are hard to find one's way in."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devsync.settings.example import written
from devsync.settings.lines import Key, locate

NASTY = '''\
# [not.a.table]
title = "a = 1 # [no]" # c
"quoted.key" = 1
'literal "k"' = 2
a.b . "c d" = 3
text = """
[inside]
key = 1 \\""" still
""" # end
literal = \'\'\'
[inside]
it''s\'\'\'
ends = """two quotes""\\""""""
quotes = """""two"""""
empty = ""
list = [ 1, # [one
  "]", [2, 3],
  { x = 1, y.z = "}" },
]
when = 1979-05-27 07:32:00Z
"\\u0061scii" = 7

[table]
x = {}

  [ table . "sub.table" ]
  y = 0x1F

[[array]]
n = 1
[array.deep]
m = 1
[[array.deep.er]]
k = 1
[[array.deep.er]]
k = 2
[[array]]
n = 2
[array.deep]
m = 2
'''


def leaves(value: object, above: Key = ()) -> Iterator[Key]:
    if above:
        yield above
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, (*above, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from leaves(one, (*above, index))


def test_everything_has_a_line() -> None:
    lines = locate(NASTY)
    assert set(leaves(tomllib.loads(NASTY))) == set(lines)


@pytest.mark.parametrize(
    ("key", "start"),
    [
        (("title",), "title"),
        (("quoted.key",), '"quoted.key"'),
        (('literal "k"',), "'literal"),
        (("a", "b", "c d"), "a.b"),
        (("text",), "text"),
        (("literal",), "literal ="),
        (("quotes",), "quotes"),
        (("empty",), "empty"),
        (("list",), "list"),
        (("list", 1), '  "]", [2'),
        (("list", 2, 1), '  "]", [2'),
        (("list", 3, "y", "z"), "  { x"),
        (("when",), "when"),
        (("ascii",), '"\\u0061'),
        (("table",), "[table]"),
        (("table", "sub.table"), "  [ table"),
        (("table", "sub.table", "y"), "  y ="),
        (("array", 0, "n"), "n = 1"),
        (("array", 0, "deep", "m"), "m = 1"),
        (("array", 0, "deep", "er", 0, "k"), "k = 1"),
        (("array", 0, "deep", "er", 1, "k"), "k = 2"),
        (("array", 1, "n"), "n = 2"),
        (("array", 1, "deep", "m"), "m = 2"),
    ],
)
def test_the_line_is_the_one_that_defines_it(key: Key, start: str) -> None:
    assert NASTY.splitlines()[locate(NASTY)[key] - 1].startswith(start)


def test_carriage_returns_and_a_missing_last_newline() -> None:
    assert locate("a = 1\r\n\r\n[t]\r\nb = '''x\r\ny'''\r\nc = 2") == {
        ("a",): 1,
        ("t",): 3,
        ("t", "b"): 4,
        ("t", "c"): 6,
    }


def test_a_table_stands_at_its_own_header() -> None:
    assert locate("[a.b]\nx = 1\n[a]\ny = 2\n")[("a",)] == 3


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@given(st.dictionaries(texts, st.integers() | texts | st.lists(texts, max_size=3), max_size=6))
def test_whatever_a_document_holds(document: dict[str, object]) -> None:
    text = "".join(f"\n# [x]\n{written(key)} = {written(value)}" for key, value in document.items())
    lines = locate(text)
    assert set(lines) == set(leaves(tomllib.loads(text)))
    assert [lines[(key,)] for key in document] == [3 + 2 * n for n in range(len(document))]
