"""How one answer outlives its connection: what to say on the next one.

Rule 1: which request is asked, with which key, and how often in vain, is known here.
Rule 2: this file does not know sockets, nor when a connection is lost.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from qwend.client.answering import Answering
from qwend.client.errors import ConnectionLost
from qwend.wire import Chat, Complete, Resume, Welcome

Build = Callable[[int], Chat | Complete]

RECONNECT_S = 15.0
"""A daemon with a model on a slow card is back by then; and nobody waits a minute for none."""

# Connections that may be lost one after another without a token in between.
MOST_IN_VAIN = 5


class Recovery:
    """Of one request; `build` makes it for an id."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._key = os.urandom(16).hex()
        self._reached = -1
        self._in_vain = 0

    @classmethod
    def where_served(cls, welcome: Welcome, build: Build) -> Recovery | None:
        return cls(build) if "resume" in welcome.capabilities else None

    def request(self, request_id: int) -> Chat | Complete:
        message = self._build(request_id)
        return replace(message, generation=replace(message.generation, resume=self._key))

    def resume(self, request_id: int, answering: Answering) -> Resume:
        text, reasoning = len(answering.text), len(answering.reasoning)
        return Resume(request_id, self._key, answering.tokens, text, reasoning)

    def ask_again(self) -> None:
        """The daemon knows nothing of it: what follows is another request.

        Raises: ConnectionLost for one of a session: that may have been kept already, and nothing
        is to be kept twice.
        """
        session = getattr(self._build(0), "session", None)
        if session is not None:
            raise ConnectionLost(
                f"the daemon that answered is gone; look whether session {session!r} has this turn "
                "before you ask again"
            )
        self._key = os.urandom(16).hex()

    def worth_a_try(self, tokens: int) -> bool:
        """The connection was lost when so many tokens had been read."""
        self._in_vain = self._in_vain + 1 if tokens == self._reached else 1
        self._reached = tokens
        return self._in_vain <= MOST_IN_VAIN
