"""The rows of the table: what is measured, on which line, and what is aimed at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from benchmarks import corpora, resting, saves, transfers, tunnels
from benchmarks.bed import LOOPBACK, WAN, Bed, Profile
from benchmarks.figures import Figure


@dataclass(frozen=True)
class Row:
    """`key` is how it is called on the command line; one row may yield several figures."""

    key: str
    profile: Profile
    measure: Callable[[Bed], Iterable[Figure]]


_CHANGED = partial(transfers.big_file_changed, limit=(0.01, 0.8))
_MIDDLE = partial(_CHANGED, how="changed in the middle", change=corpora.change_in_the_middle)
_START = partial(_CHANGED, how="inserted at the start", change=corpora.insert_at_the_start)

ROWS = (
    Row("library", WAN, partial(transfers.first_mirror_of_the_library, limit=0.8)),
    Row("library", LOOPBACK, partial(transfers.first_mirror_of_the_library, limit=1.0)),
    Row("small", WAN, partial(transfers.first_mirror_of_small_files, limit=0.8)),
    Row("small", LOOPBACK, partial(transfers.first_mirror_of_small_files, limit=1.2)),
    Row("notebooks", WAN, transfers.first_mirror_of_notebooks),
    Row("save", WAN, partial(saves.one_save, limit=(90, 200))),
    Row("save", LOOPBACK, partial(saves.one_save, limit=(40, 100))),
    Row("switch", WAN, partial(saves.branch_switch, limit=0.6)),
    Row("nothing-5k", WAN, partial(transfers.nothing_changed, number=5_000, limit=1.0)),
    Row("nothing-50k", WAN, partial(transfers.nothing_changed, number=50_000, limit=1.0)),
    Row("big", WAN, partial(transfers.big_file, limit=1.0)),
    Row("big", LOOPBACK, partial(transfers.big_file, limit=1.2)),
    Row("delta-middle", WAN, _MIDDLE),
    Row("delta-start", WAN, _START),
    Row("rename", WAN, partial(transfers.renamed_folder, limit=0.02)),
    Row("pull", WAN, partial(transfers.pull, limit=0.8)),
    Row("tunnel", LOOPBACK, partial(tunnels.throughput, limit=0.8)),
    Row("echo", LOOPBACK, partial(tunnels.quiet_echo, limit=0.15)),
    Row("echo-mirror", WAN, partial(tunnels.echo_during_a_mirror, limits=(2.0, 100))),
    Row("rest-5k", LOOPBACK, partial(resting.at_rest, number=5_000, limits=(80, 0.3))),
    Row("rest-100k", LOOPBACK, partial(resting.at_rest, number=100_000, limits=(200, 0.5))),
    Row("help", LOOPBACK, partial(resting.help_text, limit=60)),
    Row("status", LOOPBACK, partial(resting.status_document, limit=80)),
)


def chosen(only: str, profile: str) -> list[Row]:
    """The rows whose key begins with one of the words in `only`, on that line; empty: all of them."""
    keys = only.replace(",", " ").split()
    return [
        row
        for row in ROWS
        if (not keys or row.key.startswith(tuple(keys))) and profile in ("", row.profile.name)
    ]
