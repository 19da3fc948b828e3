"""From a request to the token ids of its prompt, whichever of the three forms it came in."""

from __future__ import annotations

from qwend.engine.backend import Backend, ModelFacts
from qwend.engine.prompt_limit import PromptLimit
from qwend.engine.reasoning import ReasoningSplitter
from qwend.engine.request import EngineRequest, Kind, Thinking
from qwend.engine.template import ROLES, Tokenize, chatml_pieces, tokenize_pieces
from qwend.errors import EngineBug, RequestError


def prompt_tokens(request: EngineRequest, backend: Backend) -> list[int]:
    """Token ids of the prompt.

    Raises: RequestError if a token id is outside the vocabulary, a role is none of ROLES, the
    model has no chat format, or cannot think and must; for some texts that are too long.
    """
    tokenize: Tokenize = backend.tokenize
    if request.kind is not Kind.TOKENIZE:
        tokenize = PromptLimit(tokenize, min(backend.facts.cells, backend.facts.train_context))
    if request.turns is not None:
        return _chat_tokens(request, backend.facts, tokenize)
    if request.tokens is not None:
        return _checked_ids(request.tokens, backend.facts.vocab_size)
    if request.text is not None:
        return tokenize(request.text, request.parse_special)
    raise EngineBug(f"request {request.id} has no prompt in any form")


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


def _chat_tokens(request: EngineRequest, facts: ModelFacts, tokenize: Tokenize) -> list[int]:
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
    pieces = chatml_pieces(
        request.turns,
        open_answer=open_answer,
        form=facts.chat_format,
        thinking=_thinks(request, facts),
    )
    return tokenize_pieces(pieces, tokenize)


def _checked_ids(tokens: tuple[int, ...], vocab_size: int) -> list[int]:
    for at, token in enumerate(tokens):
        if not 0 <= token < vocab_size:
            raise RequestError(
                f"prompt[{at}] is {token}, and this model's token ids are 0 to {vocab_size - 1}"
            )
    return list(tokens)
