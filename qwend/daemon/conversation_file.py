"""The file of the sessions: opened and checked, set aside if it is damaged, and made anew.

Owns the one connection to it, and what is in its directory, which only we may enter. Used by one
thread at a time, that of conversation_thread.py. Knows nothing of what is asked of it.

A damaged database is not removed: it gets a name that says so, and every session in it that can
still be read whole is copied into the new one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from qwend.daemon.conversation_rescue import rescue
from qwend.daemon.conversation_schema import Damaged, connect, keep_log, prepare
from qwend.daemon.conversation_store import ConversationStore
from qwend.errors import HostError, RequestError
from qwend.host.private_dir import create_file, private_directory
from qwend.wire.codes import ErrorCode

NAME = "sessions.db"
# What SQLite puts beside it (sqlite.org/tempfiles.html). Shared memory it needs none, for it has
# the file for itself.
BESIDE = ("-wal", "-journal", "-shm")
# The smallest page (sqlite.org/fileformat2.html).
LEAST_BYTES = 512
# Errors of SQLite (sqlite.org/rescode.html) that say that what was read is not what was written.
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class ConversationFile:
    """clock: Unix time in seconds. degraded: told why sessions are less well than they could be."""

    def __init__(
        self, directory: Path, clock: Callable[[], float], degraded: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._degraded = degraded
        self._store: ConversationStore | None = None

    @property
    def path(self) -> Path:
        return self._directory / NAME

    def store(self) -> ConversationStore:
        """The store, opened and checked at the first call.

        Raises: HostError, RequestError or sqlite3.Error if there is none; then ask again later.
        """
        if self._store is None:
            try:
                self._store = self._open()
            except (sqlite3.Error, Damaged) as error:
                # Our own statements are right: what they are refused for is in the file.
                if not is_damage(error, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH):
                    raise
                self._store = self._renew(error)
        return self._store

    def damaged(self, error: Exception) -> None:
        """The database was found to be damaged while it was open."""
        self.close()
        self._store = self._renew(error)

    def close(self) -> None:
        """May be called again."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):  # what was committed is safe, and nothing else is there
                store.close()

    def _open(self) -> ConversationStore:
        with private_directory(self._directory) as fd:
            _check_names(self.path, fd)
            size = self.path.stat().st_size
            if 0 < size < LEAST_BYTES:
                raise Damaged("it is cut off in its first page")  # SQLite would take it for empty
            connection = connect(self.path, is_new=not size)
        try:
            prepare(connection)
            store = ConversationStore(connection, self._clock)
            store.check()
            keep_log(connection)
        except BaseException:
            connection.close()
            raise
        return store

    def _renew(self, error: Exception) -> ConversationStore:
        """Set the damaged file aside, and go on with what of it can be read."""
        aside = self._set_aside()
        try:
            store = self._open()
            try:
                saved, there = rescue(aside, self._clock, store)
            except BaseException:
                store.close()
                raise
        except BaseException:
            self._move(aside.name, NAME)  # all of it again when there is room
            raise
        self._degraded(
            f"the sessions on the disk were damaged ({error}): {saved} of {there} could be saved, "
            f"all that was there is in {aside}"
        )
        return store

    def _set_aside(self) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._clock()))
        name = f"{NAME}.damaged-{stamp}"
        number = 1
        while os.path.lexists(self._directory / name):
            number += 1
            name = f"{NAME}.damaged-{stamp}-{number}"
        self._move(NAME, name)
        return self._directory / name

    def _move(self, name: str, to: str) -> None:
        """Give the database another name, in place of what may be there. Raises: OSError."""
        with private_directory(self._directory) as fd:
            for ending in BESIDE:
                with suppress(FileNotFoundError):
                    os.unlink(to + ending, dir_fd=fd)
            for ending in ("", *BESIDE):
                with suppress(FileNotFoundError):
                    os.rename(name + ending, to + ending, src_dir_fd=fd, dst_dir_fd=fd)
            os.fsync(fd)


def is_damage(error: Exception, *further: int) -> bool:
    """further: codes that mean it, too."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    # The lower byte is the kind, the rest says more of it.
    return isinstance(error, Damaged) or (code & 0xFF) in (*DAMAGE, *further)


def _check_names(path: Path, fd: int) -> None:
    """Make the file if it is not there. Raises: HostError if something else has its name."""
    for ending in ("", *BESIDE):
        try:
            found = os.lstat(path.name + ending, dir_fd=fd)
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            cause = "it is no file of ours alone: move it away"
            raise HostError(str(path) + ending, "keeping sessions in", cause)
    try:
        os.close(create_file(fd, path.name, 0o600))  # else SQLite makes it as the umask says
    except FileExistsError:
        return
    except OSError as error:
        raise HostError(str(path), "making", error) from error
    for directory in (path.parent, path.parent.parent):
        _sync(directory)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def as_refusal(error: Exception, path: Path) -> RequestError:
    """What a client is told of an error of the file."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    full = code & 0xFF == sqlite3.SQLITE_FULL
    if full or getattr(getattr(error, "cause", error), "errno", None) in NO_ROOM:
        return RequestError(
            f"the disk of {path} is full: free some space there; what was kept before is safe",
            code=ErrorCode.NO_SPACE,
        )
    if code & 0xFF == sqlite3.SQLITE_BUSY:
        error = RuntimeError("another program has it open")
    return RequestError(f"sessions cannot be kept in {path}: {error}", code=ErrorCode.STORAGE_ERROR)
