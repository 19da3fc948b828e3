"""The frame decoder: any stream of bytes is maps or one fatal, coded fault, however it is cut.

Byte 0 says how long the pieces are that the rest arrives in.
"""

from __future__ import annotations

from qwend.errors import RemoteProtocolError
from qwend.wire import limits
from qwend.wire.frame import FrameReader, decode_payload, encode_frame
from tests.wire.vectors import refused, vectors

CODES = {"bad_frame", "frame_too_large", "too_complex"}
LIMIT_BYTES = 16 * 1024


def run(data: bytes) -> None:
    if not data:
        return
    pieces, stream = max(1, data[0]), data[1:]
    whole = outcomes(stream, len(stream) or 1)
    assert outcomes(stream, pieces) == whole


def outcomes(stream: bytes, piece_bytes: int) -> list[str]:
    """What the stream is, as text: NaN is not equal to itself."""
    reader = FrameReader(LIMIT_BYTES)
    found: list[str] = []
    for start in range(0, len(stream), piece_bytes):
        reader.feed(stream[start : start + piece_bytes])
        try:
            while (payload := reader.next_payload()) is not None:
                found.append(decoded(payload))
        except RemoteProtocolError as error:
            assert error.fatal
            assert error.code in CODES
            return [*found, f"{error.code}: {error}"]
        assert len(reader) < LIMIT_BYTES + limits.LENGTH_BYTES
    return found


def decoded(payload: bytes) -> str:
    """The map in it; sent again it is the same map. Raises: RemoteProtocolError."""
    fields = decode_payload(payload)
    # A float of 4 bytes goes out with 8.
    again = encode_frame(fields, limit_bytes=3 * LIMIT_BYTES)
    assert repr(decode_payload(again[limits.LENGTH_BYTES :])) == repr(fields)
    return repr(fields)


def seeds() -> list[bytes]:
    frames = [*(one.frame for one in vectors()), *(one.frame for one in refused())]
    return [*(b"\x03" + frame for frame in frames), b"\xff" + b"".join(frames)]
