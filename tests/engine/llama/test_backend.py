"""LlamaBackend keeps what the Backend protocol promises, on a model of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwend.engine.backend import DecodeFailed
from qwend.engine.batch import Batch, Row
from qwend.engine.calibration import calibrate
from qwend.engine.llama.backend import LlamaBackend
from qwend.errors import EngineBug
from tests.support.engine import Clock
from tests.support.tiny_model import (
    CONTROL_TOKENS,
    END,
    IM_END,
    VOCAB_SIZE,
    feed,
    filled,
    logits,
    opened,
)

pytestmark = pytest.mark.llama
TEXT = b"a prefix of some length, then"
NEXT = b" more of it"


def undisturbed(backend: LlamaBackend) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The logits after TEXT and NEXT in sequence 0, which is empty again afterwards."""
    feed(backend, 0, TEXT)
    values: np.ndarray[tuple[int], np.dtype[np.float32]] = logits(
        backend, feed(backend, 0, NEXT, len(TEXT))
    )
    backend.trim(0, 0)
    return values


# Tokens


@pytest.mark.parametrize("special", [False, True])
def test_text_is_its_bytes(backend: LlamaBackend, special: bool) -> None:
    text = "Grüße 世界 😀\n\0\t  end"
    tokens = backend.tokenize(text, special)
    assert b"".join(map(backend.token_bytes, tokens)) == text.encode()


def test_every_byte_is_a_token(backend: LlamaBackend) -> None:
    assert [backend.token_bytes(token) for token in range(256)] != [b""] * 256
    assert {backend.token_bytes(token) for token in range(256)} == {
        bytes((byte,)) for byte in range(256)
    }


@pytest.mark.parametrize("control", CONTROL_TOKENS)
def test_a_control_token_is_one_only_where_that_is_asked_for(
    backend: LlamaBackend, control: str
) -> None:
    expected = END + CONTROL_TOKENS.index(control)
    assert backend.tokenize(f"a{control}b", True)[1] == expected
    assert max(backend.tokenize(f"a{control}b", False)) < END
    assert backend.token_bytes(expected) == b""


def test_lone_surrogates_become_question_marks(backend: LlamaBackend) -> None:
    tokens = backend.tokenize("a\udc80b", False)
    assert b"".join(map(backend.token_bytes, tokens)) == b"a?b"


@pytest.mark.row("A6")
def test_a_million_newlines_are_tokenized(backend: LlamaBackend) -> None:
    assert len(backend.tokenize("\n" * 1_000_000, False)) == 1_000_000


def test_only_end_tokens_end_an_answer(backend: LlamaBackend) -> None:
    ends = {token for token in range(VOCAB_SIZE) if backend.ends_answer(token)}
    assert IM_END in ends
    assert all(token >= END for token in ends)


# Cells


@pytest.mark.row("C3")
def test_save_trim_restore_continues_as_if_undisturbed(backend: LlamaBackend) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT)
    blob = backend.save(0)
    backend.trim(0, 0)
    feed(backend, 2, b"something else has taken the cells meanwhile")
    assert backend.restore(1, blob)
    assert filled(backend, 1) == len(TEXT)
    again = logits(backend, feed(backend, 1, NEXT, len(TEXT)))
    np.testing.assert_array_equal(again, expected)


def test_a_restored_sequence_that_is_cut_back_continues_as_if_undisturbed(
    backend: LlamaBackend,
) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT + b" and a tail that is cut off")
    blob = backend.save(0)
    backend.trim(0, 0)
    assert backend.restore(1, blob)
    backend.trim(1, len(TEXT))
    again = logits(backend, feed(backend, 1, NEXT, len(TEXT)))
    np.testing.assert_allclose(again, expected, atol=1e-3)


def test_shared_cells_continue_as_if_undisturbed(backend: LlamaBackend) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT + b" and a tail of its own")
    backend.share(0, 1, len(TEXT))
    assert filled(backend, 1) == len(TEXT)
    again = logits(backend, feed(backend, 1, NEXT, len(TEXT)))
    np.testing.assert_allclose(again, expected, atol=1e-3)


