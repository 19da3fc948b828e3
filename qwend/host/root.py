"""The file system of the host, as an argument.

Rule 1: every failure to read or write is a HostError with the path, what was tried, and why.
Rule 2: this file does not know what any path means; a fake tree in a test is a real HostRoot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from qwend.errors import HostError

# Files of /proc and /sys say 0 bytes or 4096 whatever they hold; the longest read here is
# /proc/self/mountinfo, some 100 bytes for each mount.
READ_LIMIT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class HostRoot:
    """A directory that stands for "/". Paths given and returned are the host's own: "/sys/..."."""

    path: Path = Path("/")

    def at(self, path: str) -> Path:
        """Return where the host's `path` lies below this root."""
        return self.path / path.lstrip("/")

    def read_text(self, path: str) -> str:
        """Return the text of a file, undecodable bytes replaced. Raises: HostError."""
        try:
            with open(self.at(path), "rb", opener=_open_at_once) as stream:
                return stream.read(READ_LIMIT_BYTES).decode(errors="replace")
        except OSError as error:
            raise HostError(path, "reading", error.strerror) from error

    def write_text(self, path: str, text: str) -> None:
        """Write to a file that exists, in one write(2), as sysfs wants it. Raises: HostError."""
        try:
            fd = os.open(self.at(path), os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise HostError(path, f"writing {text!r} to", error.strerror) from error

    def exists(self, path: str) -> bool:
        return self.at(path).exists()

    def may_write(self, path: str) -> bool:
        """Say whether the file is there and this process may write to it (access(2))."""
        return os.access(self.at(path), os.W_OK)

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Return the host's paths that match, numbers in names sorted as numbers."""
        found = self.path.glob(pattern.lstrip("/"))
        return tuple(sorted(("/" + str(p.relative_to(self.path)) for p in found), key=_natural))


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _natural(path: str) -> list[tuple[int, str]]:
    # policy10 after policy2: digits compare by length, then as text.
    parts: list[tuple[int, str]] = []
    digits = ""
    for character in path + "\0":
        if character.isdigit():
            digits += character
            continue
        if digits:
            parts.append((len(digits), digits))
            digits = ""
        parts.append((0, character))
    return parts
