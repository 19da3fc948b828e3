"""The scripted backend: a model that needs no weights, for everything above the model.

It implements the whole of `Backend` with the same rules as llama.cpp (cells are finite, a position
may not be skipped, an empty sequence has nothing to go on from), and breaks them loudly: a wrong
index is an EngineBug here where it would be an abort there.

Its language is bytes: token ids 0-255 are bytes, the ids above are control tokens. It answers a
prompt with the script's text, or, without one, by repeating the last user turn.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import msgpack

from qwend.engine.backend import DecodeFailed, ModelFacts
from qwend.engine.batch import Batch
from qwend.engine.request import SamplingParams
from qwend.engine.template import PLAIN, ChatFormat
from qwend.errors import EngineBug

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FIRST_CONTROL = 256
IM_START = FIRST_CONTROL + 1
IM_END = FIRST_CONTROL + 2
PART_CHARS = 4096  # of a text that is tokenized in parts; bytes may be cut anywhere
VOCAB_SIZE = FIRST_CONTROL + len(CONTROL_TOKENS)


@dataclass(frozen=True, slots=True)
class Script:
    """What the scripted model says and how it misbehaves.

    answer: text of every answer; empty: repeat the last user turn. endless: never end an answer.
    thinks: it may reason between <think> and </think> at the beginning of an answer.
    step_s: seconds that a decode takes. die_at_step / fail_at_step / hang_at_step: the number of
    the decode (from 1) at which the process is killed, the decode refused, or never returns.
    """

    answer: str = ""
    endless: bool = False
    thinks: bool = False
    step_s: float = 0.0
    die_at_step: int = 0
    fail_at_step: int = 0
    hang_at_step: int = 0


class ScriptedSampler:
    """Follows the script for one sequence: what comes next depends on the row's sequence alone."""

    def __init__(self, backend: ScriptedBackend, params: SamplingParams, said: int) -> None:
        """said: tokens of the answer that another sampler has chosen."""
        self._backend = backend
        self._ignore_eos = params.ignore_eos
        self._said = said
        self._answer: bytes | None = None

    def sample(self, output: int) -> int:
        if self._answer is None:
            seq_id = self._backend.last_batch.rows[output].seq_id
            self._answer = self._backend.answer_to(seq_id, said=self._said)
        return self._next()

    def sample_kept(self, logits: Any) -> int:
        self._answer = logits
        return self._next()

    def _next(self) -> int:
        assert self._answer is not None
        endless = self._ignore_eos or self._backend.script.endless
        if self._said >= len(self._answer) and not endless:
            return IM_END
        token = self._answer[self._said % len(self._answer)] if self._answer else ord(".")
        self._said += 1
        return token

    def close(self) -> None:
        self._answer = None


