"""The listening socket: ours alone, with the right mode from its first moment, or systemd's.

Owns the socket file and the lock beside it. The lock, and not the socket file, decides whose the
path is: a lock ends with its process, whatever way that ends, and a file does not.
"""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from qwend.daemon.fd_store import PREFIX, handed_over
from qwend.errors import ConfigError, HostError
from qwend.paths import check_socket_path

# Connections that wait while the daemon is busy accepting others; the kernel's own limit is
# net.core.somaxconn, 4096 since Linux 5.4.
BACKLOG = 512


class SocketPath:
    """A claimed path: locked from `claim` on, bound and listening from `listen` on."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._bound: tuple[int, int] | None = None

    @classmethod
    def claim(cls, path: Path) -> SocketPath:
        """Make sure that no other daemon has the path, and that none can take it from now on.

        Raises: ConfigError if one has it, HostError if the directory does not allow it.
        """
        check_socket_path(path)
        if not path.name:
            raise ConfigError(f"{path} is a directory and no place for a socket: add a name to it")
        try:
            _make_directory(path.parent)
            lock_fd = _lock(_lock_path(path))
        except BlockingIOError as error:
            raise _taken(path) from error
        except OSError as error:
            raise HostError(str(path.parent), "cannot use for the socket", error) from error
        claimed = cls(path, lock_fd)
        with ExitStack() as undo:
            undo.callback(claimed.close)
            _clear_stale(path)
            undo.pop_all()
        return claimed

    def listen(self, *, mode: int, group: str) -> socket.socket:
        """Bind and listen. Nobody can connect before mode and group are right.

        Raises: ConfigError for an unknown group, HostError.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            old = os.umask(0o777)  # the socket file appears with mode 000
            try:
                listener.bind(str(self.path))
            finally:
                os.umask(old)
            self._let_in(mode, group)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            raise HostError(str(self.path), "cannot listen on", error) from error
        except ConfigError:
            listener.close()
            raise
        listener.setblocking(False)
        return listener

    def _let_in(self, mode: int, group: str) -> None:
        """Give the socket file its rights. What somebody has put in its place since it was bound
        gets none: the path is followed once, and a link not at all.

        Raises: OSError, ConfigError.
        """
        fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if not _is_socket(found):
                raise ConfigError(f"{self.path} was replaced while it was made: who writes there?")
            self._bound = (found.st_dev, found.st_ino)
            this = f"/proc/self/fd/{fd}"
            if group:
                os.chown(this, -1, _group_id(group))
            os.chmod(this, mode)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Remove the socket file, if it is still the one we made, and give up the path."""
        with suppress(OSError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._bound:
                self.path.unlink()
        with suppress(OSError):
            _lock_path(self.path).unlink()
        os.close(self._lock_fd)


def systemd_listener(environ: Mapping[str, str], pid: int) -> socket.socket | None:
    """The listening socket that systemd has opened for us, or None. sd_listen_fds(3).

    Raises: ConfigError if what was handed over is not one listening Unix stream socket, besides
    what an earlier process of ours has kept.
    """
    given = [fd for name, fd in handed_over(environ, pid) if not name.startswith(PREFIX)]
    if not given:
        return None
    if len(given) > 1:
        raise ConfigError(f"systemd handed over {len(given)} sockets; qwend.socket must have one")
    os.set_inheritable(given[0], False)
    wrong = ConfigError("the socket from systemd must be a Unix stream socket (ListenStream=)")
    try:
        listener = socket.socket(fileno=given[0])
    except OSError as error:
        raise wrong from error
    if not _listens(listener):
        listener.close()
        raise wrong
    listener.setblocking(False)
    return listener


def _listens(listener: socket.socket) -> bool:
    return (
        listener.family == socket.AF_UNIX
        and listener.type == socket.SOCK_STREAM
        and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    )


def _make_directory(directory: Path) -> None:
    """Other users must be able to pass it, whatever our umask: the socket's mode decides.

    What is missing above it is made alike, and none can be written to by others for a moment.
    """
    missing = [one for one in (directory, *directory.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o755, exist_ok=True)
        one.chmod(0o755)


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path) -> int:
    """Take the lock file. Raises: BlockingIOError if a living process has it."""
    while True:
        lock_fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                # The last owner may have removed the file between our open and our lock: then
                # what we hold is a lock on nothing, and the next one would get one of its own.
                if os.path.samestat(os.fstat(lock_fd), path.lstat()):
                    return lock_fd
        except BaseException:
            os.close(lock_fd)
            raise
        os.close(lock_fd)


def _clear_stale(path: Path) -> None:
    """Remove the socket file of a daemon that is gone; never that of one that answers."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not _is_socket(found):
        raise ConfigError(f"{path} exists and is not a socket: move it away, or choose another")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise HostError(str(path), "cannot probe", error) from error
        else:
            raise _taken(path)
    with suppress(FileNotFoundError):
        path.unlink()


def _is_socket(found: os.stat_result) -> bool:
    return (found.st_mode & 0o170000) == 0o140000  # S_IFSOCK, inode(7)


def _taken(path: Path) -> ConfigError:
    return ConfigError(
        f"another qwend is already listening on {path}: use that one (qwenctl status), stop it, "
        "or give this one its own with --socket"
    )


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except (KeyError, ValueError) as error:  # ValueError: it can be nobody's name
        raise ConfigError(
            f"there is no group {group!r} (group under [socket]): create it with "
            f"`sudo groupadd --system {group}`"
        ) from error
