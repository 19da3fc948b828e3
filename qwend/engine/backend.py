"""What the engine needs of a model: the one Protocol that llama.cpp and the script both implement.

Rule 1: all calls come from the one engine thread; a llama context is not thread safe.
Rule 2: every index is checked on our side before the call: llama.cpp ends the process on ordinary
mistakes, so a wrong seq_id must become an EngineBug here, not an abort there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from qwend.engine.batch import Batch
from qwend.engine.request import SamplingParams
from qwend.engine.template import PLAIN, ChatFormat
from qwend.errors import QwendError


class DecodeFailed(QwendError):
    """The model refused this batch. `retry_smaller`: less rows, or less cells in use, may work."""

    code = "model_error"

    def __init__(self, message: str, *, retry_smaller: bool) -> None:
        super().__init__(message)
        self.retry_smaller = retry_smaller


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is true of the loaded model and its context for as long as they live.

    cells: KV cells of all sequences together, in tokens.
    train_context: the longest sequence the model was trained for, in tokens.
    batch_rows: the most rows in one step. sequences: seq_ids are 0 .. sequences-1.
    outputs: the most rows of a step that may want logits; one for each sequence at least.
    can_trim: the end of a sequence can be removed (not so for recurrent memory).
    chatml: the vocabulary has ChatML's control tokens. chat_format: which kind of ChatML.
    name: the model's own name, for messages about it.
    description: further facts for `status`, shown and never acted on.
    """

    vocab_size: int
    cells: int
    train_context: int
    batch_rows: int
    sequences: int
    can_trim: bool
    chatml: bool
    description: dict[str, Any]
    chat_format: ChatFormat = PLAIN
    name: str = ""
    outputs: int = 1


class Sampler(Protocol):
    """The state of one sequence's sampling: penalties, random numbers. Who opens it closes it."""

    def sample(self, output: int) -> int:
        """Choose the next token from row `output` of the last batch, and remember it."""

    def sample_kept(self, logits: Any) -> int:
        """The same from what `keep_logits` gave."""

    def close(self) -> None: ...


class Backend(Protocol):
    @property
    def facts(self) -> ModelFacts: ...

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        """Token ids. parse_special: control tokens written in the text become control tokens."""

    def tokenize_parts(self, text: str, parse_special: bool) -> Iterator[list[int]]:
        """The same ids, part by part: each takes some milliseconds, however long the text is.

        Raises: RequestError at a part that would take longer.
        """

    def token_bytes(self, token: int) -> bytes:
        """The bytes a token stands for; empty for control tokens."""

    def ends_answer(self, token: int) -> bool: ...

    def decode(self, batch: Batch) -> None:
        """Put the rows into the cells and compute logits where they are wanted.

        Raises: DecodeFailed; the cells are then as they were before the call.
        """

    def keep_logits(self, output: int) -> Any:
        """A copy of the logits of row `output` of the last batch, for `sample_kept`."""

    def open_sampler(
        self, params: SamplingParams, prompt: tuple[int, ...], answer: tuple[int, ...] = ()
    ) -> Sampler:
        """prompt: the tokens that penalties look back on besides the answer's own.

        answer: tokens that another sampler with these parameters has chosen; it goes on as that
        one would.
        """

    def share(self, source: int, target: int, count: int) -> None:
        """Let sequence `target` own the first `count` cells of `source` too. Nothing is copied."""

    def trim(self, seq_id: int, keep: int) -> None:
        """Free all cells of the sequence from position `keep` on; 0 empties it."""

    def save(self, seq_id: int) -> bytes:
        """The sequence's cells as bytes, for `restore` into the same model and settings."""

    def restore(self, seq_id: int, blob: bytes) -> bool:
        """Fill the empty sequence from `save`'s bytes; False: refused, the sequence is empty."""

    def set_threads(self, threads: int) -> None:
        """Compute with so many threads from the next step on, at most as many as were planned."""

    def close(self) -> None: ...
