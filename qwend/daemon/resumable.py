"""Answers that can be gone on with over another connection, found by user and key.

Owns for how long: an answer whose connection was lost waits, without cells, for a minute, and the
end of one is remembered as long, for whoever has not heard it. Knows nothing of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qwend.daemon.journal import Entry, Timer
from qwend.wire.messages import DaemonMessage
from qwend.wire.replies import Token
from qwend.wire.resume import Resume

# Time enough for a client to come back after a restart of the daemon that loads 4 GB from an SD
# card; docs/protocol.md promises it.
KEPT_S = 60.0
# Ends that are remembered of one user: answers of a kilobyte or so, and the oldest goes first.
ENDS_PER_UID = 256
# Answers that wait of one user: as many as may run and wait besides (running_per_uid and
# queued_per_uid under [limits], 4 and 16), for each has its prompt, and the oldest goes first.
PARKED_PER_UID = 20
# Characters of one message: at most 4 bytes each, so that it fits a frame.
PIECE_CHARS = 100_000


class Absent:
    """The owner of an answer that nobody reads just now."""

    congested = True
    page = 0

    def __init__(self, uid: int) -> None:
        self.uid = uid

    def send(self, message: DaemonMessage, then: Callable[[], None] | None = None) -> None:
        """Nobody hears it: what was said is found in the entry."""
        if then is not None:
            then()


class Resumable:
    """call_later: seconds, callback -> timer. given_up: told of an entry nobody came for."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], Timer],
        given_up: Callable[[Entry], None],
    ) -> None:
        self._call_later = call_later
        self._given_up = given_up
        self._by_key: dict[tuple[int, str], Entry] = {}
        self._timers: dict[tuple[int, str], Timer] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._by_key.values()))

    def add(self, entry: Entry) -> None:
        """An entry with a key is open. One with the same key that is over is forgotten."""
        self.discard(entry.owner.uid, entry.key)
        if entry.key is not None:
            self._by_key[entry.owner.uid, entry.key] = entry

    def find(self, uid: int, key: str) -> Entry | None:
        return self._by_key.get((uid, key))

    def wait(self, entry: Entry, for_s: float = KEPT_S) -> None:
        """Give the entry up if nobody comes for it in time."""
        if entry.key is None:
            return
        place = entry.owner.uid, entry.key
        self.come_for(entry)
        self._timers[place] = self._call_later(for_s, lambda: self._give_up(entry))
        mine = [one for one in self if one.owner.uid == entry.owner.uid]
        for oldest in [one for one in mine if one.last is not None][:-ENDS_PER_UID]:
            self._give_up(oldest)
        for oldest in [one for one in mine if one.parked and one.last is None][:-PARKED_PER_UID]:
            self._give_up(oldest)

    def come_for(self, entry: Entry) -> None:
        """Somebody reads it again."""
        if entry.key is not None:
            timer = self._timers.pop((entry.owner.uid, entry.key), None)
            if timer is not None:
                timer.cancel()

    def discard(self, uid: int, key: str | None) -> None:
        if key is None:
            return
        self._by_key.pop((uid, key), None)
        timer = self._timers.pop((uid, key), None)
        if timer is not None:
            timer.cancel()

    def _give_up(self, entry: Entry) -> None:
        self.discard(entry.owner.uid, entry.key)
        self._given_up(entry)


def missing(entry: Entry, message: Resume) -> Iterator[Token]:
    """What was said and not received; a client that says it has more gets nothing twice."""
    so_far = entry.so_far
    ids = tuple(so_far.tokens[message.tokens :])
    text = so_far.content[message.text_chars :]
    reasoning = so_far.reasoning[message.reasoning_chars :]
    index = message.tokens
    while reasoning[PIECE_CHARS:] or (reasoning and text):
        yield Token(message.id, index, (), "", reasoning[:PIECE_CHARS])
        reasoning = reasoning[PIECE_CHARS:]
    while text[PIECE_CHARS:]:
        yield Token(message.id, index, (), text[:PIECE_CHARS])
        text = text[PIECE_CHARS:]
    if ids or text or reasoning:
        yield Token(message.id, index, ids, text, reasoning)
