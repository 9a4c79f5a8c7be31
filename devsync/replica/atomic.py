"""Renames that clobber nothing and exchanges in one step, as the system has them. Travels (Python 3.8)."""

from __future__ import annotations

import ctypes
import errno
import os
import sys

_SYSCALL = {"x86_64": 316, "aarch64": 276, "ppc64le": 357, "s390x": 347, "riscv64": 276, "armv7l": 382}
_NOREPLACE, _EXCHANGE = (4, 2) if sys.platform == "darwin" else (1, 2)
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
_NO_HARD_LINKS = (errno.EPERM, errno.EMLINK, *_UNSUPPORTED)

_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(folder: int, name: str, to_folder: int, to_name: str) -> None:
    """Rename within one file system; FileExistsError if the new name is taken, and nothing has changed."""
    try:
        _rename(folder, name, to_folder, to_name, _NOREPLACE)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _rename_by_link(folder, name, to_folder, to_name)


def exchange(folder: int, name: str, other_folder: int, other_name: str) -> None:
    """Let two names change places in one step; neither is ever missing. ENOTSUP where that is unknown."""
    try:
        _rename(folder, name, other_folder, other_name, _EXCHANGE)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from error
        raise


def can_exchange(folder: int) -> bool:
    """Whether the file system of `folder` knows `exchange`, found out with two files of our own in it."""
    names = [f"probe-{os.getpid()}-{which}" for which in "ab"]
    try:
        for name in names:
            os.close(
                os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
            )
        exchange(folder, names[0], folder, names[1])
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return False
        raise
    finally:
        for name in names:
            try:
                os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                pass
    return True


def sync_file_system(folder: int) -> None:
    """Make everything durable that was written to the file system of `folder`."""
    if hasattr(_libc, "syncfs"):
        if _libc.syncfs(folder) != 0:
            raise _error()
    else:
        os.sync()


def _rename(folder: int, name: str, to_folder: int, to_name: str, flags: int) -> None:
    arguments = [folder, os.fsencode(name), to_folder, os.fsencode(to_name)]
    if hasattr(_libc, "renameat2"):
        status = _libc.renameat2(*arguments, ctypes.c_uint(flags))
    elif hasattr(_libc, "renameatx_np"):
        status = _libc.renameatx_np(*arguments, ctypes.c_uint(flags))
    elif sys.platform == "linux" and os.uname().machine in _SYSCALL:
        # An old C library (before 2.28) on a kernel that can.
        number = ctypes.c_long(_SYSCALL[os.uname().machine])
        status = _libc.syscall(number, *arguments, ctypes.c_uint(flags))
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if status != 0:
        raise _error()


def _rename_by_link(folder: int, name: str, to_folder: int, to_name: str) -> None:
    try:
        os.link(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        os.unlink(name, dir_fd=folder)
        return
    try:
        os.stat(to_name, dir_fd=to_folder, follow_symlinks=False)
    except FileNotFoundError:
        # RACE: a folder, or a file system with neither flag nor hard links (FAT): a file that appears
        # right here is replaced. Nothing better exists there.
        os.rename(name, to_name, src_dir_fd=folder, dst_dir_fd=to_folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), to_name)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
