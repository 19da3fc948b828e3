"""No file may cost more than 5 s or 64 MiB, or end in anything but a ModelError."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwend.errors import ModelError
from qwend.models import GgufFacts, check_gguf
from qwend.models.gguf import MAX_FIELDS, MAX_STRINGS, MAX_TENSORS
from qwend.models.vocabulary_check import MAX_VOCABULARY
from tests.models.support.gguf_builder import number, string, strings, text, tiny_model, u32, u64

LIMIT_S = 5.0
LIMIT_BYTES = 64 << 20

pytestmark = pytest.mark.row("E3")


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Fails if the body allocates more than promised; what was there before does not count."""
    tracemalloc.start()
    yield
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < LIMIT_BYTES


@contextlib.contextmanager
def bounded_time() -> Iterator[None]:
    start = time.process_time()  # the promise is about work, not about company on the machine
    yield
    assert time.process_time() - start < LIMIT_S


def bounded_outcome(data: bytes) -> GgufFacts | str:
    """The check runs twice: measuring memory slows it down by a factor of its own."""
    with bounded_time():
        outcome(data)
    with bounded_memory():
        return outcome(data)


def outcome(data: bytes, size: int | None = None) -> GgufFacts | str:
    try:
        return check_gguf(io.BytesIO(data), len(data) if size is None else size, path="m")
    except ModelError as error:
        return str(error)


def write_sparse(path: Path, start: bytes, size: int) -> Path:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


