"""Flash attention is measured on contexts of its own, which are gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwend.engine.llama import flash_attention
from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.llama.flash_attention import measured_flash_attention
from qwend.engine.llama.loading import load_model, open_context
from tests.support.engine import Clock
from tests.support.tiny_model import settings

pytestmark = pytest.mark.llama


@pytest.fixture
def model(tiny_model: Path) -> Iterator[Any]:
    affinity = os.sched_getaffinity(0)
    loaded = load_model(settings(tiny_model), lambda _fraction: None)
    yield loaded
    llama_cpp.llama_model_free(loaded)
    os.sched_setaffinity(0, affinity)


class Slow(Clock):
    """A clock of a machine on which one of the two choices takes longer."""

    def __init__(self, opened: list[str], slow: str) -> None:
        super().__init__()
        self.opened, self.slow = opened, slow

    def __call__(self) -> float:
        self.now += 0.002 if self.opened[-1] == self.slow else 0.001
        return self.now


@pytest.mark.parametrize(("slow", "chosen"), [("on", "off"), ("off", "on")])
def test_the_quicker_is_chosen_and_each_is_measured_once(
    model: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, slow: str, chosen: str
) -> None:
    opened: list[str] = []

    def noted(model: Any, small: Any) -> Any:
        opened.append(small.flash_attention)
        return open_context(model, small)

    monkeypatch.setattr(flash_attention, "open_context", noted)
    choice = measured_flash_attention(model, settings(tiny_model), Slow(opened, slow))
    assert choice == chosen
    assert sorted(opened) == ["off", "on"]


def test_the_deep_step_sees_about_a_thousand_cells_and_the_shallow_one_a_hundred(
    model: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    decode = llama_cpp.llama_decode

    def noted(context: Any, batch: Any) -> Any:
        code = decode(context, batch)
        # The state of a sequence is as large as the cells that it owns.
        seen.append(llama_cpp.llama_state_seq_get_size(context, 0))
        return code

    monkeypatch.setattr(llama_cpp, "llama_decode", noted)
    measured_flash_attention(model, settings(tiny_model), Clock(per_call_s=0.001))
    chunk, shallow, deep = seen[0], seen[1], seen[flash_attention.REPEATS + 1]
    assert shallow / chunk == pytest.approx(3, rel=0.1)
    assert deep / chunk == pytest.approx(32, rel=0.1)


def test_a_start_is_not_held_up_by_a_machine_that_is_too_slow_to_measure(
    model: Any, tiny_model: Path
) -> None:
    clock = Clock(per_call_s=flash_attention.LONGEST_CHUNK_S + 0.1)
    assert measured_flash_attention(model, settings(tiny_model), clock) is None