class ScriptedBackend:
    """Cells are a list of tokens per sequence; a step that would overfill them is refused.

    As in llama.cpp a shared cell is there once, and goes when its last owner gives it up.
    """

    def __init__(
        self,
        script: Script,
        *,
        cells: int = 8192,
        batch_rows: int = 128,
        sequences: int = 8,
        can_trim: bool = True,
        outputs: int | None = None,
    ) -> None:
        """outputs: rows of a step that may want logits; None: one for each sequence."""
        self.script = script
        self._facts = ModelFacts(
            vocab_size=VOCAB_SIZE,
            cells=cells,
            train_context=cells,
            batch_rows=batch_rows,
            sequences=sequences,
            can_trim=can_trim,
            chatml=True,
            outputs=sequences if outputs is None else outputs,
            chat_format=ChatFormat(True, thinks_by_default=True) if script.thinks else PLAIN,
            name="scripted",
            description={"build": "scripted", "threads": 0, "flash_attention": False},
        )
        self.cells: dict[int, list[int]] = {seq_id: [] for seq_id in range(sequences)}
        # Which cell each of these tokens is in; a number is never used twice.
        self._places: dict[int, list[int]] = {seq_id: [] for seq_id in range(sequences)}
        self._numbers = count()
        self.last_batch = Batch(())
        self.threads = 1
        self.steps = 0

    @property
    def facts(self) -> ModelFacts:
        return self._facts

    @property
    def used_cells(self) -> int:
        return len(set().union(*self._places.values()))

    def tokenize(self, text: str, parse_special: bool) -> list[int]:
        if not parse_special:
            return list(text.encode("utf-8", "replace"))
        for at, control in enumerate(CONTROL_TOKENS):
            before, found, after = text.partition(control)
            if found:
                middle = [FIRST_CONTROL + at]
                return self.tokenize(before, True) + middle + self.tokenize(after, True)
        return list(text.encode("utf-8", "replace"))

    def tokenize_parts(self, text: str, parse_special: bool) -> Iterator[list[int]]:
        size = len(text) if parse_special else PART_CHARS
        for start in range(0, len(text), size or 1):
            yield self.tokenize(text[start : start + size], parse_special)

    def token_bytes(self, token: int) -> bytes:
        return bytes((token,)) if token < FIRST_CONTROL else b""

    def ends_answer(self, token: int) -> bool:
        return token in (FIRST_CONTROL, IM_END)

    def decode(self, batch: Batch) -> None:
        self.steps += 1
        self._misbehave()
        if not 0 < len(batch) <= self._facts.batch_rows:
            raise EngineBug(f"a batch of {len(batch)} rows")
        if len(batch.sampled_rows) > self._facts.outputs:
            raise EngineBug(f"{len(batch.sampled_rows)} rows with logits")
        if self.used_cells + len(batch) > self._facts.cells:
            raise DecodeFailed("no room in the cells", retry_smaller=True)
        for row in batch.rows:
            if row.position != len(self._owned(row.seq_id)):
                raise EngineBug(f"sequence {row.seq_id} has no position {row.position} to fill")
            self.cells[row.seq_id].append(row.token)
            self._places[row.seq_id].append(next(self._numbers))
        self.last_batch = batch

    def keep_logits(self, output: int) -> bytes:
        return self.answer_to(self.last_batch.rows[output].seq_id)

    def open_sampler(
        self, params: SamplingParams, prompt: tuple[int, ...], answer: tuple[int, ...] = ()
    ) -> ScriptedSampler:
        return ScriptedSampler(self, params, len(answer))

    def share(self, source: int, target: int, count: int) -> None:
        if self._owned(target) or count > len(self._owned(source)):
            raise EngineBug(f"cannot share {count} cells of sequence {source}")
        self.cells[target] = self.cells[source][:count]
        self._places[target] = self._places[source][:count]

    def trim(self, seq_id: int, keep: int) -> None:
        del self._owned(seq_id)[keep:]
        del self._places[seq_id][keep:]

    def save(self, seq_id: int) -> bytes:
        blob: bytes = msgpack.packb(self._owned(seq_id))
        return blob

    def restore(self, seq_id: int, blob: bytes) -> bool:
        if self._owned(seq_id):
            raise EngineBug(f"sequence {seq_id} is not empty")
        tokens = list(msgpack.unpackb(blob))
        if self.used_cells + len(tokens) > self._facts.cells:
            return False
        self.cells[seq_id] = tokens
        self._places[seq_id] = [next(self._numbers) for _ in tokens]
        return True

    def set_threads(self, threads: int) -> None:
        if threads < 1:
            raise EngineBug(f"{threads} threads")
        self.threads = threads

    def close(self) -> None:
        self.cells.clear()
        self._places.clear()

    def answer_to(self, seq_id: int, said: int = 0) -> bytes:
        """The bytes of the whole answer to what is in the cells of the sequence, of which the last
        `said` tokens are the answer's beginning."""
        if self.script.answer:
            return self.script.answer.encode()
        there = self._owned(seq_id)
        turns: list[list[int]] = []
        for token in there[: len(there) - said]:
            if token == IM_START or not turns:
                turns.append([])
            if token < FIRST_CONTROL:
                turns[-1].append(token)
        asked = [bytes(turn) for turn in turns if bytes(turn).startswith(b"user\n")]
        return asked[-1].removeprefix(b"user\n").rstrip(b"\n") if asked else bytes(turns[-1])

    def _owned(self, seq_id: int) -> list[int]:
        if seq_id not in self.cells:
            raise EngineBug(f"there is no sequence {seq_id}")
        return self.cells[seq_id]

    def _misbehave(self) -> None:
        script = self.script
        if self.steps == script.die_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.steps == script.fail_at_step:
            raise DecodeFailed("the script says so", retry_smaller=False)
        if self.steps == script.hang_at_step:
            signal.pause()
        if script.step_s:
            time.sleep(script.step_s)


def open_scripted(
    script: dict[str, Any], *, cells: int, rows: int, sequences: int
) -> ScriptedBackend:
    return ScriptedBackend(Script(**script), cells=cells, batch_rows=rows, sequences=sequences)
