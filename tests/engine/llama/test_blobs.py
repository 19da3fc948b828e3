"""A sequence's cells as bytes: what was damaged, cut or made elsewhere is refused (C3).

llama.cpp itself took 315 of 400 flipped bits for good, and an empty blob (2026-11).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import pytest

from qwend.engine.llama.backend import LlamaBackend
from tests.support.tiny_model import feed, filled, opened, write_tiny_model

pytestmark = pytest.mark.llama
ROOT = Path(__file__).parents[3]
TEXT = b"a prefix of some length, to be cut and damaged"


def outcomes(model: Path, blobs: list[bytes]) -> list[str]:
    """What becomes of each blob, found out in a process that may die of it."""
    trial = subprocess.run(
        [sys.executable, "-m", "tests.support.blob_trial", str(model)],
        input=msgpack.packb(blobs),
        capture_output=True,
        cwd=ROOT,
        timeout=60,
    )
    lines: list[str] = trial.stdout.decode().splitlines()
    assert trial.returncode == 0, f"died of blob {len(lines)}: {trial.stderr.decode()[-500:]}"
    assert len(lines) == len(blobs)
    return lines


def blob_from(model: Path, **settings: Any) -> bytes:
    with opened(model, **settings) as backend:
        feed(backend, 0, TEXT)
        blob: bytes = backend.save(0)
        return blob


def test_a_sound_blob_is_taken(tiny_model: Path) -> None:
    assert outcomes(tiny_model, [blob_from(tiny_model)]) == ["taken"]


@pytest.mark.row("C3")
def test_every_truncation_is_refused(tiny_model: Path) -> None:
    good = blob_from(tiny_model)
    lengths = [*range(200), *range(200, len(good), 97), len(good) - 1]
    assert set(outcomes(tiny_model, [good[:length] for length in lengths])) == {"refused"}


@pytest.mark.row("C3")
def test_every_flipped_bit_is_refused(tiny_model: Path) -> None:
    good, random = blob_from(tiny_model), Random(3)
    places = [*range(300), *(random.randrange(len(good)) for _ in range(300))]
    damaged = []
    for place in places:
        copy = bytearray(good)
        copy[place] ^= 1 << random.randrange(8)
        damaged.append(bytes(copy))
    assert set(outcomes(tiny_model, damaged)) == {"refused"}


@pytest.mark.row("C3")
def test_what_is_no_blob_is_refused(tiny_model: Path) -> None:
    good = blob_from(tiny_model)
    noise = Random(4).randbytes(5_000)
    assert set(outcomes(tiny_model, [b"", b"\0", noise, good + b"\0", good + good])) == {"refused"}


@pytest.mark.row("C3")
def test_a_blob_of_other_settings_or_another_shape_is_refused(
    tiny_model: Path, tmp_path: Path
) -> None:
    others = [
        blob_from(tiny_model, flash_attention="on"),
        blob_from(tiny_model, flash_attention="on", kv_type="q8_0"),
        blob_from(write_tiny_model(tmp_path / "wide.gguf", width=128)),
    ]
    assert set(outcomes(tiny_model, others)) == {"refused"}


def test_an_empty_sequence_gives_a_blob_that_restores_nothing(backend: LlamaBackend) -> None:
    backend.restore(1, backend.save(0))
    assert filled(backend, 1) == 0


def test_a_blob_that_finds_no_room_is_refused_and_the_neighbours_keep_their_cells(
    tiny_model: Path,
) -> None:
    with opened(tiny_model, cells=256) as backend:
        cells = backend.facts.cells
        feed(backend, 0, bytes(cells // 2 + 10))
        blob = backend.save(0)
        assert not backend.restore(1, blob)
        assert filled(backend, 1) == 0
        assert backend.save(0) == blob
        backend.trim(0, 0)
        assert backend.restore(1, blob)
        assert filled(backend, 1) == cells // 2 + 10
