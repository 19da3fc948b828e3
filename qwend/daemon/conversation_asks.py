"""One connection's questions about sessions: from the message to the one answer.

Owns the ids of those that are not answered yet. Knows nothing of conversations but whom to ask.
"""

from __future__ import annotations

from qwend.daemon.conversations import Conversations
from qwend.daemon.journal import Owner
from qwend.wire.notices import Error
from qwend.wire.sessions import Sessions, SessionsReply


class ConversationAsks:
    def __init__(self, conversations: Conversations, owner: Owner) -> None:
        self._conversations = conversations
        self._owner = owner
        self._open: set[int] = set()

    @property
    def open_ids(self) -> tuple[int, ...]:
        return tuple(self._open)

    def take(self, message: Sessions) -> None:
        """The owner gets its answer, sooner or later."""

        def answered(answer: SessionsReply | Error) -> None:
            self._open.discard(message.id)
            self._owner.send(answer)

        self._open.add(message.id)
        self._conversations.ask(self._owner.uid, message, answered)
