"""The state directory is one daemon's at a time.

Owns the lock on it. Two daemons with sockets of their own and one state directory would undo each
other's governor, and remove each other's half-written files. The lock is on the directory itself,
so it ends with its process whatever way that ends, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import ExitStack
from pathlib import Path

from qwend.errors import ConfigError

# Of a file system without locks (flock(2)), or a directory that may only be read.
_CANNOT_LOCK = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def claim_state(directory: Path, undo: ExitStack) -> None:
    """Make the directory if it is not there and lock it until `undo`.

    One that cannot be made or locked is nobody's: what is to be kept there says so itself.
    Raises: ConfigError if another daemon has it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    undo.callback(os.close, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _CANNOT_LOCK:
            return
        raise ConfigError(
            f"another qwend keeps its state in {directory}: use that one (qwenctl status), stop "
            "it, or give this one a directory of its own with STATE_DIRECTORY in its environment"
        ) from error
