"""The sessions' database: opened, its tables made and brought up to date, and checked.

Owns the schema, what is asked of SQLite, and what a transaction is. Knows nothing of what is said
in a session, or where the file is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwend import failpoint
from qwend.errors import RequestError
from qwend.wire.codes import ErrorCode

APPLICATION_ID = 0x71776E64
"""The four letters "qwnd": what file(1) and we tell our databases by."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE conversation (
  id INTEGER PRIMARY KEY,
  uid INTEGER NOT NULL,
  name TEXT NOT NULL,
  turns INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  created_s REAL NOT NULL,
  changed_s REAL NOT NULL,
  crc INTEGER NOT NULL,
  UNIQUE (uid, name)
)""",
        """CREATE TABLE message (
  conversation INTEGER NOT NULL REFERENCES conversation ON DELETE CASCADE,
  place INTEGER NOT NULL,
  role TEXT NOT NULL,
  content TEXT NOT NULL,
  at_s REAL NOT NULL,
  finish_reason TEXT,
  crc INTEGER NOT NULL,
  PRIMARY KEY (conversation, place)
) WITHOUT ROWID""",
    ),
)
"""Statements that lead from `user_version` n to n + 1. What was released is never edited."""


OF_NEW_ONES = ("auto_vacuum = FULL",)  # what was deleted is given back; it is kept in the file
PRAGMAS = (
    "locking_mode = EXCLUSIVE",  # one daemon, and so no shared memory that a full disk could break
    "synchronous = FULL",  # a commit is on the disk when it returns
    "secure_delete = ON",  # what was deleted is overwritten
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",  # the file could have been planted
    "cell_size_check = ON",
    "wal_autocheckpoint = 256",  # 1 MiB of log, of pages of 4 KiB, and not 4
    "cache_size = -512",  # KiB; the default of 2 MiB is a tenth of this process
)
# How long a daemon that is just ending may still hold it.
LOCK_WAIT_S = 2.0


class Damaged(Exception):
    """The database cannot be what was written. Its text has nothing of what was said."""


def connect(path: Path, *, is_new: bool = False) -> sqlite3.Connection:
    """Open a file that is there. is_new: it has nothing in it yet.

    Raises: sqlite3.Error, or Damaged.
    """
    # The front opens, writes and closes it in one thread, but not in the one that made it where
    # nothing runs in threads, as in tests.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        timeout=LOCK_WAIT_S,
        check_same_thread=False,
    )
    # Bytes that are no UTF-8 any more: the checksum will not be right either, and Python's own
    # error would say the text in the log.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        for pragma in (*OF_NEW_ONES, *PRAGMAS) if is_new else PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        # The first look into the file: an error of SQLite quotes what it found, and Python may not
        # be able to read that.
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except UnicodeDecodeError as error:
        connection.close()
        raise Damaged("it has text that is none") from error
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older release up to date.

    Raises: sqlite3.Error, Damaged, or RequestError if a newer release has made them.
    """
    (version,) = first_row(connection, "PRAGMA user_version")
    if version > len(MIGRATIONS):
        raise RequestError(
            f"a newer qwend has made this database (version {version}, this one knows "
            f"{len(MIGRATIONS)}): use that, or move the file away",
            code=ErrorCode.STORAGE_ERROR,
        )
    tables = first_row(connection, "SELECT count(*) FROM sqlite_schema")
    if version < 0 or (version == 0 and tables != (0,)):
        raise Damaged("it is not a database of qwend's sessions")
    for number in range(version, len(MIGRATIONS)):
        with transaction(connection):
            for statement in MIGRATIONS[number]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {number + 1}")


def check_tables(connection: sqlite3.Connection) -> None:
    """Raises: sqlite3.Error, or Damaged if a page or a table is not as it was written."""
    if first_row(connection, "PRAGMA application_id") != (APPLICATION_ID,):
        raise Damaged("it is not a database of qwend's sessions")
    (verdict,) = first_row(connection, "PRAGMA integrity_check(1)")
    if verdict != "ok":
        raise Damaged(verdict.splitlines()[-1])
    made = connection.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    if {sql for (sql,) in made} != {statement for step in MIGRATIONS for statement in step}:
        raise Damaged("its tables are not those of qwend")
    if connection.execute("PRAGMA foreign_key_check").fetchall():
        raise Damaged("it has messages of no session")


def keep_log(connection: sqlite3.Connection) -> None:
    """Write to a log first (WAL), from now on: one fsync a turn. Kept in the file, so not before it
    is known to be ours. Raises: sqlite3.Error."""
    (mode,) = first_row(connection, "PRAGMA journal_mode = WAL")
    assert mode == "wal"


def first_row(connection: sqlite3.Connection, query: str, *values: object) -> tuple[Any, ...]:
    """Raises: sqlite3.Error, or Damaged if there is none."""
    # All are fetched: a connection with a statement that is not at its end cannot be closed.
    rows = connection.execute(query, values).fetchall()
    if not rows:
        raise Damaged(f"nothing comes of {query!r}")
    return tuple(rows[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it is on the disk after the block, or nothing. Raises: sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        failpoint.reach("conversation.commit")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk may have rolled it back already
            connection.execute("ROLLBACK")
        raise
