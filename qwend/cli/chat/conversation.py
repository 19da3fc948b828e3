"""What was said so far: the only state of a chat.

Rule 1: questions and answers alternate; a question without any answer is taken back.
Rule 2: this file does not know the daemon.
"""

from __future__ import annotations

import json

from qwend.wire import ChatMessage


class Conversation:
    """system: in front of everything; None leaves it to the daemon."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self._said: list[ChatMessage] = []

    def __len__(self) -> int:
        return len(self._said)

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        """What a request carries."""
        first = () if self.system is None else (ChatMessage("system", self.system),)
        return (*first, *self._said)

    def asking(self, text: str) -> tuple[ChatMessage, ...]:
        """What `messages` would be if `text` were asked now."""
        return (*self.messages, ChatMessage("user", text))

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
        return "\n\n".join(f"**{each.role}**\n\n{each.content}" for each in self.messages) + "\n"

    def as_json(self) -> str:
        said = [{"role": each.role, "content": each.content} for each in self.messages]
        return json.dumps(said, ensure_ascii=False, indent=2) + "\n"
