"""Connections that outlive the front: their sockets in systemd's store, each with its page.

Owns which connection has which page and which name in the store. When the front dies, the next one
finds both and goes on; the client notices nothing but the pause. Knows nothing of sessions.
"""

from __future__ import annotations

import heapq
import logging
import os
import socket
import struct
from collections.abc import Iterator, Mapping

from qwend.daemon.fd_store import PREFIX, FdStore
from qwend.daemon.kept_page import Doubt, Page, Pages, Record

log = logging.getLogger(__name__)

PAGES_NAME = f"{PREFIX}connections"
_CONNECTION = f"{PREFIX}connection-"
# Places of the store that are not for connections: the pages, and the notes of requests.
RESERVED = 2


class KeptConnection:
    """One connection's place. `begin` a doubt before a read or a write, and `settle` after it."""

    __slots__ = ("_keeper", "_record", "number", "page")

    def __init__(self, keeper: ConnectionKeeper, number: int, page: Page) -> None:
        self._keeper = keeper
        self._record: Record | None = None
        self.number = number
        self.page = page

    @property
    def name(self) -> str:
        return f"{_CONNECTION}{self.number}"

    @property
    def at_rest(self) -> bool:
        """True if the page says all there is to know."""
        return self.page.doubt is Doubt.NONE

    def begin(self, doubt: Doubt) -> None:
        self.page.begin(doubt)

    def settle(self, record: Record | None, *, written: bool) -> None:
        """All that was read is in the record; None, or too long a one: it is not known.

        written: all that was sent is in the kernel.
        """
        if record is not None and (record == self._record or self.page.write(record)):
            self._record = record
            self.page.end(Doubt.READING)
        else:
            self._record = None
            self.page.begin(Doubt.READING)
        if written:
            self.page.end(Doubt.WRITING)
        else:
            self.page.begin(Doubt.WRITING)

    def forget(self) -> None:
        """The connection is over."""
        self._keeper.forget(self)


class ConnectionKeeper:
    """For as many connections as the store has room for beside what is noted of them."""

    def __init__(self, store: FdStore, stored: Mapping[str, int]) -> None:
        """stored: what an earlier process has kept, by name; the descriptors are ours now."""
        self._store = store
        self._stored = dict(stored)
        for name in stored:
            store.has(name)
        count = max(store.size - RESERVED, 0)
        self._pages = self._old_pages(count)
        self._fresh = self._pages is None
        if self._pages is None and count:
            self._pages = Pages.create(count)
            store.keep(PAGES_NAME, self._pages.fd)
        taken = {_number_of(name) for name in self._stored}
        self._free = [number for number in range(1, count + 1) if number not in taken]

    def keep(self, connection: socket.socket) -> KeptConnection | None:
        """From now on the connection outlives us; None if there is no room for it.

        Its page is in doubt until it is settled.
        """
        if self._pages is None or not self._free:
            return None
        number = heapq.heappop(self._free)
        kept = KeptConnection(self, number, self._pages.page(number))
        kept.begin(Doubt.READING | Doubt.WRITING)
        if not self._store.keep(kept.name, connection.fileno()):
            heapq.heappush(self._free, number)
            return None
        return kept

    def inherited(self) -> Iterator[tuple[socket.socket, KeptConnection, Record | None, Doubt]]:
        """The connections of the process before us, once. Record None: nothing is known of it."""
        stored, self._stored = self._stored, {}
        for name, fd in stored.items():
            number = _number_of(name)
            connection = _connected(fd)
            if self._pages is None or not 1 <= number <= len(self._pages) or connection is None:
                log.warning("systemd kept %s, which is no connection of ours", name)
                self._store.drop(name)
                if connection is not None:
                    connection.close()
                continue
            page = self._pages.page(number)
            left = None if self._fresh else page.read()
            record, doubt = left or (None, Doubt.WRITING)
            yield connection, KeptConnection(self, number, page), record, doubt

    def forget(self, kept: KeptConnection) -> None:
        self._store.drop(kept.name)
        kept.page.clear()
        heapq.heappush(self._free, kept.number)

    def close(self) -> None:
        for fd in self._stored.values():
            os.close(fd)
        if self._pages is not None:
            self._pages.close()

    def _old_pages(self, count: int) -> Pages | None:
        fd = self._stored.pop(PAGES_NAME, None)
        if fd is None:
            return None
        pages = Pages.open(fd, count) if count else None
        if pages is None:
            log.warning("what an earlier qwend noted of its connections cannot be read")
            self._store.drop(PAGES_NAME)
            os.close(fd)
        return pages


def _number_of(name: str) -> int:
    number = name.removeprefix(_CONNECTION)
    return int(number) if name.startswith(_CONNECTION) and number.isdecimal() else 0


def _connected(fd: int) -> socket.socket | None:
    """The descriptor as a socket; None, and closed, if it is no connection over a Unix socket."""
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    try:
        listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        found.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        listens = 1
    if (found.family, found.type, listens) != (socket.AF_UNIX, socket.SOCK_STREAM, 0):
        found.close()
        return None
    found.setblocking(False)
    return found
