"""What can be read of a damaged database of sessions, copied into a sound one.

Owns nothing. Knows nothing of where the files are, or of what they are called.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from qwend.daemon.conversation_schema import Damaged, connect
from qwend.daemon.conversation_store import ConversationStore
from qwend.wire.sessions import SessionFacts, SessionMessage

log = logging.getLogger(__name__)


def rescue(aside: Path, clock: Callable[[], float], into: ConversationStore) -> tuple[int, int]:
    """Copy what can be read whole. Returns how many sessions were, of how many that were seen.

    Raises: sqlite3.Error if they cannot be written.
    """
    saved = 0
    numbers: list[int] = []
    for number, found in _readable(aside, clock):
        numbers.append(number)
        with suppress(sqlite3.IntegrityError):  # the same name twice: its row is damaged
            if found is not None:
                into.take_in(*found)
                saved += 1
    return saved, len(numbers)


def _readable(
    aside: Path, clock: Callable[[], float]
) -> Iterator[tuple[int, tuple[int, SessionFacts, list[SessionMessage]] | None]]:
    """Each conversation of a damaged database, None where it cannot be read whole."""
    try:
        connection = connect(aside)
    except (sqlite3.Error, Damaged) as error:
        log.warning("nothing can be read of %s: %s", aside, error)
        return
    with closing(connection):
        damaged = ConversationStore(connection, clock)
        try:
            numbers = damaged.numbers()
        except sqlite3.Error as error:
            log.warning("nothing can be read of %s: %s", aside, error)
            return
        for number in numbers:
            found = None
            with suppress(sqlite3.Error, Damaged, TypeError, AttributeError):
                found = damaged.conversation(number)
            yield number, found
