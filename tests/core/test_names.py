"""Names that a side takes for the same, or cannot hold."""

from __future__ import annotations

import pytest

from devsync.core.names import Naming, unfit
from devsync.core.snapshot import Change, File

BYTES = Naming()
FOLDS = Naming(folds_case=True)
MAC = Naming(folds_case=True, normalises=True, utf8_only=True)
LEAF = File("0" * 64, 1)
NFC, NFD = "caf\u00e9", "cafe\u0301"


def created(*paths: str) -> list[Change]:
    return [Change(path, None, LEAF) for path in paths]


@pytest.mark.parametrize(
    ("naming", "present", "new", "held"),
    [
        (BYTES, ["Data"], ["data"], set()),
        (FOLDS, ["Data"], ["data"], {"data"}),
        (FOLDS, ["Data"], ["other"], set()),
        (FOLDS, ["a/Data/x"], ["a/data/y"], {"a/data/y"}),  # folders are not merged, either
        (FOLDS, ["A/b"], ["a"], {"a"}),
        (FOLDS, ["a/b"], ["a/B/c"], {"a/B/c"}),
        (FOLDS, ["a/b"], ["a/c"], set()),
        (FOLDS, [], ["X", "x"], {"x"}),  # one comes
        (FOLDS, [], ["d/X", "D/y"], {"d/X"}),
        (FOLDS, [NFC], [NFD], set()),
        (MAC, [NFC], [NFD], {NFD}),
        (MAC, [NFC], [NFD.upper()], {NFD.upper()}),
        (FOLDS, ["STRASSE"], ["stra\u00dfe"], {"stra\u00dfe"}),
    ],
)
def test_what_would_be_one_name_does_not_come(
    naming: Naming, present: list[str], new: list[str], held: set[str]
) -> None:
    assert set(unfit(naming, present, created(*new))) == held


def test_a_rename_by_case_alone_is_made() -> None:
    rename = [Change("Model.py", LEAF, None), *created("model.py")]
    assert unfit(FOLDS, ["Model.py"], rename) == {}


def test_what_is_there_is_updated_under_its_name() -> None:
    assert unfit(MAC, ["Data"], [Change("Data", LEAF, File("1" * 64, 2))]) == {}


def test_the_reason_names_the_other_file() -> None:
    assert "'src/Data'" in unfit(FOLDS, ["src/Data/x"], created("src/data/y"))["src/data/y"]


@pytest.mark.parametrize(
    ("naming", "path", "why"),
    [
        (BYTES, "a" * 255, ""),
        (BYTES, "folder/" + "a" * 256, "longer"),
        (BYTES, "\u00e9" * 128, "longer"),
        (BYTES, "b" * 200 + "/" + "c" * 200, ""),
        (Naming(longest=143), "a" * 144, "longer"),
        (BYTES, "latin-\udce9", ""),
        (MAC, "latin-\udce9", "UTF-8"),
    ],
)
def test_a_name_that_cannot_be_held_is_refused_alone(naming: Naming, path: str, why: str) -> None:
    reasons = unfit(naming, [], created(path, "beside"))
    assert set(reasons) == ({path} if why else set())
    assert why in reasons.get(path, "")
