"""What one turn of the event loop has to say to one client, and what is noted of it.

What one event leads to is one write: at the first of two the client wakes up, takes our CPU, and
the second waits a tick (4 ms) behind a thread that computes. Knows nothing of sockets.
"""

from __future__ import annotations

from collections.abc import Callable

from qwend.wire.messages import DaemonMessage
from qwend.wire.notices import Error
from qwend.wire.replies import Done, Progress
from qwend.wire.sessions import SessionsReply


class Outbox:
    """in_doubt: a front that dies now leaves something unsaid of which the next knows nothing.

    ending: the client's ids of requests whose end is in it; they are open until it is written.
    """

    def __init__(self) -> None:
        self.in_doubt = False
        self.ending: list[int] = []
        self._frames: list[bytes] = []
        self._notes: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._frames)

    def __len__(self) -> int:
        """Bytes."""
        return sum(map(len, self._frames))

    def add(self, message: DaemonMessage, frame: bytes, note: Callable[[], None] | None) -> None:
        """note: called when it is taken, to note it for the next front."""
        if note is not None:
            self._notes.append(note)
        elif not isinstance(message, Progress):  # nobody misses one
            self.in_doubt = True
        if isinstance(message, Done | Error | SessionsReply) and message.id is not None:
            self.ending.append(message.id)
        self._frames.append(frame)

    def take(self) -> bytes:
        """All of it, to be written now. Noted first: a client that resumes may have less than is
        noted, but never more."""
        notes, self._notes = self._notes, []
        for note in notes:
            note()
        frames, self._frames = self._frames, []
        self.ending.clear()
        self.in_doubt = False
        return frames[0] if len(frames) == 1 else b"".join(frames)
