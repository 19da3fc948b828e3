"""A disk for one module: real calls in a real directory, noted in order, and one of them failing.

`Disk` stands in for `os` (and for `open` and `tempfile`) in the module under test; whatever it does
not know goes to the real one. What was noted, `crashes` turns into every directory that a power cut
could have left: metadata as far as a journal keeps its order, and of what was written without fsync
nothing, a part, or a part with holes.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

# As much as a disk writes at once, whatever happens: a sector of old ones and of new ones.
SECTORS = (512, 4096)
SHORT = "short write"
FAULTS: tuple[int | str, ...] = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR, SHORT)


@dataclass(eq=False)
class Inode:
    """writes: (offset, bytes) in order; synced: so many of them survive a power cut."""

    writes: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Op:
    """One call that changed something. name, other: of directory entries."""

    call: str
    inode: Inode | None = None
    name: str = ""
    other: str = ""


@dataclass
class Disk:
    """fail_at: the number of the call that fails, from 0. fault: its errno, or SHORT.

    obeys: False for a disk that says it has synced and has not. calls: the names of all so far.
    """

    fail_at: int = -1
    fault: int | str = 0
    obeys: bool = True
    calls: list[str] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    _inodes: dict[int, Inode] = field(default_factory=dict)
    _directories: set[int] = field(default_factory=set)

    def stand_in(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        for module in modules:
            monkeypatch.setattr(module, "os", self)
            monkeypatch.setattr(module, "open", self.fdopen, raising=False)
            if hasattr(module, "tempfile"):
                monkeypatch.setattr(module, "tempfile", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @property
    def failed(self) -> str:
        """The call that has failed, if it came to that."""
        return self.calls[self.fail_at] if 0 <= self.fail_at < len(self.calls) else ""

    def _call(self, name: str) -> bool:
        """Count a call; True if it is to be a short one. Raises: OSError if it is to fail."""
        self.calls.append(name)
        if len(self.calls) - 1 != self.fail_at:
            return False
        if isinstance(self.fault, int):
            raise OSError(self.fault, os.strerror(self.fault))
        return name in ("write", "pwrite")

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self._call("open")
        fd = os.open(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT:
            self._created(fd, os.fspath(path))
        elif flags & os.O_DIRECTORY:
            self._directories.add(fd)
        return fd

    def mkstemp(self, prefix: str, dir: Any) -> tuple[int, str]:
        self._call("open")
        fd, path = tempfile.mkstemp(prefix=prefix, dir=dir)
        self._created(fd, path)
        return fd, path

    def _created(self, fd: int, path: str) -> None:
        inode = self._inodes[fd] = Inode()
        self.ops.append(Op("create", inode, os.path.basename(path)))

    def fdopen(self, fd: int, mode: str, closefd: bool = True) -> Any:
        if mode == "wb":
            return io.BufferedWriter(_Raw(self, fd, closefd))
        return os.fdopen(fd, mode, closefd=closefd)

    def write(self, fd: int, data: Any) -> int:
        short = self._call("write")
        view = memoryview(data)[: max(1, len(data) // 2)] if short else memoryview(data)
        offset = os.lseek(fd, 0, os.SEEK_CUR)
        count = os.write(fd, view)
        self._wrote(fd, offset, bytes(view[:count]))
        return count

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        short = self._call("pwrite")
        view = memoryview(data)[: max(1, len(data) // 2)] if short else memoryview(data)
        count = os.pwrite(fd, view, offset)
        self._wrote(fd, offset, bytes(view[:count]))
        return count

    def _wrote(self, fd: int, offset: int, data: bytes) -> None:
        inode = self._inodes[fd]
        inode.writes.append((offset, data))
        self.ops.append(Op("write", inode))

    def preadv(self, fd: int, buffers: Any, offset: int) -> int:
        self._call("preadv")
        return os.preadv(fd, buffers, offset)

    def posix_fallocate(self, fd: int, offset: int, length: int) -> None:
        self._call("posix_fallocate")
        os.posix_fallocate(fd, offset, length)

    def fchmod(self, fd: int, mode: int) -> None:
        self._call("fchmod")
        os.fchmod(fd, mode)

    def utime(self, path: Any, **options: Any) -> None:
        self._call("utime")
        os.utime(path, **options)

    def fsync(self, fd: int) -> None:
        self._call("fsync")
        if self.obeys:
            directory = fd in self._directories
            self.ops.append(Op("fsync_directory") if directory else Op("fsync", self._inodes[fd]))

    def rename(self, source: Any, target: Any, **options: Any) -> None:
        self._call("rename")
        os.rename(source, target, **options)
        names = (os.path.basename(os.fspath(each)) for each in (source, target))
        self.ops.append(Op("rename", None, *names))

    replace = rename

    def unlink(self, path: Any, **options: Any) -> None:
        self._call("unlink")
        os.unlink(path, **options)
        self.ops.append(Op("unlink", None, os.path.basename(os.fspath(path))))

    def close(self, fd: int) -> None:
        # Closed even where it fails: close(2), "Dealing with error returns from close()". It tells
        # of what could not be written, so that a file which was only read has nothing to tell.
        os.close(fd)
        self._directories.discard(fd)
        if self._inodes.pop(fd, None) is not None:
            self._call("close")


class _Raw(io.RawIOBase):
    """The file below a buffered writer, through the disk."""

    def __init__(self, disk: Disk, fd: int, closefd: bool) -> None:
        self._disk = disk
        self._fd = fd
        self._closefd = closefd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        return self._disk.write(self._fd, data)

    def close(self) -> None:
        if not self.closed and self._closefd:
            try:
                self._disk.close(self._fd)
            finally:
                super().close()


State = dict[str, bytes]


def crashes(before: State, ops: list[Op]) -> Iterator[tuple[State, bool]]:
    """Every directory that a power cut may leave, and whether all calls had returned by then.

    before: the directory as it was, all of it on the disk.
    """
    old = {name: Inode([(0, data)]) for name, data in before.items()}
    for cut in range(len(ops) + 1):
        done = ops[:cut]
        synced = _synced(done, old)
        changes = [op for op in done if op.call in ("create", "rename", "unlink")]
        kept = _kept_for_sure(done)
        for count in range(kept, len(changes) + 1):
            entries = _entries(old, changes[:count])
            for contents in _contents(entries, done, synced):
                yield contents, cut == len(ops)


def _synced(done: list[Op], old: dict[str, Inode]) -> dict[Inode, int]:
    """How many writes of each file are on the disk for sure."""
    synced = dict.fromkeys(old.values(), 1)
    written: dict[Inode, int] = {}
    for op in done:
        if op.call == "write" and op.inode is not None:
            written[op.inode] = written.get(op.inode, 0) + 1
        elif op.call == "fsync" and op.inode is not None:
            synced[op.inode] = written.get(op.inode, 0)
    return synced


def _kept_for_sure(done: list[Op]) -> int:
    """How many changes of the directory are: those before the last fsync of it."""
    kept = changes = 0
    for op in done:
        changes += op.call in ("create", "rename", "unlink")
        if op.call == "fsync_directory":
            kept = changes
    return kept


def _entries(old: dict[str, Inode], changes: list[Op]) -> dict[str, Inode]:
    entries = dict(old)
    for op in changes:
        if op.call == "create" and op.inode is not None:
            entries[op.name] = op.inode
        elif op.call == "rename":
            entries[op.other] = entries.pop(op.name)
        else:
            entries.pop(op.name, None)
    return entries


def _contents(
    entries: dict[str, Inode], done: list[Op], synced: dict[Inode, int]
) -> Iterator[State]:
    """Of each file that has writes which are not synced: all that may be there of them."""
    states: list[State] = [{}]
    for name, inode in entries.items():
        count = sum(op.inode is inode and op.call == "write" for op in done)
        count = count or synced.get(inode, 0)
        sure, rest = (
            inode.writes[: synced.get(inode, 0)],
            inode.writes[synced.get(inode, 0) : count],
        )
        variants = list(dict.fromkeys(_torn(_poured(b"", sure), rest)))
        states = [{**state, name: data} for state in states for data in variants]
    yield from states


def _torn(sure: bytes, rest: list[tuple[int, bytes]]) -> Iterator[bytes]:
    whole = _poured(sure, rest)
    yield sure
    yield whole
    if not rest:
        return
    for sector in SECTORS:
        for at in range(0, len(whole), sector):
            if at >= len(sure):
                yield whole[:at]
            end = min(at + sector, len(whole))
            if end > len(sure):
                # The file has its size, and this sector was never written.
                yield whole[:at] + sure[at:end] + bytes(end - max(at, len(sure))) + whole[end:]


def _poured(data: bytes, writes: list[tuple[int, bytes]]) -> bytes:
    buffer = bytearray(data)
    for offset, piece in writes:
        buffer.extend(bytes(max(0, offset + len(piece) - len(buffer))))
        buffer[offset : offset + len(piece)] = piece
    return bytes(buffer)