def test_the_owner_of_shared_cells_may_leave(backend: LlamaBackend) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT)
    backend.share(0, 1, len(TEXT))
    backend.trim(0, 0)
    again = logits(backend, feed(backend, 1, NEXT, len(TEXT)))
    np.testing.assert_array_equal(again, expected)


@pytest.mark.row("F10")
def test_logits_beside_three_others_are_the_logits_alone(backend: LlamaBackend) -> None:
    texts = [b"one", b"another text", b"a third", b"and the fourth one"]
    alone = []
    for text in texts:
        alone.append(logits(backend, feed(backend, 0, text)))
        backend.trim(0, 0)
    for seq_id, text in enumerate(texts):
        feed(backend, seq_id, text[:-1])
    rows = [Row(text[-1], len(text) - 1, seq_id, True) for seq_id, text in enumerate(texts)]
    backend.decode(Batch(tuple(rows)))
    for output, expected in enumerate(alone):
        np.testing.assert_allclose(logits(backend, output), expected, atol=1e-3)


def test_a_batch_that_finds_no_room_is_refused_and_changes_nothing(
    backend: LlamaBackend,
) -> None:
    cells = backend.facts.cells
    feed(backend, 0, bytes(cells - 5))
    with pytest.raises(DecodeFailed) as refused:
        feed(backend, 1, b"too long for it")
    assert refused.value.retry_smaller
    assert filled(backend, 0) == cells - 5
    assert filled(backend, 1) == 0
    feed(backend, 1, b"fits!")
    backend.trim(0, 0)
    feed(backend, 2, bytes(cells - 5))


def test_a_position_that_leaves_a_gap_is_refused_and_changes_nothing(
    backend: LlamaBackend,
) -> None:
    feed(backend, 0, TEXT)
    with pytest.raises(DecodeFailed) as refused:
        backend.decode(Batch((Row(1, len(TEXT) + 3, 0, True),)))
    assert not refused.value.retry_smaller
    assert filled(backend, 0) == len(TEXT)
    feed(backend, 0, NEXT, len(TEXT))


@pytest.mark.parametrize("seq_id", [-1, 4, 1 << 20])
def test_a_sequence_that_is_none_is_our_bug_and_not_an_abort(
    backend: LlamaBackend, seq_id: int
) -> None:
    feed(backend, 0, TEXT)
    blob = backend.save(0)
    for call in (
        lambda: backend.decode(Batch((Row(1, 0, seq_id, True),))),
        lambda: backend.trim(seq_id, 0),
        lambda: backend.save(seq_id),
        lambda: backend.restore(seq_id, blob),
        lambda: backend.share(0, seq_id, 1),
        lambda: backend.share(seq_id, 1, 1),
    ):
        with pytest.raises(EngineBug, match="no sequence"):
            call()


@pytest.mark.parametrize("rows", [0, 33])
def test_a_batch_of_a_wrong_size_is_our_bug_and_not_an_abort(
    backend: LlamaBackend, rows: int
) -> None:
    with pytest.raises(EngineBug, match="rows"):
        backend.decode(Batch(tuple(Row(1, at, 0, False) for at in range(rows))))


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE, 1 << 40])
def test_the_bytes_of_a_token_that_is_none_are_our_bug(backend: LlamaBackend, token: int) -> None:
    with pytest.raises(EngineBug, match="vocabulary"):
        backend.token_bytes(token)


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE])
def test_a_row_with_a_token_that_is_none_is_refused(backend: LlamaBackend, token: int) -> None:
    with pytest.raises(DecodeFailed):
        backend.decode(Batch((Row(token, 0, 0, True),)))
    feed(backend, 0, TEXT)


def test_calibration_leaves_the_cells_empty(backend: LlamaBackend) -> None:
    calibrate(backend, Clock(per_call_s=0.001))
    assert filled(backend, 0) == 0


def test_a_context_smaller_than_a_step_never_gets_a_larger_batch(tiny_model: Path) -> None:
    # llama.cpp cuts n_batch to the context and ends the process on a larger batch.
    with opened(tiny_model, cells=256, ubatch=1024) as backend:
        assert backend.facts.batch_rows <= backend.facts.cells
        feed(backend, 0, bytes(backend.facts.cells))
