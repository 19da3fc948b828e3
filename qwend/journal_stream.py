"""Whether journald reads what this process says on standard error, by lines that have levels."""

from __future__ import annotations

import os
from collections.abc import Mapping

STANDARD_ERROR = 2


def goes_to_journal(environ: Mapping[str, str], fd: int = STANDARD_ERROR) -> bool:
    """JOURNAL_STREAM names the stream by device and inode, for a child inherits the variable with
    any standard error (systemd.exec(5)). "<N>" at the beginning of a line is then its level
    (sd-daemon(3)).
    """
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
