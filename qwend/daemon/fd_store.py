"""systemd's file descriptor store: what outlives this process, for the next one of the service.

Owns the names under which descriptors are kept and how many there may be; what they are is the
caller's. FileDescriptorStoreMax= in systemd.service(5), sd_pid_notify_with_fds(3).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from qwend.daemon.notify import Notifier
from qwend.errors import ConfigError

# sd_listen_fds(3): descriptors begin at 3.
FIRST_FD = 3
# What we keep begins with this; everything else that is handed over is a socket to listen on.
PREFIX = "qwend-"


def handed_over(environ: Mapping[str, str], pid: int) -> list[tuple[str, int]]:
    """Name and number of each descriptor that systemd has given to this process.

    Raises: ConfigError if the count is no number.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return []
    given = environ.get("LISTEN_FDS", "0")
    try:
        count = int(given)
    except ValueError as error:
        raise ConfigError(f"LISTEN_FDS is {given!r}, which is no number") from error
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (count - len(names))
    return [(names[at], FIRST_FD + at) for at in range(count)]


def stored(environ: Mapping[str, str], pid: int) -> dict[str, int]:
    """What an earlier process of this service has kept: name -> descriptor, the caller's to close.

    Raises: ConfigError.
    """
    found = {name: fd for name, fd in handed_over(environ, pid) if name.startswith(PREFIX)}
    for fd in found.values():
        os.set_inheritable(fd, False)
    return found


class FdStore:
    """Keeps descriptors up to the store's size. Without a store it keeps none.

    The size comes from FDSTORE, which systemd sets from version 254 on, and the unit before that:
    without it nobody could know whether what was kept is really kept.
    """

    def __init__(self, notifier: Notifier, environ: Mapping[str, str]) -> None:
        size = environ.get("FDSTORE", "")
        self.size = int(size) if notifier and size.isdecimal() else 0
        self._notifier = notifier
        self._names: set[str] = set()

    def has(self, name: str) -> None:
        """It is in the store already: an earlier process has put it there."""
        self._names.add(name)

    def keep(self, name: str, fd: int) -> bool:
        """False if there is no room. The name must begin with PREFIX and be in use only once."""
        if len(self._names) >= self.size:
            return False
        self._names.add(name)
        self._notifier.keep(name, fd)
        return True

    def drop(self, name: str) -> None:
        """Until this is sent, a close on our side is none to the other end."""
        if name in self._names:
            self._names.discard(name)
            self._notifier.drop(name)
