"""Jobs as data: which one a word means, what is believed of what is told, how long something took."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from devsync.core.jobs import Job, find, job_from_json, lasted, merge

OLD = Job(
    "aaaa0001", ("train", "it's"), 100.0, name="train", state="ended", status=0, ended=160.0, seconds=60.0
)
NEW = Job(
    "aaaa0002", ("train",), 200.0, name="train", env=("A",), origin={"commit": "c0ffee", "branch": None}
)
ODD = Job("bbbb0003", ("x",), 300.0, name="aaaa0001x")
JOBS = [NEW, OLD, ODD]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("aaaa0001", OLD),
        ("train", NEW),
        ("b", ODD),
        ("aaaa0001x", ODD),
        ("aaaa", [NEW, OLD]),
        ("", None),
        ("c", None),
    ],
)
def test_a_word_means_an_id_or_the_newest_name_or_the_only_beginning(word: str, found: object) -> None:
    assert find(JOBS, word) == found


@pytest.mark.parametrize("job", JOBS)
def test_a_job_goes_there_and_back(job: Job) -> None:
    assert job_from_json(job.to_json()) == job


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "../../etc"},
        {"id": None},
        {"command": "train"},
        {"command": [1]},
        {"started": True},
        {"state": "dancing"},
        {"status": "0"},
        {"env": {"A": "secret"}},
        {"origin": ["main"]},
        {"origin": {"commit": 1}},
        {"name": "a b"},
        {"detached": 1},
    ],
)
def test_what_is_no_job_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        job_from_json({**NEW.to_json(), **wrong})
    with pytest.raises(ValueError):
        job_from_json([])


def test_the_machine_is_believed_before_the_record() -> None:
    plain = replace(ODD, detached=False)
    assert merge([OLD], [replace(OLD, state="running"), plain], {plain.id}) == [OLD, plain]
    assert [job.state for job in merge([], [NEW, plain])] == ["lost", "lost"]
    assert [job.state for job in merge(None, [OLD, NEW, plain])] == ["ended", "unknown", "lost"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (9600, "2 h 40 min")],
)
def test_a_span_of_time_is_readable(seconds: float, shown: str) -> None:
    assert lasted(seconds) == shown
