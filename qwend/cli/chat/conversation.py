"""What was said so far: the only state of a chat.

Rule 1: questions and answers alternate; a question without any answer is taken back.
Rule 2: this file does not know the daemon.
"""

from __future__ import annotations

from collections.abc import Iterable

from qwend.cli.transcript import as_json, as_markdown
from qwend.wire import ChatMessage


class Conversation:
    """system: in front of everything; None leaves it to the daemon.

    session: the daemon keeps what is said, under this name. said: what it has of it already.
    """

    def __init__(
        self,
        system: str | None = None,
        session: str | None = None,
        said: Iterable[ChatMessage] = (),
    ) -> None:
        self.system = system
        self.session = session
        self._said = list(said)

    def __len__(self) -> int:
        return len(self._said)

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """All of it."""
        # What the daemon has kept begins with its own.
        own = bool(self._said) and self._said[0].role == "system"
        first = () if self.system is None or own else (ChatMessage("system", self.system),)
        return (*first, *self._said)

    @property
    def request(self) -> tuple[ChatMessage, ...]:
        """What a request carries: of a session only what is new, which is the question."""
        return self.messages if self.session is None else self._new(self._said[-1])

    def asking(self, text: str) -> tuple[ChatMessage, ...]:
        """What `request` would be if `text` were asked now."""
        question = ChatMessage("user", text)
        return (*self.messages, question) if self.session is None else self._new(question)

    def ask(self, text: str) -> None:
        self._said.append(ChatMessage("user", text))

    def answer(self, text: str) -> None:
        """Take note of an answer, a broken off one included: the next turn may refer to it."""
        if text:
            self._said.append(ChatMessage("assistant", text))
        else:
            self._said.pop()

    def clear(self) -> None:
        self._said.clear()

    def as_markdown(self) -> str:
        return as_markdown(self.messages)

    def as_json(self) -> str:
        return as_json([{"role": each.role, "content": each.content} for each in self.messages])

    def _new(self, question: ChatMessage) -> tuple[ChatMessage, ...]:
        # Said each time: the daemon keeps it once, and says so if the session has another.
        first = () if self.system is None else (ChatMessage("system", self.system),)
        return (*first, question)