def refused(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with bounded_time(), bounded_memory(), pytest.raises(ModelError) as caught:
            check_gguf(descriptor, path.stat().st_size, path=path.name)
    finally:
        os.close(descriptor)
    return str(caught.value)


def test_every_truncation_is_refused() -> None:
    data = tiny_model().build()
    for length in range(len(data)):
        assert isinstance(outcome(data[:length]), str), f"cut to {length} of {len(data)}"


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    data = tiny_model().build()
    for length in range(0, len(tiny_model().header()) - 32, 7):
        assert "became shorter" in str(outcome(data[:length], size=len(data)))


def test_2000_random_changes_end_in_facts_or_a_model_error() -> None:
    data, header = tiny_model().build(), len(tiny_model().header())
    source = random.Random(2026)
    refusals = 0
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(source.choice([1, 1, 1, 2, 8])):
            changed[source.randrange(header)] = source.randrange(256)
        refusals += isinstance(outcome(bytes(changed)), str)
    assert refusals > 500, "most changes of lengths, types and counts must be noticed"


def test_random_bytes_after_the_counts_end_in_a_model_error() -> None:
    source = random.Random(7)
    for _ in range(500):
        start = b"GGUF" + struct.pack("<IQQ", 3, source.randrange(9), source.randrange(9))
        assert isinstance(outcome(start + b"\1" + source.randbytes(400)), str)


@pytest.mark.parametrize("count", [10**9, 2**63, 2**64 - 1])
def test_a_billion_fields_or_tensors_are_not_counted(tmp_path: Path, count: int) -> None:
    fields = b"GGUF" + u32(3) + u64(0) + u64(count)
    tensors = b"GGUF" + u32(3) + u64(count) + u64(0)
    for start in (fields, tensors):
        assert "limit" in refused(write_sparse(tmp_path / "m", start, 100 << 30))


def test_a_100_gib_string_is_not_read(tmp_path: Path) -> None:
    start = b"GGUF" + u32(3) + u64(0) + u64(1)
    as_key = start + u64(100 << 30)
    as_value = start + text("general.architecture") + u32(8) + u64(99 << 30)
    assert "limit is 256" in refused(write_sparse(tmp_path / "m", as_key, 101 << 30))
    assert "has no" not in refused(write_sparse(tmp_path / "m", as_value, 101 << 30))


@pytest.mark.parametrize("kind", [0, 8, 12])
def test_a_100_gib_array_is_not_read(tmp_path: Path, kind: int) -> None:
    count = 10**9 if kind == 8 else 10**10
    start = b"GGUF" + u32(3) + u64(0) + u64(1) + text("a") + u32(9) + u32(kind) + u64(count)
    assert "header" in refused(write_sparse(tmp_path / "m", start, 100 << 30))


def test_a_model_that_goes_on_for_100_gib_behind_its_end_is_not_given_to_the_engine(
    tmp_path: Path,
) -> None:
    # llama.cpp reads all of a file into memory as it maps it: a minute, and the page cache.
    data = tiny_model().build()
    said = refused(write_sparse(tmp_path / "m", data, 100 << 30))
    assert f"the last tensor at byte {len(data)}: " in said
    assert "bytes come behind it" in said
    for padding in (1, 4096, 1 << 20):
        assert isinstance(outcome(data + bytes(padding)), GgufFacts)


@pytest.mark.parametrize(
    "key", ["general.architecture", "general.type", "tokenizer.ggml.model", "qwen2.\x1b[2J" * 20]
)
def test_of_a_long_text_a_message_quotes_little(key: str) -> None:
    # As long as a text may be: the client's frames are a MiB at most.
    for value in ("a" * 1_000_000, "qwen2" + "\x1b]0;x\7" * 100_000):
        model = tiny_model()
        model.fields[key] = string(value)
        said = outcome(model.build())
        if isinstance(said, str):
            assert said.isprintable()
            assert len(said) < 1_000


def test_strings_that_fill_100_gib_are_not_walked(tmp_path: Path) -> None:
    # Each string starts a new window: the walk would read 250 KB for each of two million.
    count = MAX_STRINGS
    start = b"GGUF" + u32(3) + u64(0) + u64(1) + text("a") + u32(9) + u32(8) + u64(count)
    path = write_sparse(tmp_path / "m", start, 600 << 30)
    with path.open("r+b") as file:
        for index in range(1100):
            file.seek(len(start) + index * 262_152)
            file.write(u64(262_144))
    assert "header is larger" in refused(path)


def test_as_many_strings_as_allowed_are_walked_in_time() -> None:
    start = b"GGUF" + u32(3) + u64(0) + u64(1) + text("a") + u32(9) + u32(8) + u64(MAX_STRINGS)
    assert "'general.architecture'" in str(bounded_outcome(start + bytes(8 * MAX_STRINGS)))


def test_as_many_tokens_as_allowed_are_compared_in_time() -> None:
    model = tiny_model()
    model.fields["tokenizer.ggml.tokens"] = strings([str(n) for n in range(MAX_VOCABULARY)])
    del model.fields["tokenizer.ggml.token_type"]
    assert "'token_embd.weight'" in str(bounded_outcome(model.build()))


def test_one_token_too_many_is_refused() -> None:
    model = tiny_model()
    model.fields["tokenizer.ggml.tokens"] = strings([""] * (MAX_VOCABULARY + 1))
    assert f"{MAX_VOCABULARY + 1} tokens, 1 to" in str(bounded_outcome(model.build()))


def test_as_many_fields_and_tensors_as_allowed_are_kept_in_bounds() -> None:
    fields = b"".join(
        text(f"{n:0256d}") + u32(9) + u32(8) + u64(1) + text("") for n in range(MAX_FIELDS)
    )
    tensors = b"".join(
        text(f"{n:063d}") + u32(4) + u64(1) * 4 + u32(0) + u64(32 * n) for n in range(MAX_TENSORS)
    )
    start = b"GGUF" + u32(3) + u64(MAX_TENSORS) + u64(MAX_FIELDS)
    data = start + fields + tensors + bytes(32 + 32 * MAX_TENSORS)
    assert "has no 'general.architecture'" in str(bounded_outcome(data))


def test_a_huge_declared_layer_count_is_not_believed() -> None:
    model = tiny_model()
    model.fields["qwen2.block_count"] = number(2**32 - 1)
    assert "outside of 1 to 512" in str(bounded_outcome(model.build()))
