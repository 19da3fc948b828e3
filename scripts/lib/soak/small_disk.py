"""A small file system for the daemon's state, so that it can be full.

Owns the mount. Only root may mount; without it the disk is never full, and the report says so.
"""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from pathlib import Path

# Room for the idle prefixes that the run allows, the sessions, and a WAL.
SIZE_BYTES = 48 << 20
BLOCK = bytes(1 << 20)


class SmallDisk:
    def __init__(self, at: Path) -> None:
        self._at = at
        self._filler = at / "filler"
        self.mounted = False

    def mount(self) -> bool:
        """False if that is not allowed here."""
        self._at.mkdir(mode=0o700, exist_ok=True)
        options = f"size={SIZE_BYTES},mode=0700"
        command = ["mount", "-t", "tmpfs", "-o", options, "qwend-soak", str(self._at)]
        done = subprocess.run(command, capture_output=True, check=False)
        self.mounted = done.returncode == 0
        return self.mounted

    def fill(self) -> None:
        """Take all that is left, to the last byte."""
        fd = os.open(self._filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (len(BLOCK), 4096):
                with suppress(OSError):
                    while os.write(fd, BLOCK[:size]):
                        continue
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(fd)

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)

    def used_bytes(self) -> int:
        found = os.statvfs(self._at)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def unmount(self) -> None:
        if self.mounted:
            # Lazy: a file that somebody still has open must not leave the mount behind.
            subprocess.run(["umount", "--lazy", str(self._at)], capture_output=True, check=False)
            self.mounted = False
