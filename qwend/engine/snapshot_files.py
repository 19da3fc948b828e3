"""Snapshot files: one directory, written whole or not at all, read checked.

Owns the names and the system calls, and the room that other models' files leave. Knows nothing of
what is worth keeping. Every name is relative to a held descriptor and no link is followed. No call
raises for what the disk does; any one thread may make them, for they touch no state but `failure`
and `others`, each replaced as a whole.

The directory as an invariant: mode 0700 and ours; `<model><key>.snapshot` of mode 0600, complete
from the moment it has that name, and `.tmp-<model><key>.snapshot` of the one being written, which
its writer has locked. `model` is made of the fingerprint, so that a name says whose the file is;
the key of fingerprint, uid and tokens, so that a file whose header was changed is refused at the
scan. Engines of several models may use the directory at once, and each may remove any file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qwend import failpoint
from qwend.engine.complaint import complain
from qwend.engine.snapshot import (
    Header,
    Snapshot,
    SnapshotError,
    encode,
    read,
    read_header,
    read_tokens,
)

_NAME = re.compile(r"(\.tmp-)?[0-9a-f]{32}\.snapshot")
_TEMPORARY = ".tmp-"
_MODEL_DIGITS, _KEY_DIGITS = 8, 24  # of SHA-256 in hexadecimal
# A start reads each file's header and tokens: 0.1 ms on an SSD, some ms on a cold SD card.
FILES_LIMIT = 512
NO_LIMIT = sys.maxsize


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotInfo:
    """One file: what is in it but the blob.

    Compared by identity: a file that was removed and written anew has the same name.
    """

    header: Header
    tokens: tuple[int, ...]
    name: str
    file_bytes: int

    @property
    def uid(self) -> int:
        return self.header.uid


@dataclass(frozen=True, slots=True)
class OtherFile:
    """One of another model, of which only that is known. used_ns: its mtime."""

    name: str
    file_bytes: int
    used_ns: int


class SnapshotFiles:
    """The files of one fingerprint, among those of others.

    limit_bytes: of all files together, and FILES_LIMIT of them; a write keeps to it where files of
    other models are in its way. failure: why the last write came to nothing. others: what there was
    of other models at the scan or the last write.
    """

    def __init__(self, directory: Path, fingerprint: bytes, limit_bytes: int = NO_LIMIT) -> None:
        """Make the directory if it is not there, and open it. Raises: OSError, ValueError."""
        self.directory = directory
        self.fingerprint = fingerprint
        self.failure: str | None = None
        self.others: tuple[OtherFile, ...] = ()
        self._limit_bytes = limit_bytes
        self._model = hashlib.sha256(fingerprint).hexdigest()[:_MODEL_DIGITS]
        self._fd = _open_private(directory)

    def close(self) -> None:
        """Let go of the directory; ends all use."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def info(
        self, uid: int, tokens: tuple[int, ...], blob_bytes: int, created_s: int
    ) -> SnapshotInfo:
        """What a file of this would be."""
        header = Header(uid, len(tokens), self.fingerprint, blob_bytes, created_s)
        return SnapshotInfo(header, tokens, self._name(uid, tokens), header.file_bytes())

    def scan(self) -> Iterator[tuple[SnapshotInfo, int]]:
        """Each file that can be used and its mtime in ns; reads headers and tokens only.

        Leftovers and files that only look like a snapshot of ours are removed. Another model's are
        noted in `others` and stay: it may be asked for again. Other names are not ours to remove.
        Raises: OSError.
        """
        self.look_at_others()
        for name in os.listdir(self._fd):
            if not _NAME.fullmatch(name):
                continue
            if name.startswith(_TEMPORARY):
                self._remove_leftover(name)
                continue
            if not self._is_ours(name):
                continue
            try:
                found = self._look_at(name)
            except SnapshotError:
                found = None
            except OSError:
                continue
            if found is None:
                self._unlink(name)
            else:
                yield found

    def look_at_others(self) -> None:
        """Note in `others` what there is of other models now. Raises: OSError."""
        self.others = tuple(one for one in self._all_files() if not self._is_ours(one.name))

    def put(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> bool:
        """Write the file: whole under its name or not at all, also after a power cut.

        What other models used before `used_ns` makes room for it. used_ns: its mtime. False:
        dropped, see `failure`, which says nothing where only the room was missing.
        """
        temporary = _TEMPORARY + info.name
        try:
            if not self._make_room(info, used_ns):
                return False
            # One of a writer that died may be there.
            self._remove_leftover(temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=self._fd)
            try:
                with suppress(OSError):  # a file system without locks: see `_remove_leftover`
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for piece in encode(Snapshot(info.header, info.tokens, blob)):
                    failpoint.reach("snapshot.write")
                    _write_all(fd, piece)
                os.utime(fd, ns=(used_ns, used_ns))
                failpoint.reach("snapshot.fsync")
                os.fsync(fd)
                failpoint.reach("snapshot.rename")
                os.rename(temporary, info.name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            finally:
                os.close(fd)
            failpoint.reach("snapshot.fsync_directory")
            os.fsync(self._fd)
        except (OSError, SnapshotError) as error:
            failure = f"{self.directory}: {error}"
            if failure != self.failure:  # one line for a disk that is full, not one for each write
                complain(f"qwend engine: a prefix could not be kept in {failure}")
            self.failure = failure
            self._remove_leftover(temporary)
            return False
        return True

    def read(self, info: SnapshotInfo) -> bytes | None:
        """The blob, checked; None if the file is gone or not as it was written."""
        try:
            with os.fdopen(self._open(info.name), "rb") as file:
                if os.fstat(file.fileno()).st_size != info.file_bytes:
                    return None
                found = read(file)
        except (OSError, SnapshotError):
            return None
        same = found.header == info.header and found.tokens == info.tokens
        return found.blob if same else None

    def unlink(self, info: SnapshotInfo | OtherFile) -> None:
        """Remove the file; that it is gone already is as good."""
        self._unlink(info.name)

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        """Tell the file when it was last used, for the next start."""
        with suppress(OSError):
            os.utime(info.name, ns=(used_ns, used_ns), dir_fd=self._fd, follow_symlinks=False)

    def _name(self, uid: int, tokens: tuple[int, ...]) -> str:
        key = hashlib.sha256(struct.pack(f"<q{len(tokens)}i", uid, *tokens))
        key.update(self.fingerprint)
        return f"{self._model}{key.hexdigest()[:_KEY_DIGITS]}.snapshot"

    def _is_ours(self, name: str) -> bool:
        return name.startswith(self._model)

    def _all_files(self) -> Iterator[OtherFile]:
        """Every model's, by names alone. Raises: OSError."""
        with os.scandir(self._fd) as entries:
            for entry in entries:
                if not _NAME.fullmatch(entry.name) or entry.name.startswith(_TEMPORARY):
                    continue
                with suppress(OSError):  # another engine may have removed it
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        yield OtherFile(entry.name, status.st_size, status.st_mtime_ns)

    def _make_room(self, info: SnapshotInfo, used_ns: int) -> bool:
        """Remove what other models used before, the oldest first, until the file fits.

        What is ours is not looked at: whoever asks has made its room already. Raises: OSError.
        """
        there = [one for one in self._all_files() if one.name != info.name]
        others = sorted((one for one in there if not self._is_ours(one.name)), key=_last_use)
        room = self._limit_bytes - sum(one.file_bytes for one in there)
        files = FILES_LIMIT - len(there)
        while others and others[0].used_ns < used_ns and (info.file_bytes > room or files <= 0):
            oldest = others.pop(0)
            self._unlink(oldest.name)
            room += oldest.file_bytes
            files += 1
        self.others = tuple(others)
        return not others or (info.file_bytes <= room and files > 0)

    def _look_at(self, name: str) -> tuple[SnapshotInfo, int] | None:
        """What a file says of itself, None if it is not for us. Raises: OSError, SnapshotError."""
        with os.fdopen(self._open(name), "rb") as file:
            status = os.fstat(file.fileno())
            header = read_header(file)
            if header.fingerprint != self.fingerprint:
                return None
            tokens = read_tokens(file, header)
        if name != self._name(header.uid, tokens):
            return None
        return SnapshotInfo(header, tokens, name, status.st_size), status.st_mtime_ns

    def _open(self, name: str) -> int:
        """Open a regular file for reading. Raises: OSError, also for anything else."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=self._fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(f"{name} is not a regular file")
        return fd

    def _remove_leftover(self, temporary: str) -> None:
        """Remove a half-written file unless somebody writes it: the lock ends with its writer."""
        try:
            fd = self._open(temporary)
        except OSError:  # none, or a link or a pipe
            self._unlink(temporary)
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # a file system without locks: nobody can tell, and a cache may lose a file
            pass
        finally:
            os.close(fd)
        self._unlink(temporary)

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            failpoint.reach("snapshot.unlink")
            os.unlink(name, dir_fd=self._fd)


def forget_snapshots(directory: Path) -> None:
    """Remove what every model has there, for what it was computed from was bad.

    The directory stays, and a file that is being written: engines that use it go on. Never raises.
    """
    with suppress(OSError):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(directory, flags)
        try:
            for name in os.listdir(fd):
                if _NAME.fullmatch(name) and not name.startswith(_TEMPORARY):
                    with suppress(OSError):
                        os.unlink(name, dir_fd=fd)
        finally:
            os.close(fd)


def _last_use(file: OtherFile) -> int:
    return file.used_ns


def _open_private(path: Path) -> int:
    # Of the directories that are missing above, `mkdir` gives the mode to none but the last.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"it belongs to uid {status.st_uid}, not to us")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError("others may write to it")
        # An older release or a umask may have left another mode.
        os.fchmod(fd, 0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError("it cannot be written to")
    except OSError:
        os.close(fd)
        raise
    return fd


def _write_all(fd: int, data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
