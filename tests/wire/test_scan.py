"""The look at the type bytes: what is too complex never becomes objects."""

from __future__ import annotations

import struct
import time
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwend.errors import RemoteProtocolError
from qwend.wire import limits
from qwend.wire.frame import decode_payload
from qwend.wire.scan import check_payload
from tests.wire.strategies import anything

PEAK_BYTES = 8 * 1024 * 1024
SLOW_S = 0.1
"""Processor time: 8-25 ms measured on a 2-core x86-64 VM; the rest is for slower machines."""


def array(entries: int) -> bytes:
    return b"\xdd" + struct.pack(">I", entries)


def in_map(value: bytes) -> bytes:
    return b"\x81\xa1x" + value


def refusal(payload: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        check_payload(payload)
    return caught.value


TOO_COMPLEX = {
    "one container too many": in_map(array(9_999) + b"\x90" * 9_999),
    "1 MiB of empty arrays": in_map(array(1_000_000) + b"\x90" * 1_000_000),
    "empty arrays within the array limit": in_map(array(131_072) + b"\x90" * 131_072),
    "empty maps": in_map(array(131_072) + b"\x80" * 131_072),
    "arrays of arrays": in_map(array(900) + (b"\xdc\x00\x64" + b"\x90" * 100) * 900),
    "33 levels": in_map(b"\x91" * 31 + b"\x90"),
    "1,024 levels": in_map(b"\x91" * 1_024 + b"\x90"),
    "100,000 levels": in_map(b"\x91" * 100_000 + b"\x90"),
    "100,000 levels of maps": b"\x81\xa0" * 100_000 + b"\xc0",
    "an array one too long": in_map(array(131_073) + b"\x00" * 131_073),
    "a long array without its entries": in_map(array(2**32 - 1)),
    "long arrays inside one another": in_map(array(131_072) * 30),
    "many arrays of full length": in_map(b"\x92" + (array(131_072) + b"\x00" * 131_072) * 2),
    "a map one too large": b"\xde\x04\x01" + b"".join(msgpack.packb(n) * 2 for n in range(1_025)),
    "2^20 repeated keys": b"\xdf\x00\x10\x00\x00" + b"\xa0\x00" * 2**20,
    "one string too many": in_map(array(65_536) + b"\xa0" * 65_536),
}
ALLOWED = {
    "9,998 empty arrays": in_map(array(9_998) + b"\x90" * 9_998),
    "9,998 empty maps": in_map(array(9_998) + b"\x80" * 9_998),
    "32 levels": in_map(b"\x91" * 30 + b"\x90"),
    "131,072 small integers": in_map(array(131_072) + b"\x01" * 131_072),
    "131,072 token ids": in_map(array(131_072) + b"\xce\x00\x02\x00\x00" * 131_072),
    "116,000 floats": in_map(array(116_000) + b"\xcb\x3f\xf8\0\0\0\0\0\0" * 116_000),
    "65,535 strings": in_map(array(65_535) + b"\xa2ab" * 65_535),
    "65,535 wide strings": in_map(array(65_535) + b"\xa5a\xf0\x9f\x98\x80" * 65_535),
    "strings and ids": in_map(
        array(131_072) + b"\xa2ab" * 65_535 + b"\xce\x00\x02\x00\x00" * 65_537
    ),
    "9,000 maps of five": in_map(array(9_000) + msgpack.packb(dict.fromkeys("abcde", 0)) * 9_000),
    "one long text": in_map(b"\xdb" + struct.pack(">I", 2**20 - 20) + b"x" * (2**20 - 20)),
    "one long wide text": in_map(
        b"\xdb" + struct.pack(">I", 2**20 - 16) + b"x" * (2**20 - 20) + "😀".encode()
    ),
    "1,024 keys": b"\xde\x04\x00" + b"".join(msgpack.packb(n) * 2 for n in range(1_024)),
}


@pytest.mark.row("A4")
@pytest.mark.parametrize("payload", TOO_COMPLEX.values(), ids=TOO_COMPLEX.keys())
def test_a_complex_frame_is_refused_without_memory_or_time(payload: bytes) -> None:
    tracemalloc.start()
    try:
        error = refusal(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (error.code, error.fatal) == ("too_complex", True)
    assert peak < 64 * 1024
    started = time.process_time()
    refusal(payload)
    assert time.process_time() - started < SLOW_S


@pytest.mark.row("A4")
@pytest.mark.parametrize("payload", ALLOWED.values(), ids=ALLOWED.keys())
def test_the_largest_frames_allowed_stay_within_memory_and_time(payload: bytes) -> None:
    assert len(payload) <= limits.FRAME_BYTES
    tracemalloc.start()
    try:
        decode_payload(payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < PEAK_BYTES

    def seconds() -> float:
        started = time.process_time()
        decode_payload(payload)
        return time.process_time() - started

    assert min(seconds() for _ in range(3)) < SLOW_S


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "empty"),
        (b"\x90", "starts with byte 0x90"),
        (b"\xa1x", "starts with byte 0xa1"),
        (b"\xdc\x00\x00", "starts with byte 0xdc"),
        (in_map(b"\xc1"), "0xc1"),
        (in_map(b"\xd4\x01\x00"), "extension"),
        (in_map(b"\xd6\xff\x00\x00\x00\x00"), "extension"),
        (in_map(b"\xc7\x00\x01"), "extension"),
        (in_map(b"\xc9\xff\xff\xff\xff\x01"), "extension"),
        (in_map(b""), "middle of a value"),
        (in_map(b"\xcb\x00"), "middle of a value"),
        (in_map(b"\xd9"), "middle of a value"),
        (in_map(b"\xda\x00"), "middle of a value"),
        (in_map(b"\xdb\xff\xff\xff\xff"), "middle of a value"),
        (in_map(b"\xa3ab"), "middle of a value"),
        (in_map(b"\xdd\x00\x00"), "middle of a value"),
        (in_map(b"\x00\x00"), "1 bytes follow"),
    ],
)
def test_what_is_no_single_map_is_a_bad_frame(payload: bytes, said: str) -> None:
    error = refusal(payload)
    assert (error.code, error.fatal) == ("bad_frame", True)
    assert said in str(error)


