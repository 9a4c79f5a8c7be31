"""The helper's compiled code stays on the machine, and is believed if nobody else can have written it."""

from __future__ import annotations

import hashlib
import marshal
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from devsync.replica.luggage import command_line, start_helper
from tests.fakes.process import LocalProcess


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def start(cache: Path) -> None:
    """A helper comes to life and answers."""
    process = LocalProcess(command_line(), {**os.environ, "XDG_CACHE_HOME": str(cache)})
    channel = start_helper(process)
    try:
        assert channel.call("hello", root=str(cache), create=False)["root"] == str(cache)
    finally:
        channel.close()


def kept(cache: Path) -> Path:
    (file,) = (cache / "devsync").iterdir()
    return file


def test_the_code_is_kept_for_its_owner_alone(cache: Path) -> None:
    start(cache)
    assert kept(cache).stat().st_mode & 0o777 == 0o600
    assert kept(cache).parent.stat().st_mode & 0o777 == 0o700
    inode = kept(cache).stat().st_ino
    start(cache)
    assert kept(cache).stat().st_ino == inode, "it was compiled again"


def sealed(codes: dict[str, int]) -> bytes:
    content = marshal.dumps(codes)
    return hashlib.sha256(content).digest() + content


def let_others_write(file: Path) -> None:
    file.write_bytes(sealed({}))
    file.chmod(0o620)


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, 1000)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def replace_by_link(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    elsewhere.write_bytes(sealed({}))
    elsewhere.chmod(0o600)
    file.unlink()
    file.symlink_to(elsewhere)


def replace_by_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


@pytest.mark.parametrize("spoil", [let_others_write, damage, cut, empty, replace_by_link, replace_by_pipe])
def test_what_cannot_be_believed_is_made_anew(cache: Path, spoil: Callable[[Path], None]) -> None:
    start(cache)
    good = kept(cache).read_bytes()
    spoil(kept(cache))
    start(cache)
    assert kept(cache).read_bytes() == good
    assert kept(cache).lstat().st_mode == 0o100600


def test_the_believed_code_is_what_runs(cache: Path) -> None:
    """Else the tests above would prove nothing."""
    start(cache)
    kept(cache).write_bytes(sealed({}))
    with pytest.raises(Exception, match="did not start"):
        start(cache)


def test_a_home_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    cache = tmp_path / "file"
    cache.write_bytes(b"no folder\n")
    process = LocalProcess(command_line(), {**os.environ, "XDG_CACHE_HOME": str(cache)})
    start_helper(process).close()


def test_old_code_goes_when_new_code_comes(cache: Path) -> None:
    old, other = cache / "devsync/helper-old", cache / "devsync/something"
    old.parent.mkdir(parents=True)
    for file in (old, other):
        file.write_bytes(b"x")
        os.utime(file, (0, 0))
    start(cache)
    assert not old.exists()
    assert other.exists()
