"""A large file that a command makes: a hidden temporary one until it is whole, then its name.

Rule 1: whatever ends the command, no half of a file stays. What a kill -9 leaves is not locked, and
the next one that works in that directory removes it. Rule 2: this file does not know what is in it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qwend.errors import ConfigError, FetchError, HostError
from qwend.models.disk import TEMPORARY, flush_directory, remove_unless_locked

_PREFIX = f"{TEMPORARY}quantize-"
# What a file system may need beside the bytes of one file.
_SPARE_BYTES = 1 << 20
# What link(2) says on a file system without hard links, such as FAT.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class ResultFile:
    """An open file of nobody else, under a name that was not there before (O_EXCL)."""

    fd: int
    path: Path

    @property
    def bytes(self) -> int:
        return os.fstat(self.fd).st_size

    def check_room(self, wanted_bytes: int) -> None:
        """Raises: FetchError if what is missing of so many bytes does not fit on this disk."""
        info = os.statvfs(self.path.parent)
        free = info.f_bavail * info.f_frsize
        if wanted_bytes - self.bytes + _SPARE_BYTES > free:
            raise FetchError(
                f"{self.path.parent} has {free >> 20} MiB free, and the result takes "
                f"{(wanted_bytes >> 20) + 1} MiB; make room, or choose another place with --output",
                code="no_space",
            )

    def flush(self, mode: int = 0o600) -> None:
        """To the disk, with these rights. Raises: FetchError, HostError."""
        with _writing(self.path.parent):
            os.fchmod(self.fd, mode)
            os.fsync(self.fd)

    def publish(self, target: Path, *, replace: bool) -> None:
        """Give what was flushed its name. Raises: ConfigError if it is taken, HostError."""
        with _writing(target.parent):
            if replace:
                os.replace(self.path, target)
            else:
                self._publish_new(target)
            flush_directory(target.parent)

    def _publish_new(self, target: Path) -> None:
        try:
            os.link(self.path, target)
            os.unlink(self.path)
        except FileExistsError as error:
            raise taken(target) from error
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(target):
                raise taken(target) from error
            os.rename(self.path, target)


@contextmanager
def result_file(directory: Path) -> Iterator[ResultFile]:
    """In that directory; gone in the end unless it was published. Raises: HostError."""
    _remove_left_over(directory)
    with _writing(directory):
        fd, name = tempfile.mkstemp(prefix=_PREFIX, dir=directory)
    try:
        with suppress(OSError):  # no locks here: then nothing left over is removed either
            # Whoever inherits it, such as the quantizer, keeps it locked too (flock(2)).
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield ResultFile(fd, Path(name))
    finally:
        with suppress(OSError):
            os.unlink(name)
        os.close(fd)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and the end of the terminal are as Ctrl-C: what was begun is taken away."""
    numbers = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL  # not what nohup ignores
    ]
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def taken(target: Path) -> ConfigError:
    return ConfigError(f"{target} is there already; --force replaces it, --output names another")


def _remove_left_over(directory: Path) -> None:
    with suppress(OSError):
        for entry in os.listdir(directory):
            if entry.startswith(_PREFIX):
                with suppress(OSError):  # somebody else's
                    remove_unless_locked(directory / entry)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise FetchError(f"{directory} is full; make room", code="no_space") from error
        raise HostError(str(directory), "writing to", error.strerror or error) from error
