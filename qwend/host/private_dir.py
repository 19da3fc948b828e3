"""Files in a directory that only we can enter, and files replaced as a whole.

Rule 1: entries are named relative to a held directory descriptor and no link is ever followed, so
nothing outside can be written, read or deleted through a planted name.
Rule 2: this file does not know what the files are for.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qwend.errors import HostError

TEMPORARY = ".tmp-"


@contextmanager
def private_directory(path: Path, *, tighten: bool = True) -> Iterator[int]:
    """Make `path` if it is not there, mode 0700 and ours, and hold it open; yields its descriptor.

    tighten: also take away what others may do in one that is there; False for a directory that
    others must pass through, such as the socket's.
    Raises: HostError if it is a link or a file, is another's, or others could write to it.
    """
    try:
        _make(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise HostError(str(path), "opening the directory", error) from error
    try:
        _check_ours(path, os.fstat(fd))
        if tighten:
            _tighten(path, fd)
        yield fd
    finally:
        os.close(fd)


def temporary_name() -> str:
    return f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"


def create_file(directory_fd: int, name: str, mode: int) -> int:
    """Create `name` with exactly `mode` whatever the umask; returns a descriptor to write to.

    Raises: OSError, FileExistsError if there is anything of that name.
    """
    # umask can only take bits away, so there is no moment at which the file is too open.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, mode, dir_fd=directory_fd)
    try:
        os.fchmod(fd, mode)
    except OSError:
        os.close(fd)
        remove_file(directory_fd, name)
        raise
    return fd


def open_file(directory_fd: int, name: str) -> int:
    """Open what may be a file for reading, without waiting and without following a link.

    Raises: OSError.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=directory_fd)


def remove_file(directory_fd: int, name: str) -> None:
    """Remove a name; that it is gone already is as good. Raises: OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory_fd)


def is_locked(directory_fd: int, name: str) -> bool:
    """Say whether somebody holds flock(2) on the file, that is, still writes it."""
    try:
        fd = open_file(directory_fd, name)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def read_file(directory_fd: int, name: str, limit_bytes: int) -> bytes:
    """Return a regular file's bytes, at most `limit_bytes`. Raises: OSError."""
    fd = open_file(directory_fd, name)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError(f"{name} is not a regular file")
        with open(fd, "rb", closefd=False) as stream:
            return stream.read(limit_bytes)
    finally:
        os.close(fd)


def replace_file(directory_fd: int, name: str, data: bytes, *, mode: int, durable: bool) -> None:
    """Put `data` at `name`: whole or not at all; with `durable`, also after a power cut.

    Raises: OSError; what was at `name` is then untouched.
    """
    temporary = temporary_name()
    fd = create_file(directory_fd, temporary, mode)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            if durable:
                os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except BaseException:
        remove_file(directory_fd, temporary)
        raise
    if durable:
        os.fsync(directory_fd)


def _make(path: Path) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        if path.parent == path:
            raise
        _make(path.parent)
        os.mkdir(path, 0o700)


def _tighten(path: Path, fd: int) -> None:
    try:
        # umask can only have taken bits away, and an older release may have left more.
        os.fchmod(fd, 0o700)
    except OSError as error:
        raise HostError(str(path), "closing the directory to others", error) from error


def _check_ours(path: Path, info: os.stat_result) -> None:
    checking = "trusting the directory"
    if info.st_uid != os.geteuid():
        cause = f"it belongs to uid {info.st_uid}, not to us ({os.geteuid()}); remove it"
        raise HostError(str(path), checking, cause)
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        cause = f"others may write to it (mode {stat.S_IMODE(info.st_mode):04o}); remove it"
        raise HostError(str(path), checking, cause)
