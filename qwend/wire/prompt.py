"""What an answer is generated from: a conversation, or a prompt as text or token ids.

Rule 1: `chat`, `complete` and `prefill` read and write these two fields here.
Rule 2: this file does not know chat templates, nor which order of roles makes sense.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from qwend.wire.fields import Fields

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)

Prompt = str | tuple[int, ...]
"""Text, or token ids that the client made itself."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Role
    content: str


def messages_field(messages: Iterable[ChatMessage]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def prompt_field(prompt: Prompt) -> str | list[int]:
    return prompt if isinstance(prompt, str) else list(prompt)


def read_messages(source: Fields) -> tuple[ChatMessage, ...]:
    entries = source.array("messages")
    if not entries:
        raise source.wrong("messages", entries, "at least one message", "invalid_value")
    messages = []
    for index, entry in enumerate(entries):
        one = source.map_value(f"messages[{index}]", entry)
        messages.append(ChatMessage(one.choice("role", ROLES), one.text("content")))
        one.refuse_others()
    return tuple(messages)


def read_prompt(source: Fields) -> Prompt:
    value = source.value("prompt")
    if type(value) is str:
        return value
    if type(value) is list:
        return source.token_ids("prompt")
    raise source.wrong("prompt", value, "a string or an array of token ids", "invalid_message")
