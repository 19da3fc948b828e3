"""The guide's vocabulary: byte-level BPE with Qwen's pre-tokenizer, trained on the corpus.

Rule 1: what llama.cpp calls tokenizer.ggml.pre = "qwen2" is written here once, as PRE_TOKENIZER.
Rule 2: control tokens are never found in text; only conversation.py places them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 3072
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# From Qwen's tokenizer.json; llama.cpp's LLAMA_VOCAB_PRE_TYPE_QWEN2 in llama-vocab.cpp is the same.
PRE_TOKENIZER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens by id, control tokens last, and the merges in order."""

    tokens: tuple[str, ...]
    merges: tuple[str, ...]

    @property
    def end_of_text(self) -> int:
        return self.tokens.index(CONTROL[0])

    @property
    def im_start(self) -> int:
        return self.tokens.index(CONTROL[1])

    @property
    def im_end(self) -> int:
        return self.tokens.index(CONTROL[2])

    def save(self, path: Path) -> None:
        path.write_text(
            json.dumps({"tokens": self.tokens, "merges": self.merges}), encoding="utf-8"
        )

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        data = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(data["tokens"]), tuple(data["merges"]))


class Encoder:
    """Text to token ids and back; never yields a control token."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        tokens = vocabulary.tokens[: -len(CONTROL)]
        merges = [tuple(merge.split(" ")) for merge in vocabulary.merges]
        bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges)
        self._tokenizer = _byte_level(Tokenizer(bpe))
        self.encode = lru_cache(maxsize=4096)(self._encode)

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer.encode(text).ids)

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(ids)))


def train(texts: Iterable[str], size: int = VOCABULARY) -> Vocabulary:
    """Learn a vocabulary of `size` tokens, the 256 bytes and the control tokens included."""
    tokenizer = _byte_level(Tokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if len(tokens) != size - len(CONTROL):
        raise ValueError(f"the corpus gives only {len(tokens)} tokens, {size} are wanted")
    return Vocabulary((*tokens, *CONTROL), tuple(merges))


def _byte_level(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKENIZER), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
