"""ChatML, the chat format of Qwen: from turns to pieces of prompt.

Rule 1: only the scaffold may become control tokens. Content is tokenized apart, without parsing
control tokens, so `<|im_end|>` in a user's text stays text and forges no role.
Rule 2: no Jinja from the model file is run: a template is code, and it came with a download.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qwend.engine.request import ChatTurn

ROLES = ("system", "user", "assistant")

# text, parse_special -> token ids
Tokenize = Callable[[str, bool], list[int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of prompt. scaffold: written by us, so control tokens in it are meant."""

    text: str
    scaffold: bool


def chatml_pieces(turns: Sequence[ChatTurn], *, open_answer: bool = True) -> list[Piece]:
    """The prompt of a conversation, up to where the assistant begins to speak.

    open_answer: end with the opening of the assistant's turn (a chat), or after the last turn
    (a prefix that will be continued by a further turn).
    """
    pieces: list[Piece] = []
    for turn in turns:
        pieces.append(Piece(f"<|im_start|>{turn.role}\n", scaffold=True))
        if turn.content:
            pieces.append(Piece(turn.content, scaffold=False))
        pieces.append(Piece("<|im_end|>\n", scaffold=True))
    if open_answer:
        pieces.append(Piece("<|im_start|>assistant\n", scaffold=True))
    return pieces


def tokenize_pieces(pieces: Sequence[Piece], tokenize: Tokenize) -> list[int]:
    """Token ids of the pieces, each tokenized on its own."""
    return [token for piece in pieces for token in tokenize(piece.text, piece.scaffold)]
