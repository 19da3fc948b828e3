"""The thread that reads the weights: what it read, or why it could not, comes to who asks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qwend.engine.llama.bindings import llama_cpp
from qwend.engine.llama.weights_reader import SWITCH_S, WeightsReader
from qwend.engine.settings import EngineStart
from qwend.errors import ModelError


def test_what_was_read_is_a_model_and_its_progress_was_told(guide_model: Path) -> None:
    told: list[float] = []
    model, _ = WeightsReader(EngineStart("llama", str(guide_model)), told.append).weights()
    try:
        assert llama_cpp.llama_model_n_layer(model) > 0
    finally:
        llama_cpp.llama_model_free(model)
    assert told
    assert told == sorted(told)


def test_why_it_could_not_be_read_is_raised_to_who_asks(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(60))
    reader = WeightsReader(EngineStart("llama", str(broken)), lambda fraction: None)
    with pytest.raises(ModelError, match="cannot load"):
        reader.weights()


def test_threads_take_turns_quickly_while_it_reads_and_as_before_afterwards(
    guide_model: Path,
) -> None:
    usual = sys.getswitchinterval()
    reader = WeightsReader(EngineStart("llama", str(guide_model)), lambda fraction: None)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    model, _ = reader.weights()
    llama_cpp.llama_model_free(model)
    assert sys.getswitchinterval() == pytest.approx(usual)
