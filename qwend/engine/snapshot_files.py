"""Snapshot files: one directory, written whole or not at all, read checked.

Owns the names and the system calls. Knows nothing of limits or of what is worth keeping. Every
name is relative to a held descriptor and no link is followed. No call raises for what the disk
does; any one thread may make them, for they touch no state but `failure`.

The directory as an invariant: mode 0700 and ours; `<key>.snapshot` of mode 0600, complete from
the moment it has that name, and `.tmp-<key>.snapshot` of the one being written. The key is made of
fingerprint, uid and tokens, so that a file whose header was changed is refused at the scan.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
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


class SnapshotFiles:
    """The files of one fingerprint. `failure` says why the last write came to nothing."""

    def __init__(self, directory: Path, fingerprint: bytes) -> None:
        """Make the directory if it is not there, and open it. Raises: OSError, ValueError."""
        self.directory = directory
        self.fingerprint = fingerprint
        self.failure: str | None = None
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

        Leftovers and files that only look like a snapshot of ours are removed, and another
        fingerprint's: it can never be used here again. Other names are not ours to remove.
        Raises: OSError.
        """
        for name in os.listdir(self._fd):
            if not _NAME.fullmatch(name):
                continue
            try:
                found = None if name.startswith(_TEMPORARY) else self._look_at(name)
            except SnapshotError:
                found = None
            except OSError:
                continue
            if found is None:
                self._unlink(name)
            else:
                yield found

    def put(self, info: SnapshotInfo, blob: bytes, used_ns: int) -> bool:
        """Write the file: whole under its name or not at all, also after a power cut.

        used_ns: its mtime. False: dropped, see `failure`; nothing else has changed.
        """
        temporary = _TEMPORARY + info.name
        try:
            # One of a writer that died may be there.
            self._unlink(temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o600, dir_fd=self._fd)
            try:
                for piece in encode(Snapshot(info.header, info.tokens, blob)):
                    failpoint.reach("snapshot.write")
                    _write_all(fd, piece)
                os.utime(fd, ns=(used_ns, used_ns))
                failpoint.reach("snapshot.fsync")
                os.fsync(fd)
            finally:
                os.close(fd)
            failpoint.reach("snapshot.rename")
            os.rename(temporary, info.name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            failpoint.reach("snapshot.fsync_directory")
            os.fsync(self._fd)
        except (OSError, SnapshotError) as error:
            failure = f"{self.directory}: {error}"
            if failure != self.failure:  # one line for a disk that is full, not one for each write
                complain(f"qwend engine: a prefix could not be kept in {failure}")
            self.failure = failure
            self._unlink(temporary)
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

    def unlink(self, info: SnapshotInfo) -> None:
        """Remove the file; that it is gone already is as good."""
        self._unlink(info.name)

    def set_time(self, info: SnapshotInfo, used_ns: int) -> None:
        """Tell the file when it was last used, for the next start."""
        with suppress(OSError):
            os.utime(info.name, ns=(used_ns, used_ns), dir_fd=self._fd, follow_symlinks=False)

    def _name(self, uid: int, tokens: tuple[int, ...]) -> str:
        key = hashlib.sha256(struct.pack(f"<q{len(tokens)}i", uid, *tokens))
        key.update(self.fingerprint)
        return f"{key.hexdigest()[:32]}.snapshot"

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

    def _unlink(self, name: str) -> None:
        with suppress(OSError):
            failpoint.reach("snapshot.unlink")
            os.unlink(name, dir_fd=self._fd)


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
