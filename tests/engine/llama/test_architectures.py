"""Qwen3 and the hybrids of Qwen3.5's kind: what the backend promises holds for each of them, and
what a recurrent layer cannot do is refused (random weights; llama.cpp of llama-cpp-python 0.3.36).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwend.engine.backend import DecodeFailed
from qwend.engine.batch import Batch, Row
from qwend.engine.llama.backend import LlamaBackend
from qwend.errors import EngineBug
from tests.engine.llama.test_blobs import outcomes
from tests.support.tiny_model import feed, filled, logits, opened
from tests.support.tiny_qwen3 import ARCHITECTURES, HYBRID, write_tiny

pytestmark = pytest.mark.llama
TEXT = b"a prefix of some length, then"
NEXT = b" more of it"
# Of logits with a spread of 4: a recurrent layer adds up in another order in a chunk of rows than
# row by row (up to 2e-4 here, qwen3next).
CLOSE = 2e-3


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name: str = request.param
    return write_tiny(tmp_path_factory.mktemp("model") / f"{name}.gguf", name)


@pytest.fixture(scope="module", params=HYBRID)
def hybrid_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name: str = request.param
    return write_tiny(tmp_path_factory.mktemp("model") / f"{name}.gguf", name)


@pytest.fixture
def backend(model: Path) -> Iterator[LlamaBackend]:
    with opened(model) as backend:
        yield backend


@pytest.fixture
def hybrid(hybrid_model: Path) -> Iterator[LlamaBackend]:
    with opened(hybrid_model) as backend:
        yield backend


def undisturbed(backend: LlamaBackend) -> Any:
    """The logits after TEXT and NEXT in sequence 0, which is empty again afterwards."""
    feed(backend, 0, TEXT)
    values = logits(backend, feed(backend, 0, NEXT, len(TEXT)))
    backend.trim(0, 0)
    return values


def test_the_facts_say_what_the_model_cannot_have(model: Path) -> None:
    with opened(model) as backend:
        facts = backend.facts
        assert facts.can_trim == (model.stem not in HYBRID)
        assert bool(facts.description["without"]) == (model.stem in HYBRID)
        assert facts.name == f"tiny {model.stem}"
        assert facts.chat_format.thinks


def test_save_empty_restore_continues_as_if_undisturbed(backend: LlamaBackend) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT)
    blob = backend.save(0)
    backend.trim(0, 0)
    assert filled(backend, 0) == 0
    feed(backend, 2, b"something else has taken the cells meanwhile")
    assert backend.restore(1, blob)
    assert filled(backend, 1) == len(TEXT)
    again = logits(backend, feed(backend, 1, NEXT, len(TEXT)))
    np.testing.assert_array_equal(again, expected)


def test_a_sequence_shared_as_a_whole_goes_on_in_both(backend: LlamaBackend) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT)
    backend.share(0, 1, len(TEXT))
    for seq_id in (1, 0):
        again = logits(backend, feed(backend, seq_id, NEXT, len(TEXT)))
        np.testing.assert_allclose(again, expected, atol=CLOSE)


def test_the_owner_of_what_was_shared_may_leave(backend: LlamaBackend) -> None:
    expected = undisturbed(backend)
    feed(backend, 0, TEXT)
    backend.share(0, 1, len(TEXT))
    backend.trim(0, 0)
    again = logits(backend, feed(backend, 1, NEXT, len(TEXT)))
    np.testing.assert_array_equal(again, expected)


def test_four_that_share_a_prefix_go_on_together_and_each_as_if_alone(
    backend: LlamaBackend,
) -> None:
    words = [b"one", b"two", b"six", b"ten"]
    alone = []
    for word in words:
        alone.append(logits(backend, feed(backend, 0, TEXT + word)))
        backend.trim(0, 0)
    feed(backend, 0, TEXT)
    for seq_id in (1, 2, 3):
        backend.share(0, seq_id, len(TEXT))
    for at in range(3):
        rows = [Row(word[at], len(TEXT) + at, seq, at == 2) for seq, word in enumerate(words)]
        backend.decode(Batch(tuple(rows)))
    for output, expected in enumerate(alone):
        np.testing.assert_allclose(logits(backend, output), expected, atol=CLOSE)


def test_decode_rows_beside_prefill_of_any_length_have_the_logits_they_have_alone(
    backend: LlamaBackend,
) -> None:
    texts = [b"one", b"another text", b"a third", b"and the fourth one"]
    alone = []
    for text in texts:
        alone.append(logits(backend, feed(backend, 0, text)))
        backend.trim(0, 0)
    for seq_id in (0, 1):
        feed(backend, seq_id, texts[seq_id][:-1])
    rows = [Row(texts[seq][-1], len(texts[seq]) - 1, seq, True) for seq in (0, 1)]
    for seq in (2, 3):
        rows += [
            Row(token, at, seq, at == len(texts[seq]) - 1) for at, token in enumerate(texts[seq])
        ]
    backend.decode(Batch(tuple(rows)))
    outputs = [index for index, row in enumerate(rows) if row.wants_logits]
    for output, expected in zip(outputs, alone, strict=True):
        found = logits(backend, output)
        np.testing.assert_allclose(found, expected, atol=CLOSE)
        assert found.argmax() == expected.argmax()


def test_a_batch_that_finds_no_room_changes_nothing_of_any_sequence(model: Path) -> None:
    with opened(model, cells=256) as backend:
        cells = backend.facts.cells
        feed(backend, 0, bytes(cells - 5))
        feed(backend, 1, b"ab")
        before = backend.save(0), backend.save(1)
        rows = [Row(3, cells - 5, 0, True), *(Row(1, 2 + at, 1, at == 9) for at in range(10))]
        with pytest.raises(DecodeFailed) as refused:
            backend.decode(Batch(tuple(rows)))
        assert refused.value.retry_smaller
        assert (backend.save(0), backend.save(1)) == before


def test_a_blob_that_finds_no_room_is_refused_and_leaves_nothing(model: Path) -> None:
    with opened(model, cells=256) as backend:
        count = backend.facts.cells // 2 + 10
        feed(backend, 0, bytes(count))
        blob = backend.save(0)
        assert not backend.restore(1, blob)
        assert filled(backend, 1) == 0
        assert backend.save(0) == blob
        backend.trim(0, 0)
        assert backend.restore(1, blob)
        assert filled(backend, 1) == count


def test_a_damaged_blob_or_one_of_another_memory_or_setting_is_refused(
    model: Path, tmp_path: Path
) -> None:
    def blob_of(path: Path, **settings: Any) -> bytes:
        with opened(path, **settings) as backend:
            feed(backend, 0, TEXT)
            blob: bytes = backend.save(0)
            return blob

    good = blob_of(model)
    cut = [good[:length] for length in range(0, len(good), len(good) // 20)]
    flipped = [
        good[:at] + bytes((good[at] ^ 4,)) + good[at + 1 :] for at in range(0, len(good), 997)
    ]
    other = "qwen3" if model.stem in HYBRID else "qwen35"
    others = [
        blob_of(model, flash_attention="on", kv_type="q8_0"),
        blob_of(write_tiny(tmp_path / "other.gguf", other)),
    ]
    assert outcomes(model, [good]) == ["taken"]
    assert set(outcomes(model, [*cut, *flipped, *others])) == {"refused"}


@pytest.mark.parametrize("settings", [{"flash_attention": "on"}, {"threads": 2, "cpus": ()}])
def test_other_settings_give_the_same_tokens(model: Path, settings: dict[str, Any]) -> None:
    with opened(model) as backend:
        expected = undisturbed(backend)
    with opened(model, **settings) as backend:
        found = undisturbed(backend)
    np.testing.assert_allclose(found, expected, atol=0.05)  # f16 sums in another order
    assert found.argmax() == expected.argmax()


# Recurrent layers


def test_a_recurrent_state_cannot_be_cut_and_stays_as_it_was(hybrid: LlamaBackend) -> None:
    expected = undisturbed(hybrid)
    feed(hybrid, 0, TEXT)
    with pytest.raises(EngineBug, match="cannot be cut"):
        hybrid.trim(0, 5)
    again = logits(hybrid, feed(hybrid, 0, NEXT, len(TEXT)))
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("count", [1, 5, len(TEXT) - 1, len(TEXT) + 1])
def test_a_part_of_a_recurrent_state_cannot_be_shared(hybrid: LlamaBackend, count: int) -> None:
    # llama.cpp does it without a word, and the target goes on from the state of the whole.
    feed(hybrid, 0, TEXT)
    with pytest.raises(EngineBug, match="as a whole"):
        hybrid.share(0, 1, count)
    assert filled(hybrid, 1) == 0


# Outputs


def test_more_rows_with_logits_than_there_are_buffers_for_is_our_bug_and_not_an_abort(
    backend: LlamaBackend,
) -> None:
    rows = [Row(1, at, seq, True) for seq in range(3) for at in range(3)]
    with pytest.raises(EngineBug, match="9 rows with logits; 8 is the most"):
        backend.decode(Batch(tuple(rows)))
    feed(backend, 0, TEXT)
