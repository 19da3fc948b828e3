"""The fingerprint: the same for the same weights, another for any others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwend.models.fingerprint import SAMPLES, fingerprint


def of(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY)
    try:
        return fingerprint(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(SAMPLES * 8192))
    return path


def test_a_copy_has_the_same_fingerprint(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(weights.read_bytes())
    assert of(copy) == of(weights)


def fine_tuned(data: bytearray) -> None:
    for at in range(0, len(data), 1000):
        data[at] ^= 1


def other_head(data: bytearray) -> None:
    data[40] ^= 1


def other_end(data: bytearray) -> None:
    data[-1] ^= 1


def shorter(data: bytearray) -> None:
    del data[-1]


@pytest.mark.parametrize("change", [fine_tuned, other_head, other_end, shorter])
def test_other_weights_have_another(
    weights: Path, tmp_path: Path, change: Callable[[bytearray], None]
) -> None:
    data = bytearray(weights.read_bytes())
    change(data)
    other = tmp_path / "other"
    other.write_bytes(data)
    assert of(other) != of(weights)


def test_a_file_smaller_than_a_sample_has_one(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"x")
    assert len(of(small)) == 64
