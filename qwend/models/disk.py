"""Writing into the store so that a name is whole or absent, whatever kills us, and locks on it.

Rule 1: a file gets its name by rename(2), after its bytes and before its directory are flushed.
Rule 2: what root writes belongs to whom the directory belongs, or the service could not read it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qwend.errors import HostError

TEMPORARY = ".tmp-"


def make_directory(path: Path) -> None:
    """With its parents; what is not there yet is made for its owner alone. Raises: HostError."""
    try:
        for each in [*reversed(path.parents), path]:
            if not each.exists():
                with suppress(FileExistsError):
                    each.mkdir(mode=0o700)
                give_to_owner_of(each.parent, each)
        if not path.is_dir():
            raise HostError(str(path), "making the directory", "something else has its name")
    except OSError as error:
        raise HostError(str(path), "making the directory", error.strerror) from error


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the file; a crash leaves the old one or the new one. Raises: OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        give_to_owner_of(path.parent, Path(temporary))
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    flush_directory(path.parent)


def move_whole(source: Path, target: Path) -> None:
    """Give a file that has been flushed its name; one of that name is replaced. Raises: OSError."""
    give_to_owner_of(target.parent, source)
    os.replace(source, target)
    flush_directory(target.parent)


def flush_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_to_owner_of(directory: Path, path: Path) -> None:
    """Nobody but root may, and nobody but root needs to. A link's target stays whose it was."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock until it is closed; None: somebody else has it.

    The file may have been removed while we waited; then there is a new one. Raises: OSError.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            give_to_owner_of(path.parent, path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_still(path, descriptor):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def remove_unless_locked(path: Path) -> int:
    """Remove it if nobody has locked it; return the bytes that are free then. Raises: OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return os.fstat(descriptor).st_size
    except BlockingIOError:
        return 0
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among all who lock this file. Raises: OSError."""
    descriptor = lock(path, wait=True)
    assert descriptor is not None
    try:
        yield
    finally:
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
