"""Row E3: llama.cpp's own handcrafted files, and the built-in model changed, cut and shifted.

The names are those of tests/test-gguf.cpp of llama.cpp (0c1e57098), the changes are made to a file
that is right otherwise. What the engine does with what passes is not shown here.
"""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qwend.errors import ModelError
from qwend.models import GgufFacts, check_gguf
from qwend.models.gguf import read_header
from qwend.models.gguf_file import GgufFile
from qwend.models.store import guide_path
from tests.models.support.gguf_builder import (
    GgufBuilder,
    TensorSpec,
    number,
    string,
    text,
    tiny_model,
    u32,
    u64,
)
from tests.support.tiny_model import opened

pytestmark = pytest.mark.row("E3")
CHANGES = int(os.environ.get("QWEND_TEST_GGUF_CHANGES", "2000"))
"""Random changes to the built-in model's header; a night's run sets 100,000."""
LOADS = int(os.environ.get("QWEND_TEST_LOADS", "20"))
"""Of those that pass, how many the engine is given; a night's run sets 1,000."""
STEP_BYTES = 4096
LIMIT_BYTES = 64 << 20

Change = Callable[[GgufBuilder], object]


def tensor(spec: TensorSpec, name: str = "t") -> Change:
    return lambda model: model.tensors.update({name: spec})


def fields(**values: int) -> Change:
    def change(model: GgufBuilder) -> None:
        for name, value in values.items():
            setattr(model, name, value)

    return change


def alignment(given: object, real: int = 32) -> Change:
    def change(model: GgufBuilder) -> None:
        model.alignment = real
        value = string(given) if isinstance(given, str) else number(int(str(given)))
        model.fields["general.alignment"] = value

    return change


def encoded(*field: bytes) -> Change:
    return lambda model: model.encoded_fields.append(b"".join(field))


def emptied(model: GgufBuilder) -> None:
    model.fields.clear()
    model.tensors.clear()


def duplicate_name(model: GgufBuilder) -> None:
    model.tensors["output_norm.weighu"] = TensorSpec((1,), data=bytes(4))


BAD: dict[str, Change] = {
    "HEADER_BAD_MAGIC": lambda model: None,
    "HEADER_BAD_VERSION_0": fields(version=0),
    "HEADER_BAD_VERSION_1": fields(version=1),
    "HEADER_BAD_VERSION_FUTURE": fields(version=4),
    "HEADER_BAD_N_TENSORS": fields(tensor_count=2**63),
    "HEADER_BAD_N_KV": fields(field_count=2**63),
    "HEADER_EMPTY": emptied,  # right for ggml, and no model
    "KV_BAD_KEY_SIZE": encoded(u64(2**64 - 1), b"k", u32(4), u32(1)),
    "KV_EMPTY_KEY": encoded(text(""), u32(4), u32(1)),
    "KV_BAD_TYPE": encoded(text("k"), u32(13), u32(1)),
    "KV_BAD_VALUE_SIZE": encoded(text("k"), u32(8), u64(2**64 - 1), b"x"),
    "KV_DUPLICATE_KEY": encoded(text("general.name"), u32(8), text("twice")),
    "KV_BAD_ALIGN": alignment(13),
    "KV_WRONG_TYPE_ALIGN": alignment("32"),
    "TENSORS_BAD_NAME_SIZE": tensor(TensorSpec((1,), data=bytes(4)), "n" * 64),
    "TENSORS_BAD_N_DIMS": tensor(TensorSpec((1,) * 5, data=bytes(4))),
    "TENSORS_BAD_SHAPE": tensor(TensorSpec((2**64 - 1,), data=bytes(4))),
    "TENSORS_ZERO_DIM": tensor(TensorSpec((0,), data=bytes(4))),
    "TENSORS_NE_TOO_BIG": tensor(TensorSpec((2**32, 2**32), data=bytes(4))),
    "TENSORS_NBYTES_TOO_BIG": tensor(TensorSpec((2**31, 2**31), data=bytes(4))),
    "TENSORS_NBYTES_PAD_WRAP": tensor(TensorSpec((2**62 - 4,), type=0, data=bytes(4))),
    "TENSORS_BAD_TYPE": tensor(TensorSpec((1,), type=2**31 - 1, data=bytes(4))),
    "TENSORS_BAD_OFFSET": tensor(TensorSpec((1,), offset=2**63, data=bytes(4))),
    "TENSORS_DUPLICATE_NAME": duplicate_name,
    "TENSORS_BAD_ALIGN": alignment(0),
    "TENSORS_INCONSISTENT_ALIGN": alignment(1024),
    "DATA_NOT_ENOUGH_DATA": lambda model: None,
    "DATA_BAD_ALIGN": alignment(48),
    "DATA_INCONSISTENT_ALIGN": alignment(64),
    "DATA_MEM_SIZE_OVERFLOW": tensor(TensorSpec((2**61 - 1,), type=27, data=bytes(8))),
}
GOOD: dict[str, Change] = {
    "KV_SUCCESS": lambda model: None,
    "TENSORS_SUCCESS": tensor(TensorSpec((1,), data=bytes(4))),
    "TENSORS_CUSTOM_ALIGN": alignment(64, 64),
    "DATA_CUSTOM_ALIGN": alignment(1024, 1024),
}
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "HEADER_BAD_MAGIC": lambda data: b"GGML" + data[4:],
    "TENSORS_DUPLICATE_NAME": lambda data: data.replace(b"weighu", b"weight"),
    "DATA_NOT_ENOUGH_DATA": lambda data: data[:-1],
}


