"""From what a client sent to what the engine is asked: defaults filled in, system prompt added.

Owns nothing; the configuration and the ids come in as arguments.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TypeVar

from qwend.config import ChatConfig, SamplingConfig
from qwend.engine.request import (
    ChatTurn,
    EngineRequest,
    Kind,
    Priority,
    SamplingParams,
    Thinking,
)
from qwend.wire.generation import DAEMON_DEFAULTS, Generation
from qwend.wire.prompt import ChatMessage
from qwend.wire.requests import Chat, Complete, Prefill, Tokenize

Submitted = Chat | Complete | Prefill | Tokenize
Value = TypeVar("Value")

UNASKED = {"auto": Thinking.MODEL, "on": Thinking.PREFERRED, "off": Thinking.OFF}
"""What a request gets that does not say whether to think, by `thinking` under [chat]."""


class Resolver:
    def __init__(self, sampling: SamplingConfig, chat: ChatConfig) -> None:
        self._sampling = sampling
        self._system_prompt = chat.system_prompt
        self._thinking = UNASKED[chat.thinking]

    def request(
        self, message: Submitted, *, request_id: int, uid: int, received_s: float
    ) -> EngineRequest:
        """The engine's request, but for its credit."""
        generation = message.generation if isinstance(message, Chat | Complete) else DAEMON_DEFAULTS
        turns, text, tokens = self._prompt(message)
        return EngineRequest(
            id=request_id,
            kind=Kind(message.op),
            uid=uid,
            received_s=received_s,
            turns=turns,
            text=text,
            tokens=tokens,
            parse_special=isinstance(message, Tokenize) and message.special,
            partial=isinstance(message, Prefill) and message.partial,
            max_tokens=_or(generation.max_tokens, self._sampling.max_tokens),
            stop=generation.stop or (),
            thinking=self._thinks(message),
            priority=priority_of(message),
            sampling=self._params(generation),
        )

    def system_turn(self) -> tuple[ChatTurn, ...]:
        """The default system prompt as a conversation's beginning; empty if there is none."""
        return (ChatTurn("system", self._system_prompt),) if self._system_prompt else ()

    def _prompt(
        self, message: Submitted
    ) -> tuple[tuple[ChatTurn, ...] | None, str | None, tuple[int, ...] | None]:
        if isinstance(message, Tokenize):
            return None, message.text, None
        if isinstance(message, Chat | Prefill) and message.messages is not None:
            return self.turns(message.messages), None, None
        assert isinstance(message, Complete | Prefill)
        if isinstance(message.prompt, str):
            return None, message.prompt, None
        return None, None, message.prompt

    def _thinks(self, message: Submitted) -> Thinking:
        if not isinstance(message, Chat | Prefill) or message.thinking is None:
            return self._thinking
        return Thinking.REQUIRED if message.thinking else Thinking.OFF

    def turns(self, messages: Sequence[ChatMessage]) -> tuple[ChatTurn, ...]:
        """A conversation, with the default system prompt in front unless it has one."""
        turns = tuple(ChatTurn(message.role, message.content) for message in messages)
        return turns if turns[0].role == "system" else self.system_turn() + turns

    def _params(self, generation: Generation) -> SamplingParams:
        defaults = self._sampling
        return SamplingParams(
            temperature=_or(generation.temperature, defaults.temperature),
            top_k=_or(generation.top_k, defaults.top_k),
            top_p=_or(generation.top_p, defaults.top_p),
            min_p=_or(generation.min_p, defaults.min_p),
            repeat_penalty=_or(generation.repeat_penalty, defaults.repeat_penalty),
            repeat_last_n=_or(generation.repeat_last_n, defaults.repeat_last_n),
            # Chosen here and told in `done`, so that every answer can be had again.
            seed=_or(generation.seed, secrets.randbits(32)),
            logit_bias=generation.logit_bias or (),
            ignore_eos=bool(generation.ignore_eos),
        )


def priority_of(message: Submitted) -> Priority:
    """Somebody waits for an answer, and for what they are typing; for other prefills nobody."""
    if isinstance(message, Tokenize):
        return Priority.INTERACTIVE
    if message.priority is not None:
        return Priority(message.priority)
    ahead = isinstance(message, Prefill) and not message.partial
    return Priority.BACKGROUND if ahead else Priority.INTERACTIVE


def _or(given: Value | None, default: Value) -> Value:
    return default if given is None else given
