"""Notebooks as people leave them: Python in cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_notebook(path: Path, *cells: str | tuple[str, str], minor: int = 5) -> None:
    """Write a notebook of code cells; a cell with a tag is a pair, the tag first."""
    pairs = [("", cell) if isinstance(cell, str) else cell for cell in cells]
    document = {
        "cells": [
            {
                "cell_type": "code",
                **({"id": f"cell-{number}"} if minor >= 5 else {}),
                "metadata": {"tags": [tag]} if tag else {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for number, (tag, source) in enumerate(pairs)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": minor,
    }
    path.write_text(json.dumps(document))


def cells_of(path: Path) -> list[dict[str, Any]]:
    """The cells of a notebook, each source and each text of a stream in one piece."""
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    for cell in cells:
        cell["source"] = "".join(cell["source"])
        for output in cell["outputs"]:
            if "text" in output:
                output["text"] = "".join(output["text"])
    return cells


def printed(cell: dict[str, Any]) -> str:
    """What a cell printed."""
    return "".join(output["text"] for output in cell["outputs"] if output["output_type"] == "stream")
