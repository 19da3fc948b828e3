"""What the next front must know of each request, noted as it happens.

Owns the notes of requests that can be gone on with: those of connections that systemd keeps, and
those with a resume key. A front that begins reads what the last one has left, once. Each note is
made right before the message that it is about is written, when the connection is in doubt already
(kept_page.py): what is noted and what was written agree wherever there is no doubt, and elsewhere
no client has more than is noted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from qwend.daemon.fd_store import PREFIX, FdStore
from qwend.daemon.kept_connection import RESERVED
from qwend.daemon.kept_log import KeptLog
from qwend.engine.continuation import AnswerSoFar
from qwend.engine.events import Produced, Started
from qwend.errors import QwendError
from qwend.wire.frame import encode_frame
from qwend.wire.messages import parse_client, parse_daemon
from qwend.wire.notices import Error
from qwend.wire.replies import Done
from qwend.wire.requests import Chat, Complete, Prefill, Tokenize

log = logging.getLogger(__name__)

REQUESTS_NAME = f"{PREFIX}requests"
Request = Chat | Complete | Prefill | Tokenize
# Notes of requests that are over are swept out when there are so many bytes of them.
SWEEP_BYTES = 1 << 20


@dataclass(slots=True)
class Left:
    """One request as the front before us has left it. Seconds are of CLOCK_MONOTONIC.

    message: as it came, with its seed. page: of its connection (kept_page.py); 0: it has none.
    last: its end, kept for who has not heard it. parked_s: since when it has no connection.
    keeping: how it ended, and whole: all of its answer, while its turn was on the way to the disk;
    so_far is what was told of it. model: that has begun to answer; empty: none.
    """

    number: int
    uid: int
    page: int
    client_id: int
    message: Request
    received_s: float
    deadline_s: float | None
    allowance: int | None
    so_far: AnswerSoFar = field(default_factory=AnswerSoFar)
    last: Done | Error | None = None
    parked_s: float | None = None
    keeping: Done | None = None
    whole: AnswerSoFar | None = None
    model: str = ""


class KeptRequests:
    """log: None where nothing is kept; every call does nothing then.

    model: tells the weights that answer; what another model has begun is not gone on with.
    """

    def __init__(self, log: KeptLog | None) -> None:
        self.model = ""
        self._log = log
        self._left = _read(log) if log is not None else {}
        self._numbers = count(max(self._left, default=0) + 1)
        self._notes: dict[int, list[bytes]] = {}
        self._live_bytes = 0

    @classmethod
    def in_store(cls, store: FdStore, stored: dict[str, int]) -> Self:
        """With the log that an earlier process has kept, or a new one; takes it out of `stored`."""
        fd = stored.pop(REQUESTS_NAME, None)
        kept = None if fd is None else KeptLog.open(fd)
        if fd is not None and kept is None:
            log.warning("what an earlier qwend noted of its requests cannot be read")
            os.close(fd)
        if kept is not None:
            store.has(REQUESTS_NAME)
        elif store.size > RESERVED:
            if fd is not None:
                store.has(REQUESTS_NAME)
                store.drop(REQUESTS_NAME)
            kept = KeptLog.create()
            store.keep(REQUESTS_NAME, kept.fd)
        return cls(kept)

    def left_on(self, page: int, uid: int) -> dict[int, Left]:
        """Take what was left of this user's connection with this page, by the client's id."""
        found = [one for one in self._left.values() if one.page == page and page]
        for one in found:
            del self._left[one.number]
        mine = [one for one in found if one.uid == uid and self._may_go_on(one)]
        return {one.client_id: one for one in mine}

    def left_with(self, uid: int, key: str) -> Left | None:
        """Take the one of this user with this key, wherever its connection is."""
        for one in self._left.values():
            if (one.uid, _key(one.message)) == (uid, key) and self._may_go_on(one):
                return self._left.pop(one.number)
        return None

    def left_parked(self) -> list[Left]:
        """Take all the rest that somebody may come for."""
        rest, self._left = list(self._left.values()), {}
        return [one for one in rest if _key(one.message) and self._may_go_on(one)]

    def _may_go_on(self, left: Left) -> bool:
        """What is complete is only told, and what was not begun may be by any model."""
        complete = left.last is not None or left.keeping is not None
        return complete or left.model in ("", self.model)

    def sweep(self) -> None:
        """Forget what an earlier front has left and nobody took."""
        if self._log is not None:
            self._left = {}
            self._write_live(self._log)

    def open(self, left: Left) -> int:
        """Note a request, as far as it is; return its number, 0 if it is not kept."""
        if self._log is None or not (left.page or _key(left.message)):
            return 0
        number = next(self._numbers)
        so_far = left.so_far
        self._notes[number] = []
        self._note(
            number,
            {
                "is": "open",
                "uid": left.uid,
                "page": left.page,
                "client_id": left.client_id,
                "message": left.message.to_map(),
                "received_s": left.received_s,
                "deadline_s": left.deadline_s,
                "allowance": left.allowance,
            },
        )
        if so_far.started_s:
            self.start(number, so_far.started_event(0), left.model)
            self._note(number, _said(so_far))
        return number if number in self._notes else 0

    def start(self, number: int, event: Started, model: str) -> None:
        said = {"prompt": event.prompt_tokens, "cached": event.cached_tokens, "at_s": event.at_s}
        self._note(number, {"is": "start", "model": model, **said})

    def extend(self, number: int, event: Produced) -> None:
        said = {"ids": event.ids, "text": event.text, "reasoning": event.reasoning}
        self._note(number, {"is": "token", "at_s": event.at_s, **said})

    def allow(self, number: int, allowance: int) -> None:
        self._note(number, {"is": "allow", "allowance": allowance})

    def park(self, number: int, now: float) -> None:
        """It has no connection any more."""
        self._note(number, {"is": "park", "at_s": now})

    def keep(self, number: int, done: Done, whole: AnswerSoFar) -> None:
        """The answer is complete, and its turn goes to the disk; not all of it may have been told
        and noted by then."""
        self._note(number, {**_said(whole), "is": "keeping", "done": done.to_map()})

    def end(self, number: int, last: Done | Error) -> None:
        """It is over, and its end is kept for who has not heard it."""
        self._note(number, {"is": "end", "last": last.to_map()})

    def forget(self, number: int) -> None:
        """Nobody will come for it."""
        if number in self._notes:
            self._note(number, {"is": "gone"})
            self._live_bytes -= sum(map(len, self._notes.pop(number, ())))

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _note(self, number: int, fields: Mapping[str, Any]) -> None:
        notes = self._notes.get(number)
        if notes is None or self._log is None:
            return
        try:
            frame = encode_frame({"n": number, **fields})
        except QwendError:
            self._give_up(number)
            return
        notes.append(frame)
        self._live_bytes += len(frame)
        sweeps = self._log.used_bytes - self._live_bytes > SWEEP_BYTES
        if sweeps and self._write_live(self._log):
            return
        if not self._log.append(frame) and not self._write_live(self._log):
            self._give_up(number)

    def _write_live(self, log: KeptLog) -> bool:
        """The log is the notes of open requests from now on; False if there is no room for that."""
        return log.replace(note for notes in self._notes.values() for note in notes)

    def _give_up(self, number: int) -> None:
        """It is too long to be kept: without its connection it ends."""
        log.info("a request is too long to be kept over a restart")
        self._live_bytes -= sum(map(len, self._notes.pop(number, ())))


def _read(log: KeptLog) -> dict[int, Left]:
    found: dict[int, Left] = {}
    for note in log.read():
        with suppress(QwendError, KeyError, TypeError, ValueError):
            _apply(found, note)
    return found


def _apply(found: dict[int, Left], note: Mapping[str, Any]) -> None:
    number, kind = int(note["n"]), note["is"]
    if kind == "open":
        message = parse_client(note["message"])
        assert isinstance(message, Request)
        found[number] = Left(
            number,
            note["uid"],
            note["page"],
            note["client_id"],
            message,
            note["received_s"],
            note["deadline_s"],
            note["allowance"],
            model=note.get("model", ""),  # an earlier version knew it here
        )
        return
    left = found[number]
    match kind:
        case "start":
            left.so_far.start(Started(0, note["prompt"], note["cached"], note["at_s"]))
            left.model = note.get("model", left.model)
        case "token":
            _heard(left.so_far, note)
        case "allow":
            left.allowance = note["allowance"]
        case "park":
            left.page, left.parked_s = 0, note["at_s"]
        case "keeping":
            done = parse_daemon(note["done"])
            assert isinstance(done, Done)
            left.keeping = done
            left.whole = _heard(AnswerSoFar(), note)
            left.whole.start(left.so_far.started_event(0))
        case "end":
            last = parse_daemon(note["last"])
            assert isinstance(last, Done | Error)
            left.last = last
        case "gone":
            del found[number]


def _heard(so_far: AnswerSoFar, note: Mapping[str, Any]) -> AnswerSoFar:
    so_far.first_token_s = so_far.first_token_s or note.get("first_s", 0.0)
    ids = tuple(note["ids"])
    so_far.extend(Produced(0, 0, ids, note["text"], note["at_s"], note["reasoning"]))
    return so_far


def _said(so_far: AnswerSoFar) -> dict[str, Any]:
    """All that was said, as one note."""
    return {
        "is": "token",
        "at_s": so_far.last_token_s,
        "first_s": so_far.first_token_s,
        "ids": list(so_far.tokens),
        "text": so_far.content,
        "reasoning": so_far.reasoning,
    }


def _key(message: Request) -> str | None:
    return message.generation.resume if isinstance(message, Chat | Complete) else None
