"""What the vocabulary of a model must be for llama.cpp to load it and to end its answers.

llama.cpp aborts on two tokens of one text (llama-vocab.cpp: `GGML_ASSERT(id_to_token.size() ==
token_to_id.size())`), and silently replaces a special-token id it does not like by its default,
which for "gpt2" is token 11: the comma. This file does not know the shape of the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qwend.models.gguf_file import GgufFile
from qwend.models.gguf_header import Field, ValueType
from qwend.models.metadata import Metadata

MAX_VOCABULARY = 1 << 19  # tokens; the largest is 248,320. A hash of each is kept: 40 MiB at most.
MAX_TOKEN_BYTES = 1 << 16
CHATML_MARKERS = (b"<|im_start|>", b"<|im_end|>")

TOKENS = "tokenizer.ggml.tokens"
QWEN = "give a Qwen model, or set allow_any_architecture = true in [model] to try it all the same"
OTHER = "give another model file: llama.cpp would abort on this one"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    tokenizer: str
    size: int
    has_chatml_markers: bool


def check_vocabulary(file: GgufFile, metadata: Metadata, *, any_tokenizer: bool) -> Vocabulary:
    """Raises: ModelError."""
    tokenizer = metadata.text("tokenizer.ggml.model")
    if tokenizer is None:
        raise metadata.missing("tokenizer.ggml.model")
    if tokenizer != "gpt2" and not any_tokenizer:
        what = f"the tokenizer {tokenizer!r} is not Qwen's ('gpt2')"
        raise metadata.bad("tokenizer.ggml.model", what, QWEN)
    tokens = metadata.array(TOKENS, ValueType.STRING)
    if tokens is None:
        raise metadata.missing(TOKENS)
    if not 0 < tokens.count <= MAX_VOCABULARY:
        raise metadata.bad(TOKENS, f"{tokens.count} tokens, 1 to {MAX_VOCABULARY} are possible")
    _check_arrays(metadata, tokens.count, needs_merges=tokenizer == "gpt2")
    _check_special_tokens(metadata, tokens.count, tokenizer)
    seen = _distinct_hashes(file, metadata, tokens)
    return Vocabulary(
        tokenizer=tokenizer,
        size=tokens.count,
        has_chatml_markers=all(hash(marker) in seen for marker in CHATML_MARKERS),
    )


def _check_arrays(metadata: Metadata, size: int, *, needs_merges: bool) -> None:
    for key, types in (
        ("tokenizer.ggml.token_type", (ValueType.INT32,)),
        ("tokenizer.ggml.scores", (ValueType.FLOAT32, ValueType.INT32)),
    ):
        field = metadata.array(key, *types)
        if field is not None and field.count != size:
            raise metadata.bad(key, f"{field.count} entries for {size} tokens")
    metadata.array("tokenizer.ggml.suppress_tokens", ValueType.INT32)
    merges = metadata.array("tokenizer.ggml.merges", ValueType.STRING)
    if merges is None and needs_merges:
        raise metadata.missing("tokenizer.ggml.merges")


def _check_special_tokens(metadata: Metadata, size: int, tokenizer: str) -> None:
    for key in metadata:
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            metadata.integer(key, 0, size - 1)
    if tokenizer == "gpt2" and "tokenizer.ggml.eos_token_id" not in metadata:
        raise metadata.missing("tokenizer.ggml.eos_token_id")


def _distinct_hashes(file: GgufFile, metadata: Metadata, tokens: Field) -> set[int]:
    """Hashes, not texts: the memory is bounded by their number. Siphash, seeded per process."""
    # At full speed (100 ms of every start) for the vocabulary that has neither fault.
    seen = set(map(hash, _token_texts(file, tokens)))
    if len(seen) == tokens.count and hash(b"") not in seen:
        return seen
    seen.clear()
    for index, text in enumerate(_token_texts(file, tokens)):
        text = text or b"[EMPTY_%d]" % index  # as llama.cpp names it
        seen.add(hash(text))
        if len(seen) == index:
            shown = text[:64].decode("utf-8", "backslashreplace")
            raise metadata.bad(TOKENS, f"token {index} has the text of another: {shown!r}", OTHER)
    return seen


def _token_texts(file: GgufFile, tokens: Field) -> Iterator[bytes]:
    return file.strings(tokens.offset, tokens.count, MAX_TOKEN_BYTES, repr(TOKENS))
