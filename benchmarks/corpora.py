"""What is mirrored: made on the spot from what every computer has, and the same each time."""

from __future__ import annotations

import base64
import json
import math
import random
import shutil
import struct
import sysconfig
from pathlib import Path

MIB = 1024 * 1024


def standard_library(root: Path) -> None:
    """About 2,500 files and 100 MB: Python's own."""
    source = sysconfig.get_paths()["stdlib"]
    ignored = shutil.ignore_patterns("site-packages", "__pycache__")
    shutil.copytree(source, root, ignore=ignored, symlinks=True, dirs_exist_ok=True)


def small_files(root: Path, number: int, edition: int = 0) -> None:
    """So many files of some hundred bytes, a hundred in a folder; each edition has other contents."""
    for index in range(number):
        path = small_file(root, index)
        if index % 100 == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small_content(index, edition))


def small_file(root: Path, index: int) -> Path:
    """Where `small_files` puts the one with this number."""
    return root / f"p{index // 100}" / f"m{index % 100}.py"


def small_content(index: int, edition: int = 0) -> bytes:
    """What is in it; editions differ in length."""
    return f"VALUE = {index}\n".encode() * (index % 20 + 1) + b"# edited\n" * edition


def folder_of_binaries(root: Path, number: int) -> None:
    """So many files of 10 kB that no compressor makes smaller."""
    chance = random.Random(11)
    (root / "old").mkdir()
    for index in range(number):
        (root / "old" / f"{index}.bin").write_bytes(chance.randbytes(10_000 + index % 7))


def big_file(path: Path, size: int) -> None:
    """One file of mixed compressibility: noise, numbers of a measurement, text and a table, in turn."""
    chance = random.Random(7)
    text = Path(json.__file__).read_bytes()
    wave = struct.pack("<8192d", *(math.sin(step / 50) for step in range(8192)))
    with path.open("wb") as file:
        while (left := size - file.tell()) > 0:
            kind = file.tell() // MIB % 4
            if kind == 0:
                piece = chance.randbytes(MIB)
            elif kind == 1:
                piece = b"".join(wave[: -8 * 64] + chance.randbytes(8 * 64) for _ in range(16))
            elif kind == 2:
                piece = b"".join(b"# %d\n" % chance.randrange(10**9) + text for _ in range(MIB // len(text)))
            else:
                piece = b"".join(b"%d,%.6f\n" % (row, chance.random()) for row in range(60_000))
            file.write(piece[: min(left, MIB)])


def change_in_the_middle(path: Path, edition: int) -> None:
    """Another 1 KiB there, in place."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 + edition * 4096)
        file.write(random.Random(edition).randbytes(1024))


def insert_at_the_start(path: Path, edition: int) -> None:
    """1 KiB more in front of everything."""
    content = path.read_bytes()
    path.write_bytes(random.Random(-edition).randbytes(1024) + content)


def notebooks(root: Path, number: int) -> None:
    """Notebooks of some cells, each with two embedded images, as Jupyter writes them."""
    chance = random.Random(5)
    for index in range(number):
        cells = [_cell(chance, cell) for cell in range(10)]
        about = {"cells": cells, "metadata": {"language_info": {"name": "python"}}}
        document = {**about, "nbformat": 4, "nbformat_minor": 5}
        (root / f"notebook-{index}.ipynb").write_text(json.dumps(document, indent=1))


def _cell(chance: random.Random, number: int) -> dict[str, object]:
    source = [f"frame = load({number})\n", f"frame.plot(column={chance.randrange(100)})"]
    outputs: list[dict[str, object]] = []
    if number % 5 == 0:
        # A picture is as good as noise, and base64 makes four bytes of three.
        picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + chance.randbytes(60_000)).decode()
        outputs = [{"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}]
    return {
        "cell_type": "code",
        "id": f"{number:08x}",
        "execution_count": number,
        "metadata": {},
        "source": source,
        "outputs": outputs,
    }
