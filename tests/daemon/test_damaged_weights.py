"""Weights that are no numbers are found before the daemon says that it is ready (row E4)."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.store import guide_path
from tests.support.daemon import DEADLINE_S, started_daemon

NAN = b"\xff\x7f"
"""As a half-precision number: the scale of a block of Q8_0 (ggml-common.h, block_q8_0)."""


@pytest.mark.llama
@pytest.mark.row("E4")
@pytest.mark.parametrize("tensor", ["blk.0.attn_q.weight", "blk.2.ffn_down.weight"])
def test_one_block_that_is_no_number_fails_the_start_with_the_reason(
    tmp_path: Path, tensor: str
) -> None:
    data = bytearray(guide_path().read_bytes())
    header = read_header(GgufFile(io.BytesIO(data), len(data)))
    at = header.data_offset + header.tensors[tensor].offset
    data[at : at + len(NAN)] = NAN
    model = tmp_path / "model.gguf"
    model.write_bytes(data)
    with started_daemon("--model", str(model), QWEND_ENGINE_BACKEND="llama") as daemon:
        assert daemon.process.wait(DEADLINE_S) == 1, daemon.log
        assert "its file is damaged; download it again" in daemon.log
        assert "qwend INFO: ready" not in daemon.log
        assert "Traceback" not in daemon.log
