"""LlamaBackend: one model, one context, one thread.

Owns the native handles and frees them in reverse order. Checks every index itself, for llama.cpp
ends the process where this raises EngineBug.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qwend.engine.backend import DecodeFailed, ModelFacts
from qwend.engine.batch import Batch
from qwend.engine.llama.bindings import VERSION, llama_cpp
from qwend.engine.llama.blob import sealed, unsealed
from qwend.engine.llama.loading import Loaded, load, most_outputs
from qwend.engine.llama.sampler import LlamaSampler
from qwend.engine.llama.text_parts import LONGEST_BYTES, SHORT_BYTES, TextParts
from qwend.engine.llama.threadpool import ThreadPool, attach_threadpool, built_with_openmp
from qwend.engine.llama.word_ends import PRE_TOKENIZERS
from qwend.engine.reasoning import CLOSE_TAG, OPEN_TAG
from qwend.engine.request import SamplingParams
from qwend.engine.settings import EngineStart
from qwend.engine.template import chat_format
from qwend.errors import EngineBug, ModelError, RequestError

# llama_token_to_piece never needs more for one token of Qwen's vocabulary (longest: 128 spaces);
# a longer one is asked for again with the size it names.
PIECE_BYTES = 256
NAME_BYTES = 256  # a longer name is cut: it is for messages
LOOKED_UP_AT_ONCE = 8192  # tokens of the vocabulary: 6 ms

_UNDIVIDED = (
    f"the text has more than {LONGEST_BYTES:,} bytes in one word, or in white space alone: divide "
    "it by spaces or line breaks between words"
)

# What recurrent layers take away: their state is that of the last token and of no earlier one.
RECURRENT_WITHOUT = (
    "sharing a part of a prefix",
    "taking back what was typed ahead",
    "speculation",
)


def open_llama(settings: EngineStart, progress: Callable[[float], None]) -> LlamaBackend:
    """Load the model and attach its threads. Raises: ModelError."""
    loaded = load(settings, progress)
    return backend_over(loaded.model, loaded.context, settings)


def backend_over(model: Any, context: Any, settings: EngineStart) -> LlamaBackend:
    """A backend that owns both handles from now on, with its threads attached."""
    pool = attach_threadpool(context, settings.threads, settings.cpus)
    return LlamaBackend(Loaded(model, context), settings, pool)


class LlamaBackend:
    def __init__(self, loaded: Loaded, settings: EngineStart, pool: ThreadPool | None) -> None:
        self._loaded = loaded
        self._pool = pool
        self._threads = settings.threads
        self._context = loaded.context
        self._memory = llama_cpp.llama_get_memory(loaded.context)
        self._vocab = llama_cpp.llama_model_get_vocab(loaded.model)
        self._parts: dict[bool, TextParts] = {}
        self._cuts_words = self._fact("tokenizer.ggml.pre") in PRE_TOKENIZERS
        # Control tokens in some files, where they would have no text (llama_token_to_piece).
        self._tags = {
            token: tag.encode()
            for tag in (OPEN_TAG, CLOSE_TAG)
            if (token := self._one_token(tag)) is not None
        }
        self._facts = self._read_facts(settings)
        self._most_outputs = most_outputs(settings)
        self._pieces: dict[int, bytes] = dict(self._tags)
        self._batch = llama_cpp.llama_batch_init(settings.ubatch, 0, 1)
        self._views = _views(self._batch, settings.ubatch)

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        return self._tokenize(text.encode("utf-8", "replace"), parse_special)

    def tokenize_parts(self, text: str, parse_special: bool) -> Iterator[list[int]]:
        data = text.encode("utf-8", "replace")
        if len(data) <= SHORT_BYTES:
            yield self._tokenize(data, parse_special)
            return
        yield from self._look_up_whole_tokens(parse_special)
        for part in self._parts[parse_special].of(data):
            if self._cuts_words and len(part) > LONGEST_BYTES:
                raise RequestError(_UNDIVIDED)
            yield self._tokenize(part, parse_special)

    def _tokenize(self, data: bytes, parse_special: bool) -> list[int]:
        # One token is at least one byte, so this many always suffice.
        room = len(data) + 1
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self._vocab, data, len(data), tokens, room, False, parse_special
        )
        if count < 0:
            raise EngineBug(f"llama.cpp wants {-count} tokens for {len(data)} bytes")
        return list(tokens[:count])

    def token_bytes(self, token: int) -> bytes:
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def ends_answer(self, token: int) -> bool:
        return bool(llama_cpp.llama_vocab_is_eog(self._vocab, token))

    def decode(self, batch: Batch) -> None:
        rows = batch.rows
        if not 0 < len(rows) <= self._facts.batch_rows:
            raise EngineBug(f"a batch of {len(rows)} rows; {self._facts.batch_rows} is the most")
        tokens, positions, seq_ids, logits = self._views
        for at, row in enumerate(rows):
            self._check_seq_id(row.seq_id)
            tokens[at] = row.token
            positions[at] = row.position
            seq_ids[at][0] = row.seq_id
            logits[at] = row.wants_logits
        outputs = int(logits[: len(rows)].sum())
        if outputs > self._most_outputs:
            raise EngineBug(f"{outputs} rows with logits; {self._most_outputs} is the most")
        self._batch.n_tokens = len(rows)
        code = llama_cpp.llama_decode(self._context, self._batch)
        if code != 0:
            raise _decode_failure(code, len(rows))

    def keep_logits(self, output: int) -> npt.NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, output)
        if not pointer:
            raise EngineBug(f"row {output} of the last batch has no logits")
        return np.ctypeslib.as_array(pointer, (self._facts.vocab_size,)).copy()

    def open_sampler(
        self, params: SamplingParams, prompt: tuple[int, ...], answer: tuple[int, ...] = ()
    ) -> LlamaSampler:
        # Found only when asked for: looking at all 151,936 tokens takes 0.1 s, once.
        forbidden = self.end_tokens if params.ignore_eos else ()
        vocab_size = self._facts.vocab_size
        return LlamaSampler(self._context, vocab_size, params, prompt, forbidden, answer)

    def share(self, source: int, target: int, count: int) -> None:
        self._check_seq_id(source)
        self._check_seq_id(target)
        if not self._facts.can_trim and count != self._filled(source):
            raise EngineBug(f"sequence {source} can only be shared as a whole, not {count} cells")
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, count)

    def trim(self, seq_id: int, keep: int) -> None:
        self._check_seq_id(seq_id)
        if not llama_cpp.llama_memory_seq_rm(self._memory, seq_id, keep, -1):
            raise EngineBug(f"the cells of sequence {seq_id} cannot be cut at {keep}")

    def save(self, seq_id: int) -> bytes:
        self._check_seq_id(seq_id)
        size = llama_cpp.llama_state_seq_get_size(self._context, seq_id)
        return sealed(
            size,
            lambda state: int(
                llama_cpp.llama_state_seq_get_data(self._context, state, size, seq_id)
            ),
        )

    def restore(self, seq_id: int, blob: bytes) -> bool:
        self._check_seq_id(seq_id)
        state = unsealed(blob)
        if state is None:
            return False
        read = llama_cpp.llama_state_seq_set_data(self._context, state, len(state), seq_id)
        if read != len(state):
            self.trim(seq_id, 0)
            return False
        return True

    def set_threads(self, threads: int) -> None:
        if not 1 <= threads <= self._threads:
            raise EngineBug(f"{threads} threads of {self._threads}")
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        if self._pool is not None:
            self._pool.use(threads)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._loaded.model)

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """Those that end an answer."""
        return tuple(token for token in range(self._facts.vocab_size) if self.ends_answer(token))

    def _filled(self, seq_id: int) -> int:
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, seq_id)) + 1

    def _check_seq_id(self, seq_id: int) -> None:
        if not 0 <= seq_id < self._facts.sequences:
            raise EngineBug(f"there is no sequence {seq_id}")

    def _read_piece(self, token: int) -> bytes:
        if not 0 <= token < self._facts.vocab_size:
            raise EngineBug(f"token {token} is outside the vocabulary")
        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _read_facts(self, settings: EngineStart) -> ModelFacts:
        model, vocab = self._loaded.model, self._vocab
        recurrent = llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(
            model
        )
        vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        if vocab_size <= 0:
            raise ModelError("the model has no vocabulary: it cannot turn text into tokens")
        return ModelFacts(
            vocab_size=vocab_size,
            cells=llama_cpp.llama_n_ctx(self._context),
            train_context=llama_cpp.llama_model_n_ctx_train(model),
            # llama.cpp cuts a batch to the context, and ends the process on a larger one.
            batch_rows=llama_cpp.llama_n_ubatch(self._context),
            sequences=settings.max_sequences,
            outputs=most_outputs(settings),
            can_trim=not recurrent,
            chatml=None not in map(self._one_token, ("<|im_start|>", "<|im_end|>")),
            chat_format=chat_format(
                (llama_cpp.llama_model_chat_template(model, None) or b"").decode(
                    "utf-8", "replace"
                ),
                has_think_tokens=len(self._tags) == 2,
            ),
            name=self._fact("general.name"),
            description={
                "llama_cpp_python": VERSION,
                "build": llama_cpp.llama_print_system_info().decode().strip(" |"),
                "threads": settings.threads,
                "pinned": list(self._pool.cpus) if self._pool is not None else [],
                "openmp": built_with_openmp(),
                "flash_attention": settings.flash_attention,
                "kv_type": settings.kv_type,
                "without": list(RECURRENT_WITHOUT) if recurrent else [],
            },
        )

    def _fact(self, key: str) -> str:
        """What the model's file says of it; empty: nothing."""
        buffer = ctypes.create_string_buffer(NAME_BYTES)
        length = llama_cpp.llama_model_meta_val_str(
            self._loaded.model, key.encode(), buffer, NAME_BYTES
        )
        return buffer.value.decode("utf-8", "replace") if length > 0 else ""

    def _look_up_whole_tokens(self, parse_special: bool) -> Iterator[list[int]]:
        """At the first long text: it takes 0.1 s for the vocabulary of a Qwen, in parts too."""
        if parse_special in self._parts:
            return
        whole = llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        if parse_special:
            whole |= llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        vocab, attr_of = self._vocab, llama_cpp.llama_vocab_get_attr
        texts = []
        for token in range(self._facts.vocab_size):
            if attr_of(vocab, token) & whole:
                texts.append(llama_cpp.llama_vocab_get_text(vocab, token))
            if token % LOOKED_UP_AT_ONCE == 0:
                yield []
        self._parts[parse_special] = TextParts(texts, words=self._cuts_words)

    def _one_token(self, text: str) -> int | None:
        """The token that stands for all of the text, if there is one."""
        tokens = self.tokenize(text, True)
        return tokens[0] if len(tokens) == 1 else None


def _views(batch: Any, rows: int) -> tuple[Any, Any, Any, Any]:
    """The batch's arrays as numpy views: filling them through ctypes costs five times as much."""
    # Each row belongs to one sequence, always; llama_batch_init leaves this uninitialised.
    np.ctypeslib.as_array(batch.n_seq_id, (rows,))[:] = 1
    return (
        np.ctypeslib.as_array(batch.token, (rows,)),
        np.ctypeslib.as_array(batch.pos, (rows,)),
        [np.ctypeslib.as_array(batch.seq_id[at], (1,)) for at in range(rows)],
        np.ctypeslib.as_array(batch.logits, (rows,)),
    )


def _decode_failure(code: int, rows: int) -> DecodeFailed:
    """The codes of llama_decode, llama.h: 1 no slot, 2 aborted, -1 bad batch, < -1 fatal."""
    if code == 1:
        return DecodeFailed(f"no free cells for {rows} tokens", retry_smaller=True)
    return DecodeFailed(f"llama_decode of {rows} rows returned {code}", retry_smaller=False)
