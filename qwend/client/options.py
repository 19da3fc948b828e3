"""What a program writes, turned into what the protocol carries.

Rule 1: convenience (a plain string for a conversation, a dict for a message) ends here.
Rule 2: this file does not check values: the wire does, with the daemon's own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, Unpack, cast

from qwend.client.errors import RequestFailed
from qwend.wire import ChatMessage, Generation, Prompt, Role
from qwend.wire.orders import PullSource

Conversation = str | Sequence[ChatMessage | Mapping[str, str]]
"""A plain string is one message of the user; a mapping has the keys `role` and `content`."""


class GenerationOptions(TypedDict, total=False):
    """The keyword arguments of `chat` and `complete`; see docs/protocol.md for their ranges."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    repeat_last_n: int
    seed: int
    stop: str | Sequence[str]
    logit_bias: Mapping[int, float]
    ignore_eos: bool
    deadline_s: float
    credit: int


class PullOptions(TypedDict, total=False):
    """The keyword arguments of `pull`; see docs/protocol.md."""

    name: str
    sha256: str
    source: PullSource
    any_architecture: bool
    offline: bool


def generation(**options: Unpack[GenerationOptions]) -> Generation:
    """Raises: TypeError for a name that is no option, as for any other keyword argument."""
    given = dict(options)
    if "stop" in options:
        stop = options["stop"]
        given["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    if "logit_bias" in options:
        given["logit_bias"] = tuple(options["logit_bias"].items())
    return Generation(**given)  # type: ignore[arg-type]  # the wire checks each value


def conversation(messages: Conversation) -> tuple[ChatMessage, ...]:
    """Raises: RequestFailed if an entry is no message."""
    if isinstance(messages, str):
        return (ChatMessage("user", messages),)
    return tuple(_message(index, entry) for index, entry in enumerate(messages))


def prompt(given: str | Sequence[int]) -> Prompt:
    return given if isinstance(given, str) else tuple(given)


def _message(index: int, entry: ChatMessage | Mapping[str, str]) -> ChatMessage:
    if isinstance(entry, ChatMessage):
        return entry
    if not isinstance(entry, Mapping) or set(entry) != {"role", "content"}:
        raise RequestFailed(
            "invalid_message",
            f"messages[{index}] must be a mapping with exactly the keys 'role' and 'content'",
        )
    return ChatMessage(cast(Role, entry["role"]), entry["content"])