@pytest.mark.parametrize(
    "value",
    [
        *(b"\x00", b"\x7f", b"\xe0", b"\xff", b"\xc0", b"\xc2", b"\xc3"),
        *(b"\xcc\x01", b"\xcd\0\x01", b"\xce\0\0\0\x01", b"\xcf\0\0\0\0\0\0\0\x01"),
        *(b"\xd0\x01", b"\xd1\0\x01", b"\xd2\0\0\0\x01", b"\xd3\0\0\0\0\0\0\0\x01"),
        *(b"\xca\0\0\0\0", b"\xcb\0\0\0\0\0\0\0\0"),
        *(b"\xa0", b"\xa1x", b"\xd9\x01x", b"\xda\0\x01x", b"\xdb\0\0\0\x01x"),
        *(b"\xc4\x01x", b"\xc5\0\x01x", b"\xc6\0\0\0\x01x"),
        *(b"\x90", b"\x91\x01", b"\xdc\0\x01\x01", b"\xdd\0\0\0\x01\x01"),
        *(b"\x80", b"\x81\xa0\x01", b"\xde\0\x01\xa0\x01", b"\xdf\0\0\0\x01\xa0\x01"),
    ],
    ids=lambda value: value[:1].hex(),
)
def test_every_form_of_a_value_passes_whole_and_only_whole(value: bytes) -> None:
    check_payload(in_map(value))
    check_payload(b"\x82\xa1x" + value + b"\xa1y" + value)
    assert refusal(in_map(value)[:-1]).code == "bad_frame"
    assert refusal(in_map(value) + b"\x00").code == "bad_frame"


@given(st.dictionaries(st.text(max_size=5), anything, max_size=5))
def test_whatever_the_packer_makes_of_a_small_map_passes(fields: dict[str, object]) -> None:
    check_payload(msgpack.packb(fields))


@given(st.binary(max_size=200))
def test_the_scan_agrees_with_the_unpacker(tail: bytes) -> None:
    payload = b"\x81\xa1x" + tail
    try:
        check_payload(payload)
    except RemoteProtocolError:
        return
    # What passes is complete and plain: only the text inside may still be wrong.
    msgpack.unpackb(
        payload, raw=True, strict_map_key=False, object_pairs_hook=list, list_hook=tuple
    )
