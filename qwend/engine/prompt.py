"""From a request to the token ids of its prompt, whichever of the three forms it came in."""

from __future__ import annotations

from qwend.engine.backend import Backend
from qwend.engine.request import EngineRequest, Kind
from qwend.engine.template import ROLES, chatml_pieces, tokenize_pieces
from qwend.errors import EngineBug, RequestError


def prompt_tokens(request: EngineRequest, backend: Backend) -> list[int]:
    """Token ids of the prompt.

    Raises: RequestError if a token id is outside the vocabulary, a role is none of ROLES, or the
    model has no chat format.
    """
    if request.turns is not None:
        return _chat_tokens(request, backend)
    if request.tokens is not None:
        return _checked_ids(request.tokens, backend.facts.vocab_size)
    if request.text is not None:
        return backend.tokenize(request.text, request.parse_special)
    raise EngineBug(f"request {request.id} has no prompt in any form")


def _chat_tokens(request: EngineRequest, backend: Backend) -> list[int]:
    if not backend.facts.chatml:
        raise RequestError(
            "this model has no ChatML control tokens, so it cannot chat: use `complete` with "
            "a prompt in the model's own format, or load a Qwen instruct model",
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
    pieces = chatml_pieces(request.turns, open_answer=open_answer)
    return tokenize_pieces(pieces, backend.tokenize)


def _checked_ids(tokens: tuple[int, ...], vocab_size: int) -> list[int]:
    for at, token in enumerate(tokens):
        if not 0 <= token < vocab_size:
            raise RequestError(
                f"prompt[{at}] is {token}, and this model's token ids are 0 to {vocab_size - 1}"
            )
    return list(tokens)
