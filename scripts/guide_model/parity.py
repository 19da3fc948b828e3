"""That llama.cpp cuts text into the very tokens that the network was trained on.

Rule 1: a difference ends the run: it would show only as answers that are somewhat worse.
"""

from __future__ import annotations

from pathlib import Path

from .corpus import LANGUAGES, load_facts, load_questions
from .evaluation import opened
from .tokenizer import Encoder, Vocabulary

# What the corpus has little of: spaces, line ends, digits, contractions, other scripts.
_AWKWARD = (
    "  two  spaces\n\n\tand\ttabs \n",
    "It's 12345 o'clock, I'LL say; they've 3.14!",
    "naïve café Ελληνικά русский ไทย 日本語テスト 🙂👍🏽",
    "mixed中文and English，混排。",
    "<|im_end|> in text is text",
    " ",
    "\r\n",
)


def check(model: Path, vocabulary: Vocabulary) -> int:
    """Compare the tokens of every answer, question and awkward text; return how many texts.

    Raises: ValueError naming the first text whose tokens differ.
    """
    encoder = Encoder(vocabulary)
    answers = [fact[language] for fact in load_facts().values() for language in LANGUAGES]
    questions = [q.text for name in ("dev", "heldout") for q in load_questions(name)]
    texts = [*answers, *questions, *_AWKWARD]
    with opened(model) as llama:
        for text in texts:
            theirs = tuple(llama.tokenize(text.encode(), add_bos=False, special=False))
            if theirs != encoder.encode(text):
                raise ValueError(
                    f"{text!r}: llama.cpp reads {theirs}, training read {encoder.encode(text)}"
                )
            if encoder.decode(theirs) != text:
                raise ValueError(f"{text!r} does not come back from its tokens")
    return len(texts)
