"""A file that is being fetched: what is there of it, known good, and what its digest is so far.

    PARTS/SHA256.part      the bytes so far
    PARTS/SHA256.journal   a line for each seal: bytes up to there, and their SHA-256
    PARTS/SHA256.lock      held by whoever fetches it

Rule 1: bytes count once they are sealed: flushed to the disk, and then written down. A kill or a
power cut costs at most what came after the last seal. Rule 2: the SHA-256 runs along with the
bytes; after an interruption the part is read once to come to the same state, and must give the
digests that were written down: what the disk has changed is cut off. Rule 3: this file does not
know where bytes come from.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from qwend.models.disk import flush_directory, give_to_owner_of, lock
from qwend.models.reference import DIGEST

# What an interruption may cost: 4 s at 2 MB/s, and a flush each 8 MiB does not slow down a card.
SEAL_BYTES = 8 << 20
_BLOCK_BYTES = 1 << 20
_MOST_JOURNAL_BYTES = 4 << 20  # 50,000 seals: 400 GB
_SEAL = re.compile(rb"([1-9][0-9]{0,18}) ([0-9a-f]{64})\n")
_ENDINGS = (".part", ".journal", ".lock")


class Part:
    """Locked from `open` to `close`. size_bytes: what is there; sha256: of it."""

    def __init__(self, directory: Path, sha256: str, lock_fd: int, seal_bytes: int) -> None:
        assert DIGEST.fullmatch(sha256)
        self.expected = sha256
        self.path = directory / f"{sha256}.part"
        self._journal = directory / f"{sha256}.journal"
        self._lock_path = directory / f"{sha256}.lock"
        self._lock_fd = lock_fd
        self._seal_bytes = seal_bytes
        self._digest = hashlib.sha256()
        self.size_bytes = self._sealed = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self.path, flags, 0o600)
        self._log = os.open(self._journal, flags | os.O_APPEND, 0o600)
        for path in (self.path, self._journal):
            give_to_owner_of(directory, path)

    @classmethod
    def open(cls, directory: Path, sha256: str, seal_bytes: int = SEAL_BYTES) -> Self | None:
        """None: somebody else is fetching it. Raises: OSError."""
        assert DIGEST.fullmatch(sha256)
        held = lock(directory / f"{sha256}.lock", wait=False)
        if held is None:
            return None
        try:
            return cls(directory, sha256, held, seal_bytes)
        except BaseException:
            os.close(held)
            raise

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def resume(self, progress: Callable[[int], None] = lambda done: None) -> int:
        """Read what an earlier pull has left; return the bytes that are good. Raises: OSError.

        progress: told the bytes read. To be called once, before anything is written.
        """
        good, good_lines = hashlib.sha256(), 0
        for end, digest, line_end in self._seals():
            if not self._read_up_to(end, progress) or self._digest.hexdigest() != digest:
                break
            good, self._sealed, good_lines = self._digest.copy(), end, line_end
        self._digest, self.size_bytes = good, self._sealed
        os.ftruncate(self._log, good_lines)
        os.ftruncate(self._fd, self._sealed)
        os.lseek(self._fd, self._sealed, os.SEEK_SET)
        return self._sealed

    def write(self, data: bytes) -> None:
        """Raises: OSError if the disk would not; what was sealed stays."""
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self._digest.update(view[:written])
            self.size_bytes += written
            view = view[written:]
        if self.size_bytes - self._sealed >= self._seal_bytes:
            self.seal()

    def seal(self) -> None:
        """From here on a kill does not cost what is there. Raises: OSError."""
        if self.size_bytes == self._sealed:
            return
        os.fdatasync(self._fd)
        os.write(self._log, f"{self.size_bytes} {self.sha256}\n".encode())
        self._sealed = self.size_bytes

    def restart(self) -> None:
        """Forget everything that is there. Raises: OSError."""
        os.ftruncate(self._log, 0)
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._digest = hashlib.sha256()
        self.size_bytes = self._sealed = 0

    def finish(self) -> Path:
        """Flush it; return the path that may be moved away. Raises: OSError."""
        os.fsync(self._fd)
        flush_directory(self.path.parent)
        return self.path

    def discard(self) -> None:
        """Remove it and all that belongs to it. Raises: OSError."""
        for path in (self.path, self._journal):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep what is there; remove the journal and the lock of a part that has gone."""
        if self._fd < 0:
            return
        with suppress(OSError):
            if self.path.exists():
                self.seal()
            else:
                self._journal.unlink(missing_ok=True)
                # Whoever waits for it sees that it is another file now (`disk.lock`).
                self._lock_path.unlink(missing_ok=True)
        for descriptor in (self._fd, self._log, self._lock_fd):
            os.close(descriptor)
        self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exit: object) -> None:
        self.close()

    def _seals(self) -> Iterator[tuple[int, str, int]]:
        """What was written down, in whole lines; whether it is true, the digests tell.

        Yields bytes of the part, their digest, and where its line ends in the journal.
        """
        line_end = 0
        for line in os.pread(self._log, _MOST_JOURNAL_BYTES, 0).splitlines(keepends=True):
            seal = _SEAL.fullmatch(line)
            if seal is None:
                return
            line_end += len(line)
            yield int(seal[1]), seal[2].decode(), line_end

    def _read_up_to(self, end: int, progress: Callable[[int], None]) -> bool:
        """Go on with the digest up to there; False if the file is shorter."""
        while self.size_bytes < end:
            block = os.pread(self._fd, min(_BLOCK_BYTES, end - self.size_bytes), self.size_bytes)
            if not block:
                return False
            self._digest.update(block)
            self.size_bytes += len(block)
            progress(self.size_bytes)
        return True


def bytes_so_far(directory: Path, sha256: str) -> int:
    """How far somebody else's fetching is; 0 if there is nothing."""
    try:
        return (directory / f"{sha256}.part").stat().st_size
    except OSError:
        return 0


def remove_idle_parts(directory: Path, older_than_s: float) -> list[int]:
    """Remove parts that nobody holds and nobody wrote to since; return their sizes.

    Raises: OSError.
    """
    removed = []
    for sha256 in sorted({path.name.split(".", 1)[0] for path in directory.iterdir()}):
        files = [directory / f"{sha256}{ending}" for ending in _ENDINGS]
        there = [path for path in files if path.is_file() and not path.is_symlink()]
        if not DIGEST.fullmatch(sha256) or not there:
            continue
        if max(path.stat().st_mtime for path in there) > older_than_s:
            continue
        held = lock(files[-1], wait=False)
        if held is None:
            continue
        try:
            removed.append(sum(path.stat().st_size for path in there))
            for path in files:
                path.unlink(missing_ok=True)
        finally:
            os.close(held)
    return removed
