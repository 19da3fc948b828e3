"""ChatML, the chat format of Qwen: from turns to pieces of prompt.

Rule 1: only the scaffold may become control tokens. Content is tokenized apart, without parsing
control tokens, so `<|im_end|>` in a user's text stays text and forges no role.
Rule 2: no Jinja from the model file is run: a template is code, and it came with a download. What
kinds of ChatML differ in is read off its text (`chat_format`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qwend.engine.reasoning import CLOSE_TAG, OPEN_TAG
from qwend.engine.request import ChatTurn

ROLES = ("system", "user", "assistant")
NO_REASONING = f"{OPEN_TAG}\n\n{CLOSE_TAG}\n\n"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What one kind of ChatML has beside turns.

    thinks: the model can reason before it answers. thinks_by_default: it does so unasked.
    opens_reasoning: the prompt has the opening tag already (Qwen3.5; Qwen3 writes it itself).
    trims: content goes in without white space around it (Qwen3.5).
    """

    thinks: bool = False
    thinks_by_default: bool = False
    opens_reasoning: bool = False
    trims: bool = False

    def opening(self, thinking: bool) -> str:
        """What the assistant's turn begins with."""
        if not self.thinks:
            return ""
        if not thinking:
            return NO_REASONING
        return f"{OPEN_TAG}\n" if self.opens_reasoning else ""

    def content(self, turn: ChatTurn) -> str:
        """A turn's content as the model is to see it: an answer without its reasoning, which
        it has learnt not to look back on."""
        text = turn.content.strip() if self.trims else turn.content
        if self.thinks and turn.role == "assistant" and CLOSE_TAG in text:
            text = text.rpartition(CLOSE_TAG)[2].lstrip("\n")
        return text


PLAIN = ChatFormat()


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of prompt. scaffold: written by us, so control tokens in it are meant."""

    text: str
    scaffold: bool


def chat_format(template: str, *, has_think_tokens: bool) -> ChatFormat:
    """The kind of ChatML that a model's Jinja template writes; empty: the file has none.

    Read off the text behind its last `add_generation_prompt`, where Qwen's templates open the
    answer; what they do without `enable_thinking` stands in the last branch. Sources:
    models/templates/Qwen-Qwen3-0.6B.jinja and Qwen3.5-4B.jinja of llama.cpp.
    """
    if not has_think_tokens or (template and OPEN_TAG not in template):
        return PLAIN
    tail = template.rpartition("add_generation_prompt")[2].replace("\\n", "\n")
    shut = tail.rfind(NO_REASONING)
    opened = tail.replace(NO_REASONING, "-" * len(NO_REASONING)).rfind(OPEN_TAG)
    # Only a switch makes the empty block an exception; in the last branch it is the rule.
    shut_unasked = shut > opened >= 0 or (shut >= 0 and "enable_thinking" not in tail)
    return ChatFormat(
        thinks=True,
        thinks_by_default=not shut_unasked,
        opens_reasoning=opened >= 0,
        trims="render_content(message.content" in template and "|trim" in template,
    )


def chatml_pieces(
    turns: Sequence[ChatTurn],
    *,
    open_answer: bool = True,
    form: ChatFormat = PLAIN,
    thinking: bool = False,
) -> list[Piece]:
    """The prompt of a conversation, up to where the assistant begins to speak.

    open_answer: end with the opening of the assistant's turn (a chat), or after the last turn
    (a prefix that will be continued by a further turn). thinking: open it for reasoning.
    """
    pieces: list[Piece] = []
    for turn in turns:
        pieces.append(Piece(f"<|im_start|>{turn.role}\n", scaffold=True))
        content = form.content(turn)
        if content:
            pieces.append(Piece(content, scaffold=False))
        pieces.append(Piece("<|im_end|>\n", scaffold=True))
    if open_answer:
        pieces.append(Piece(f"<|im_start|>assistant\n{form.opening(thinking)}", scaffold=True))
    return pieces
