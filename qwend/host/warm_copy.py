"""A copy of the model file that nobody else can change, in memory where there is room.

Rule 1: what is returned is an open descriptor, and its SHA-256 was computed from the bytes that
were written to it; whoever uses the descriptor runs what was checked.
Rule 2: this file does not know what a model is, nor what to do if the copy does not fit.

The directory, as an invariant: mode 0700 and ours; it holds `<sha256>.gguf` of mode 0400, one for
each model in use, complete from the moment it has that name, the index, and `.tmp-*` of copies
under way, each locked by its writer. A copy that is removed from here lives on in its descriptors.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from qwend import failpoint
from qwend.errors import HostError, QwendError
from qwend.host import warm_index
from qwend.host.private_dir import (
    TEMPORARY,
    create_file,
    is_locked,
    open_file,
    private_directory,
    remove_file,
    temporary_name,
)
from qwend.host.space import does_not_fit, free_on_disk

# Large enough that the calls do not show, small enough for smooth progress on an SD card (40 MB/s).
CHUNK_BYTES = 4 * 2**20
_COPY_NAME = re.compile(r"[0-9a-f]{64}\.gguf")


@dataclass(frozen=True, slots=True)
class WarmCopy:
    """The copy, open for reading. fd is close-on-exec and the receiver's to close."""

    fd: int
    path: Path
    sha256: str
    size_bytes: int
    reused: bool


class CopyCancelled(QwendError):
    """The copy was given up because the caller asked so; nothing half-made stays behind."""


def make_warm_copy(
    source: Path | int,
    directory: Path,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    free_bytes: Callable[[Path], int] = free_on_disk,
    cancelled: Callable[[], bool] = lambda: False,
    verify: bool = False,
    spare: Collection[str] = (),
) -> WarmCopy:
    """Copy `source`, or take the copy that an earlier start made of the same file.

    source: a path, or a descriptor that stays the caller's. progress(done, total) in bytes.
    cancelled: asked before each 4 MiB that are read, from the thread that copies.
    verify: read a reused copy again (0.3 s for 350 MB). Not the default: it is of mode 0400 in a
    0700 directory of ours, so only we and root can change it, and root can change us as well.
    spare: SHA-256 of copies that are in use. Those of other files are removed first, for there is
    seldom room for two.
    Raises: HostError with the figures if it does not fit, CopyCancelled; nothing half-made stays
    behind.
    """
    with ExitStack() as opened:
        source_fd = source if isinstance(source, int) else _open_source(source)
        if not isinstance(source, int):
            opened.callback(os.close, source_fd)
        name = os.readlink(f"/proc/self/fd/{source_fd}")
        wanted = warm_index.identify(source_fd, name)
        _check_source(source_fd, name)
        directory_fd = opened.enter_context(private_directory(directory))
        try:
            known = warm_index.find(directory_fd, wanted)
            _remove_others(directory_fd, {known, *spare})
            if known is not None:
                fd = _reopen(directory_fd, known, wanted.size_bytes, verify, cancelled)
                if fd is not None:
                    path = directory / f"{known}.gguf"
                    return WarmCopy(fd, path, known, wanted.size_bytes, reused=True)
            free = free_bytes(directory)
            if wanted.size_bytes > free:
                raise does_not_fit(directory, wanted.size_bytes, free)
            return _copy(source_fd, wanted, directory, directory_fd, progress, cancelled)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise does_not_fit(directory, wanted.size_bytes, free_bytes(directory)) from error
            raise HostError(str(directory), f"copying {name} to", error) from error


def find_warm_copy(source_fd: int, directory: Path) -> WarmCopy | None:
    """Return the copy that an earlier start made of this file, if it is as it was left.

    Raises: HostError if the directory cannot be trusted.
    """
    wanted = warm_index.identify(source_fd, os.readlink(f"/proc/self/fd/{source_fd}"))
    with private_directory(directory) as directory_fd:
        known = warm_index.find(directory_fd, wanted)
        if known is None:
            return None
        fd = _reopen(directory_fd, known, wanted.size_bytes, False, lambda: False)
    if fd is None:
        return None
    return WarmCopy(fd, directory / f"{known}.gguf", known, wanted.size_bytes, reused=True)


def remove_warm_copies(directory: Path, spare: Collection[str] = ()) -> None:
    """Free what copies of any file take here, but for those under way and those to be spared.

    spare: SHA-256 of copies that are in use. Raises: HostError.

    Memory comes back once nobody has a removed copy open or mapped any more.
    """
    if not os.path.lexists(directory):
        return
    with private_directory(directory) as directory_fd:
        try:
            _remove_others(directory_fd, spare)
            if not spare:
                remove_file(directory_fd, warm_index.INDEX)
        except OSError as error:
            raise HostError(str(directory), "removing the copy of the model in", error) from error


