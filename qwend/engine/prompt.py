"""From a request to the token ids of its prompt, whichever of the three forms it came in.

They come part by part, so that who asks may do other things between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qwend.engine.backend import Backend, ModelFacts
from qwend.engine.prompt_limit import within_answer, within_context
from qwend.engine.reasoning import ReasoningSplitter
from qwend.engine.request import EngineRequest, Kind, Thinking
from qwend.engine.template import ROLES, Piece, chatml_pieces
from qwend.errors import EngineBug, RequestError


def prompt_parts(request: EngineRequest, backend: Backend) -> Iterator[list[int]]:
    """Token ids of the prompt, some milliseconds' worth at a time.

    Raises: RequestError if a token id is outside the vocabulary, a role is none of ROLES, the
    model has no chat format, or cannot think and must; for some texts that are too long.
    """
    facts = backend.facts
    if request.turns is not None:
        parts = _tokenized(_chat_pieces(request, facts), backend)
    elif request.tokens is not None:
        parts = iter((_checked_ids(request.tokens, facts.vocab_size),))
    elif request.text is not None:
        parts = backend.tokenize_parts(request.text, request.parse_special)
    else:
        raise EngineBug(f"request {request.id} has no prompt in any form")
    if request.kind is Kind.TOKENIZE:
        yield from within_answer(parts)
    else:
        yield from within_context(parts, min(facts.cells, facts.train_context))


def prompt_tokens(request: EngineRequest, backend: Backend) -> list[int]:
    """All of `prompt_parts` at once."""
    return [token for part in prompt_parts(request, backend) for token in part]


def answer_opening(request: EngineRequest, backend: Backend) -> list[int]:
    """The last tokens of the prompt, behind its turns: they open the answer, if it does."""
    opening = _chat_pieces(replace(request, turns=()), backend.facts)
    return [token for part in _tokenized(opening, backend) for token in part]


def reasoning_splitter(request: EngineRequest, facts: ModelFacts) -> ReasoningSplitter | None:
    """What cuts the answer into reasoning and content; None if all of it is content."""
    if request.kind is not Kind.CHAT or not _thinks(request, facts):
        return None
    return ReasoningSplitter(opened=facts.chat_format.opens_reasoning)


def _thinks(request: EngineRequest, facts: ModelFacts) -> bool:
    form = facts.chat_format
    if request.thinking is Thinking.MODEL:
        return form.thinks_by_default
    return form.thinks and request.thinking is not Thinking.OFF


def _tokenized(pieces: Sequence[Piece], backend: Backend) -> Iterator[list[int]]:
    """Each piece is tokenized on its own."""
    for piece in pieces:
        yield from backend.tokenize_parts(piece.text, piece.scaffold)


def _chat_pieces(request: EngineRequest, facts: ModelFacts) -> list[Piece]:
    if not facts.chatml:
        raise RequestError(
            "this model has no ChatML control tokens, so it cannot chat: use `complete` with "
            "a prompt in the model's own format, or load a Qwen instruct model",
            code="unsupported",
        )
    if request.thinking is Thinking.REQUIRED and not facts.chat_format.thinks:
        raise RequestError(
            f"the model {facts.name or 'in use'} cannot think before it answers: leave `thinking` "
            "out, or load a model that can, such as Qwen3",
            code="unsupported",
        )
    assert request.turns is not None
    for turn in request.turns:
        # A role stands in the scaffold, where control tokens count: any other text forges a turn.
        if turn.role not in ROLES:
            raise RequestError(f"{turn.role!r} is no role; the roles are {', '.join(ROLES)}")
    # A prefill is continued by the next turn, so it must not open the answer already; one of an
    # unfinished turn bets that nothing is added to it any more.
    open_answer = request.kind is Kind.CHAT or request.partial
    return chatml_pieces(
        request.turns,
        open_answer=open_answer,
        form=facts.chat_format,
        thinking=_thinks(request, facts),
    )


def _checked_ids(tokens: tuple[int, ...], vocab_size: int) -> list[int]:
    for at, token in enumerate(tokens):
        if not 0 <= token < vocab_size:
            raise RequestError(
                f"prompt[{at}] is {token}, and this model's token ids are 0 to {vocab_size - 1}"
            )
    return list(tokens)
