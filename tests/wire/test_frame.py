"""Frames: cutting the stream, and what one frame may be."""

from __future__ import annotations

import tracemalloc

import pytest

from qwend.errors import LocalProtocolError, RemoteProtocolError
from qwend.wire import limits
from qwend.wire.frame import FrameReader, decode_payload, encode_frame
from tests.wire.vectors import Vector, vectors


def read_all(reader: FrameReader) -> list[bytes]:
    return list(iter(reader.next_payload, None))


@pytest.mark.row("A1")
@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_a_frame_split_anywhere_is_the_same_frame(vector: Vector) -> None:
    for cut in range(len(vector.frame) + 1):
        reader = FrameReader(limits.FRAME_BYTES)
        reader.feed(vector.frame[:cut])
        before = read_all(reader)
        reader.feed(vector.frame[cut:])
        assert before + read_all(reader) == [vector.frame[4:]]
        assert len(reader) == 0


@pytest.mark.row("A1")
def test_bytes_that_come_one_by_one_are_frames_in_the_end() -> None:
    frames = [vector.frame for vector in vectors()]
    reader = FrameReader(limits.FRAME_BYTES)
    payloads = []
    for byte in b"".join(frames):
        reader.feed(bytes([byte]))
        payloads += read_all(reader)
    assert payloads == [frame[4:] for frame in frames]


@pytest.mark.row("A1")
def test_a_thousand_frames_in_one_read_are_a_thousand_frames() -> None:
    frame = encode_frame({"op": "ping"})
    reader = FrameReader(limits.FRAME_BYTES)
    reader.feed(frame * 1000 + frame[:5])
    assert read_all(reader) == [frame[4:]] * 1000
    assert len(reader) == 5


@pytest.mark.row("A1", "A3")
@pytest.mark.parametrize(
    ("length", "code"),
    [
        (0, "bad_frame"),
        (17, "frame_too_large"),
        (2**31, "frame_too_large"),
        (2**32 - 1, "frame_too_large"),
    ],
)
def test_a_length_out_of_bounds_is_refused_at_its_fourth_byte(length: int, code: str) -> None:
    header = length.to_bytes(4, "big")
    reader = FrameReader(16)
    reader.feed(header[:3])
    assert reader.next_payload() is None
    reader.feed(header[3:])
    with pytest.raises(RemoteProtocolError) as caught:
        reader.next_payload()
    assert (caught.value.code, caught.value.fatal) == (code, True)


def test_a_payload_of_exactly_the_limit_passes() -> None:
    reader = FrameReader(16)
    reader.feed(b"\0\0\0\x10" + b"x" * 16)
    assert reader.next_payload() == b"x" * 16


@pytest.mark.row("A3")
def test_a_huge_length_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        readers = [FrameReader(limits.FRAME_BYTES) for _ in range(100)]
        for reader in readers:
            reader.feed((limits.FRAME_BYTES).to_bytes(4, "big"))
            assert reader.next_payload() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 1024


@pytest.mark.row("A3")
@pytest.mark.parametrize("received", [0, 1, 1_000, 60_000, 1_000_000])
def test_a_frame_that_is_awaited_takes_the_memory_that_has_come_of_it(received: int) -> None:
    reader = FrameReader(limits.FRAME_BYTES)
    tracemalloc.start()
    try:
        reader.feed(limits.FRAME_BYTES.to_bytes(4, "big"))
        for start in range(0, received, 1_000):
            reader.feed(bytes(min(1_000, received - start)))
            assert reader.next_payload() is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A bytearray grows by an eighth more than it needs, and by twice that while it moves.
    assert peak <= 2 * received + received // 4 + 64 * 1024


@pytest.mark.row("A1")
@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_every_truncated_payload_is_refused(vector: Vector) -> None:
    payload = vector.frame[4:]
    for end in range(len(payload)):
        with pytest.raises(RemoteProtocolError) as caught:
            decode_payload(payload[:end])
        assert (caught.value.code, caught.value.fatal) == ("bad_frame", True)


@pytest.mark.row("A1")
@pytest.mark.parametrize("vector", vectors(), ids=str)
def test_bytes_after_the_map_are_refused(vector: Vector) -> None:
    for rest in (b"\x00", b"\xc1", vector.frame):
        with pytest.raises(RemoteProtocolError, match="follow the map"):
            decode_payload(vector.frame[4:] + rest)


def test_a_repeated_key_is_refused_by_name() -> None:
    with pytest.raises(RemoteProtocolError, match="'op' stands twice") as caught:
        decode_payload(b"\x82\xa2op\x01\xa2op\x01")
    assert caught.value.fatal


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_invalid_utf_8_is_named_as_such(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not valid UTF-8") as caught:
        decode_payload(b"\x81\xa1x" + bytes([0xA0 + len(text)]) + text)
    assert (caught.value.code, caught.value.fatal) == ("bad_frame", True)


@pytest.mark.parametrize("key", [b"\x90", b"\x80", b"\x91\x90"])
def test_a_key_that_cannot_be_a_key_is_refused(key: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not a MessagePack map"):
        decode_payload(b"\x81" + key + b"\x01")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"text": "\ud800"}, "invalid_value"),
        ({"text": object()}, "internal"),
        ({"number": 2**64}, "internal"),
        ({"text": "x" * limits.FRAME_BYTES}, "frame_too_large"),
    ],
)
def test_what_cannot_be_sent_is_our_own_fault(fields: dict[str, object], code: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_frame(fields)
    assert caught.value.code == code
