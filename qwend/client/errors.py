"""What can go wrong for a program that uses the daemon, typed by what it can do about it.

Rule 1: a caller of `qwend.client` sees these errors, and no OSError or protocol error.
Rule 2: this file does not know exit codes nor how an error is shown.
"""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path

from qwend.errors import QwendError


class ClientError(QwendError):
    """Base of all errors of the client."""


class DaemonUnreachable(ClientError):
    """Nobody answers at `path`; `hint` says how to start the daemon."""

    code = "unreachable"

    def __init__(self, path: Path, hint: str) -> None:
        super().__init__(f"no daemon at {path}: {hint}")
        self.path = path
        self.hint = hint


class PermissionDenied(ClientError):
    """The daemon is there, but not for this user; `hint` says how to be let in."""

    code = "forbidden"

    def __init__(self, path: Path, hint: str) -> None:
        super().__init__(f"may not use {path}: {hint}")
        self.path = path
        self.hint = hint


class RequestFailed(ClientError):
    """One request failed; the connection and its other requests go on."""

    code = "internal"

    def __init__(self, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class ConnectionLost(ClientError):
    """The connection ended with requests open; connect again and repeat them."""

    code = "connection_lost"


def connect_error(path: Path, error: OSError) -> ClientError:
    """Translate what connect(2) on a Unix socket reported."""
    start = "start it with 'systemctl start qwend' or 'qwend serve'"
    if isinstance(error, PermissionError):
        return PermissionDenied(path, _way_in(path))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return DaemonUnreachable(path, f"there is no such socket; {start}")
    if isinstance(error, ConnectionRefusedError):
        return DaemonUnreachable(path, f"nobody listens there any more; {start}")
    if isinstance(error, TimeoutError | BlockingIOError):
        return DaemonUnreachable(path, "it accepts no connection in time; it may be stuck")
    return DaemonUnreachable(path, f"{error.strerror or error}; {start}")


def _way_in(path: Path) -> str:
    try:
        facts = os.stat(path)
        group = grp.getgrgid(facts.st_gid).gr_name
    except (OSError, KeyError):
        return "your user may not enter its directory; ask the operator"
    # Nobody should join root's group for this, and joining helps only if the group may write.
    if facts.st_gid == 0 or not facts.st_mode & stat.S_IWGRP:
        return "it is not open to your user; ask the operator to set [socket] group and mode"
    return (
        f"your user is not in the group '{group}'; "
        f"run 'sudo usermod -aG {group} $USER' and log in again"
    )