def outcome(data: bytes) -> GgufFacts | str:
    try:
        return check_gguf(io.BytesIO(data), len(data), path="m")
    except ModelError as error:
        return str(error)


@pytest.mark.parametrize("name", BAD)
def test_a_handcrafted_file_that_is_wrong_is_refused(name: str) -> None:
    model = tiny_model()
    BAD[name](model)
    assert isinstance(outcome(BYTES.get(name, bytes)(model.build())), str)


@pytest.mark.parametrize("name", GOOD)
def test_a_handcrafted_file_that_is_right_passes(name: str) -> None:
    model = tiny_model()
    GOOD[name](model)
    assert isinstance(outcome(model.build()), GgufFacts)


def test_all_of_llama_cpps_kinds_are_here() -> None:
    assert len({*BAD, *GOOD}) == 34


@pytest.fixture(scope="module")
def guide() -> bytes:
    return guide_path().read_bytes()


@pytest.fixture(scope="module")
def header_bytes(guide: bytes) -> int:
    return read_header(GgufFile(io.BytesIO(guide), len(guide))).data_offset


def test_the_built_in_model_cut_at_every_4_kib_is_refused(guide: bytes) -> None:
    cuts = range(0, len(guide), STEP_BYTES)
    assert len(cuts) > 500
    # Of the data only the length matters: the file says where it ends, and nothing is read there.
    for length in cuts:
        assert isinstance(outcome(guide[:length]), str)