def _copy(
    source_fd: int,
    source: warm_index.SourceId,
    directory: Path,
    directory_fd: int,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> WarmCopy:
    temporary = temporary_name()
    with ExitStack() as unless_good:
        writer = create_file(directory_fd, temporary, 0o400)
        unless_good.callback(remove_file, directory_fd, temporary)
        with ExitStack() as always:
            always.callback(os.close, writer)
            # The lock tells a daemon that starts beside us that this file is not a leftover.
            fcntl.flock(writer, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Reserved before the first byte: "does not fit" is then known now, not after a minute.
            os.posix_fallocate(writer, 0, source.size_bytes)
            sha256 = _pour(source_fd, writer, source.size_bytes, progress, cancelled)
            if warm_index.identify(source_fd, source.path) != source:
                raise HostError(source.path, "copying", "it was changed meanwhile; start again")
            final = f"{sha256}.gguf"
            # A descriptor that can write must not live on, so the copy is opened anew by its name.
            reader = open_file(directory_fd, temporary)
            unless_good.callback(os.close, reader)
            if not os.path.samestat(os.fstat(reader), os.fstat(writer)):
                raise HostError(str(directory), "copying to", "the copy was replaced meanwhile")
            failpoint.reach("warm_copy.rename")
            os.rename(temporary, final, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
            warm_index.record(directory_fd, source, sha256)
        unless_good.pop_all()
    return WarmCopy(reader, directory / final, sha256, source.size_bytes, reused=False)


def _pour(
    from_fd: int,
    to_fd: int | None,
    size: int,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> str:
    """Read exactly `size` bytes, write them to `to_fd` if there is one, and return their SHA-256.

    Raises: OSError; HostError if there are fewer; CopyCancelled.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK_BYTES, size)))
    done = 0
    while done < size:
        if cancelled():
            raise CopyCancelled("the copy of the model was given up")
        # preadv: a descriptor of the caller's keeps its position.
        count = os.preadv(from_fd, [buffer[: size - done]], done)
        if not count:
            raise HostError(
                os.readlink(f"/proc/self/fd/{from_fd}"),
                "copying",
                f"it ends after {done} of {size} bytes",
            )
        digest.update(buffer[:count])
        if to_fd is not None:
            failpoint.reach("warm_copy.write")
        written = 0
        while to_fd is not None and written < count:
            written += os.pwrite(to_fd, buffer[written:count], done + written)
        done += count
        progress(done, size)
    return digest.hexdigest()


def _reopen(
    directory_fd: int, sha256: str, size: int, verify: bool, cancelled: Callable[[], bool]
) -> int | None:
    """Open the copy of an earlier start; remove it and return None if it is not as we left it."""
    name = f"{sha256}.gguf"
    try:
        fd = open_file(directory_fd, name)
    except FileNotFoundError:
        return None
    except OSError:
        remove_file(directory_fd, name)
        return None
    with ExitStack() as unless_good:
        unless_good.callback(os.close, fd)
        if _is_as_left(fd, size) and (not verify or _sha256_of(fd, size, cancelled) == sha256):
            unless_good.pop_all()
            return fd
        remove_file(directory_fd, name)
    return None


def _is_as_left(fd: int, size: int) -> bool:
    info = os.fstat(fd)
    return (
        stat.S_ISREG(info.st_mode)
        and stat.S_IMODE(info.st_mode) == 0o400
        and info.st_uid == os.geteuid()
        and info.st_nlink == 1
        and info.st_size == size
    )


def _remove_others(directory_fd: int, spare: Collection[str | None]) -> None:
    for name in os.listdir(directory_fd):
        if name.startswith(TEMPORARY):
            if not is_locked(directory_fd, name):
                remove_file(directory_fd, name)
        elif _COPY_NAME.fullmatch(name) and name.removesuffix(".gguf") not in spare:
            remove_file(directory_fd, name)


def _open_source(path: Path) -> int:
    try:
        # A link is followed: model downloaders keep the bytes elsewhere and link to them.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise HostError(str(path), "opening", cause) from error


def _check_source(fd: int, name: str) -> None:
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        raise HostError(name, "copying", "it is not a regular file")
    if not info.st_size:
        raise HostError(name, "copying", "it is empty")


def _sha256_of(fd: int, size: int, cancelled: Callable[[], bool]) -> str:
    return _pour(fd, None, size, lambda done, total: None, cancelled)
