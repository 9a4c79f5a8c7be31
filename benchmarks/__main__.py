"""`make bench`: devsync and its peers in turn, in one run; a table of results and targets, and a JSON file.

A whole run replaces benchmarks/latest.json and the table in docs/performance.md. A part of one is only
printed, unless `--json` names a file: there it then replaces its own rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bed import bed
from benchmarks.figures import Figure, from_json, references, table
from benchmarks.rows import ROWS, Row, chosen

LATEST = Path(__file__).resolve().with_name("latest.json")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- figures: made by make bench -->\n", "<!-- end of figures -->\n"


def main() -> int:
    """Measure, print, and keep the figures."""
    options = _options()
    if options.page:
        write_page()
        return 0
    rows = chosen(options.only, options.profile)
    if not rows:
        print("no such row; there are:", ", ".join(dict.fromkeys(row.key for row in ROWS)), file=sys.stderr)
        return 2
    figures, failed = _measure(rows, options.repeat, options.scale)
    whole = len(rows) == len(ROWS) and options.scale == 1 and not failed
    file = options.json or (LATEST if whole else None)
    if file is not None:
        _keep(file, figures, options, old=not whole and file.exists())
    if file is not None and file.resolve() == LATEST:
        write_page()
    print("", *table(figures), "", *references(figures), sep="\n")
    for row, error in failed:
        print(f"\n{row.key} on {row.profile.name} failed: {error}", file=sys.stderr)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each; medians are compared")
    parser.add_argument("--only", default="", help="keys of rows, or how they begin: 'library delta'")
    parser.add_argument("--profile", default="", choices=("", "wan", "loopback"))
    parser.add_argument("--scale", type=float, default=1.0, help="0.01: a hundredth of the files and bytes")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    parser.add_argument("--page", action="store_true", help="measure nothing; make the page's table anew")
    return parser.parse_args()


def _measure(
    rows: Sequence[Row], repeat: int, scale: float
) -> tuple[list[Figure], list[tuple[Row, Exception]]]:
    figures: list[Figure] = []
    failed: list[tuple[Row, Exception]] = []
    folder = Path(tempfile.mkdtemp(prefix="devsync-bench-"))
    try:
        for number, row in enumerate(rows):
            began = time.monotonic()
            try:
                with bed(row.profile, folder / str(number), repeat, scale) as at:
                    for figure in row.measure(at):
                        figures.append(figure)
                        print(list(table([figure]))[-1], flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failed.append((row, error))  # the others can still be measured
            took = time.monotonic() - began
            print(f"  {row.key} on {row.profile.name}: {took:.0f} s", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures, failed


def _keep(file: Path, figures: Sequence[Figure], options: argparse.Namespace, *, old: bool) -> None:
    """Write the figures; the `old` ones of the same file that were not measured now stay where they are."""
    before = json.loads(file.read_text()) if old else {"figures": []}
    kept = {(each.work, each.line, each.compare): each for each in [*_figures(before), *figures]}
    repeat = min(options.repeat, before.get("repeat", options.repeat))
    document = {**_about(), "repeat": repeat, "scale": options.scale}
    document["figures"] = [each.as_json() for each in kept.values()]
    file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def _about() -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ssh": _version("ssh", "-V"),
        "rsync": _version("rsync", "--version"),
    }


def _version(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    line = (done.stdout or done.stderr).splitlines()[0]
    return " ".join(line.partition(",")[0].partition(" protocol")[0].split())


def _figures(document: dict[str, Any]) -> list[Figure]:
    return [from_json(each) for each in document["figures"]]


def page_section(document: dict[str, Any]) -> Iterator[str]:
    """What stands in the page between the two marks."""
    yield (
        f"Measured on {document['date']}: {document['machine']} with {document['cores']} cores, "
        f"{document['system']}, Python {document['python']}, {document['ssh']}, {document['rsync']}; "
        f"medians of {document['repeat']} or more."
    )
    yield ""
    figures = _figures(document)
    yield from table(figures)
    if others := list(references(figures)):
        yield from ("", "For reference, once each:", "", *others)


def write_page() -> None:
    """Put the latest figures into the page."""
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    section = "\n".join(page_section(json.loads(LATEST.read_text())))
    PAGE.write_text(f"{before}{BEGIN}{section}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