def test_random_changes_of_the_built_in_models_header_are_facts_or_a_reason(
    guide: bytes, header_bytes: int
) -> None:
    seed = int(os.environ.get("QWEND_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QWEND_TEST_SEED={seed}")
    chance, changed, refused = random.Random(seed), bytearray(guide), 0
    # Most of the header is the vocabulary, where a change is a word: half go before it.
    vocabulary = guide.index(b"tokenizer.ggml.tokens")
    longest_s, peak = 0.0, 0
    for turn in range(CHANGES):
        before: dict[int, int] = {}
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            place = chance.randrange(vocabulary if chance.random() < 0.5 else header_bytes)
            before.setdefault(place, changed[place])
            changed[place] = chance.randrange(256)
        watched = turn % 100 == 0
        if watched:
            tracemalloc.start()
        begin = time.process_time()
        refused += isinstance(outcome(bytes(changed)), str)
        longest_s = max(longest_s, time.process_time() - begin)
        if watched:
            peak = max(peak, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        for place, value in before.items():
            changed[place] = value
    print(f"{refused} of {CHANGES} refused, {longest_s:.2f} s and {peak >> 20} MiB at most")
    assert refused > CHANGES // 5
    # Of which 2.3 MiB are the file itself, which is in memory here.
    assert peak < LIMIT_BYTES


def one_off(guide: bytes) -> Iterator[tuple[bytes, bool]]:
    """Files with one size or offset of a tensor one more or one less, and whether it shows.

    It does not where the padding of the tensor's data takes it up.
    """
    tensors = read_header(GgufFile(io.BytesIO(guide), len(guide))).tensors
    first = next(iter(tensors))
    begin = guide.index(u64(len(first)) + first.encode())
    for one in tensors.values():
        described = u64(len(one.name)) + one.name.encode() + u32(len(one.dims))
        at = guide.index(described, begin) + len(described)
        for place in range(at, at + 8 * len(one.dims) + 1, 8):
            # Behind the sizes the type comes, of 4 bytes, and then the offset.
            is_offset = place == at + 8 * len(one.dims)
            place += 4 * is_offset
            (value,) = struct.unpack_from("<Q", guide, place)
            for wrong in (value - 1, value + 1):
                data = guide[:place] + u64(wrong % 2**64) + guide[place + 8 :]
                grown = one.bytes // value * wrong if value and not is_offset else 0
                shows = (
                    is_offset or -(-grown // 32) != -(-one.bytes // 32) or one.type.name != "F32"
                )
                yield data, shows


def test_every_offset_and_size_of_the_built_in_model_that_is_one_off_is_refused(
    guide: bytes,
) -> None:
    seen = [(isinstance(outcome(data), str), shows) for data, shows in one_off(guide)]
    assert len(seen) > 200
    assert all(refused for refused, shows in seen if shows)


@pytest.mark.llama
def test_what_only_the_engine_can_see_of_a_tensors_size_is_a_model_error(
    guide: bytes, tmp_path: Path
) -> None:
    hidden = [data for data, shows in one_off(guide) if not shows]
    assert 0 < len(hidden) < 100
    path = tmp_path / "m.gguf"
    for data in hidden[:: len(hidden) // 3]:
        assert isinstance(outcome(data), GgufFacts)
        path.write_bytes(data)
        with pytest.raises(ModelError), opened(path):
            pass


@pytest.mark.llama
@pytest.mark.timeout(0 if LOADS > 20 else 120)
def test_what_passes_ends_no_engine(guide: bytes, header_bytes: int, tmp_path: Path) -> None:
    """Changed headers that pass are loaded by llama.cpp, each in a process of its own: it computes
    or refuses. Unchecked, one change in twenty ended the process."""
    seed = int(os.environ.get("QWEND_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"QWEND_TEST_SEED={seed}")
    chance, vocabulary = random.Random(seed), guide.index(b"tokenizer.ggml.tokens")
    paths: list[Path] = []
    while len(paths) < LOADS:
        changed = bytearray(guide)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            place = chance.randrange(vocabulary if chance.random() < 0.7 else header_bytes)
            changed[place] = chance.randrange(256)
        if isinstance(outcome(bytes(changed)), GgufFacts):
            paths.append(tmp_path / f"{len(paths)}.gguf")
            paths[-1].write_bytes(changed)
    trial = subprocess.run(
        [sys.executable, "-m", "tests.support.load_trial", *map(str, paths)],
        capture_output=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    outcomes = Counter(trial.stdout.decode().splitlines())
    print(outcomes)
    assert outcomes.total() == LOADS
    assert outcomes.keys() <= {"loaded", "refused"}


@pytest.mark.parametrize("declared", [100 << 30, 2**63 - 1])
def test_100_gib_that_a_tensor_declares_are_not_believed(tmp_path: Path, declared: int) -> None:
    model = tiny_model()
    model.tensors["t"] = TensorSpec((declared,), type=24)
    path = tmp_path / "m"
    path.write_bytes(model.build())
    with path.open("rb") as file, pytest.raises(ModelError, match="do not fit"):
        check_gguf(file, path.stat().st_size)
