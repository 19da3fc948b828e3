"""The snapshot container: what was written comes back, and nothing else does."""

from __future__ import annotations

import hashlib
import io
import random
import tracemalloc
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.engine.snapshot import (
    DIGEST_BYTES,
    HEADER_LIMIT,
    MAGIC,
    PIECE_BYTES,
    PREAMBLE,
    TOKENS_LIMIT,
    VERSION,
    Header,
    Snapshot,
    SnapshotError,
    encode,
    read,
    read_header,
    read_tokens,
)


def snapshot_of(tokens: tuple[int, ...] = (1, 2, 3), blob: bytes = b"cells") -> Snapshot:
    return Snapshot(Header(1000, len(tokens), b"model", len(blob), 1_700_000_000), tokens, blob)


def encoded(snapshot: Snapshot) -> bytes:
    return b"".join(encode(snapshot))


GOOD = encoded(snapshot_of())


def refused(data: bytes) -> str:
    with pytest.raises(SnapshotError) as caught:
        read(io.BytesIO(data))
    return str(caught.value)


def with_header(fields: Any, *, tail: bytes = b"") -> bytes:
    """A file whose checksum is right, whatever its header says."""
    body = fields if isinstance(fields, bytes) else bytes(msgpack.packb(fields))
    start = PREAMBLE.pack(MAGIC, VERSION, len(body)) + body + tail
    return start + hashlib.sha256(start).digest()


FIELDS = {"uid": 1, "token_count": 0, "fingerprint": b"", "blob_bytes": 0, "created_s": 0}


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1)).map(tuple),
    st.binary(),
    st.binary(max_size=64),
    st.sampled_from((-1, 0, 1000, 2**32 - 2)),
)
def test_what_was_written_comes_back(
    tokens: tuple[int, ...], blob: bytes, fingerprint: bytes, uid: int
) -> None:
    header = Header(uid, len(tokens), fingerprint, len(blob), 1_700_000_000)
    data = encoded(Snapshot(header, tokens, blob))
    assert len(data) == header.file_bytes()
    assert read(io.BytesIO(data)) == Snapshot(header, tokens, blob)
    file = io.BytesIO(data)
    assert read_header(file) == header
    assert read_tokens(file, header) == tokens


@pytest.mark.row("C3")
def test_every_flipped_bit_is_refused() -> None:
    for at in range(len(GOOD)):
        for bit in range(8):
            bad = bytearray(GOOD)
            bad[at] ^= 1 << bit
            refused(bytes(bad))


@pytest.mark.row("C3")
def test_ten_thousand_times_some_flipped_bits_are_refused() -> None:
    good = encoded(snapshot_of(tuple(range(300)), bytes(range(256)) * 8))
    chance = random.Random(3)
    for _ in range(10_000):
        bad = bytearray(good)
        for place in chance.sample(range(8 * len(good)), chance.randint(1, 8)):
            bad[place // 8] ^= 1 << place % 8
        refused(bytes(bad))


@pytest.mark.row("C3")
def test_every_truncation_is_refused_the_empty_file_too() -> None:
    for length in range(len(GOOD)):
        refused(GOOD[:length])
        if length < len(GOOD) - DIGEST_BYTES:
            with pytest.raises(SnapshotError):
                read_header(io.BytesIO(GOOD[:length]))


@given(st.binary(min_size=1))
def test_whatever_is_appended_is_refused(tail: bytes) -> None:
    assert "bytes long" in refused(GOOD + tail)
    with pytest.raises(SnapshotError):
        read_header(io.BytesIO(GOOD + tail))


@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_refused(data: bytes, as_header: bool) -> None:
    refused(with_header(data) if as_header else data)


@pytest.mark.row("C3")
@given(st.data())
def test_bytes_cut_out_doubled_or_overwritten_are_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD) - 1))
    end = data.draw(st.integers(start + 1, len(GOOD)))
    replacement = data.draw(st.one_of(st.just(GOOD[start:end] * 2), st.binary(max_size=40)))
    bad = GOOD[:start] + replacement + GOOD[end:]
    if bad != GOOD:
        refused(bad)


def test_the_blob_is_not_copied_and_comes_in_small_pieces() -> None:
    blob = bytes(2 * PIECE_BYTES + 5)
    pieces = list(encode(snapshot_of(blob=blob)))
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert [len(view) for view in views] == [PIECE_BYTES, PIECE_BYTES, 5]
    assert all(view.obj is blob for view in views)


def test_a_header_of_another_snapshot_is_not_written() -> None:
    snapshot = snapshot_of()
    for wrong in ({"tokens": (1, 2)}, {"blob": b"cell"}):
        with pytest.raises(SnapshotError):
            next(encode(replace(snapshot, **wrong)))


@pytest.mark.row("C3")
@pytest.mark.parametrize(
    "change",
    [
        {"token_count": -1},
        {"token_count": True},
        {"token_count": 1.0},
        {"token_count": TOKENS_LIMIT + 1},
        {"token_count": 2**63},
        {"blob_bytes": 2**63},
        {"blob_bytes": -1},
        {"blob_bytes": None},
        {"uid": "root"},
        {"uid": True},
        {"uid": 2**64 - 1},
        {"uid": 2**32 - 1},
        {"uid": -2},
        {"fingerprint": "text"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_hostile_header_with_a_right_checksum_is_refused(change: dict[str, Any]) -> None:
    assert read(io.BytesIO(with_header(FIELDS))).tokens == ()
    refused(with_header({**FIELDS, **change}))


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\x90", b"\x91" * 900])
def test_a_header_that_is_no_map_is_refused(body: bytes) -> None:
    refused(with_header(body))


def test_a_missing_field_is_refused() -> None:
    for name in FIELDS:
        refused(with_header({key: value for key, value in FIELDS.items() if key != name}))


def test_a_header_over_the_limit_is_not_read() -> None:
    assert "limit" in refused(with_header({**FIELDS, "fingerprint": bytes(HEADER_LIMIT)}))


@pytest.mark.row("C3")
def test_lengths_that_the_file_does_not_have_cost_no_memory() -> None:
    claims = with_header({**FIELDS, "blob_bytes": 1 << 40, "token_count": TOKENS_LIMIT})
    long_header = PREAMBLE.pack(MAGIC, VERSION, 0xFFFFFFFF) + bytes(100)
    tracemalloc.start()
    refused(claims)
    refused(long_header)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_more_tokens_than_any_context_has_are_refused() -> None:
    count = TOKENS_LIMIT + 1
    assert "range" in refused(with_header({**FIELDS, "token_count": count}, tail=bytes(4 * count)))


def test_another_magic_is_refused_even_with_a_right_checksum() -> None:
    start = b"QWENDKV\n" + GOOD[len(MAGIC) : -DIGEST_BYTES]
    assert "begin" in refused(start + hashlib.sha256(start).digest())


def test_another_version_is_named() -> None:
    bad = PREAMBLE.pack(MAGIC, VERSION + 1, 0) + GOOD[PREAMBLE.size :]
    assert f"version is {VERSION + 1}" in refused(bad)
