"""Frames: a length, then one msgpack map of that many bytes.

Rule 1: everything between bytes and plain maps lives here and in `scan`.
Rule 2: this file does not know which maps are messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import msgpack  # type: ignore[import-untyped, unused-ignore]

from qwend.errors import LocalProtocolError, RemoteProtocolError
from qwend.wire import limits
from qwend.wire.scan import check_payload


def encode_frame(fields: Mapping[str, object], *, limit_bytes: int = limits.FRAME_BYTES) -> bytes:
    """Return the frame that carries `fields`.

    Raises: LocalProtocolError if a value has no msgpack form, or the peer would refuse its size.
    """
    try:
        payload = cast(bytes, msgpack.packb(fields))
    except UnicodeEncodeError as error:
        raise LocalProtocolError(
            f"text with a lone surrogate at character {error.start} has no UTF-8 form; "
            "decode input with errors='replace'",
            code="invalid_value",
        ) from error
    except (TypeError, ValueError, OverflowError) as error:
        raise LocalProtocolError(f"a value has no msgpack form: {error}") from error
    if len(payload) > limit_bytes:
        raise LocalProtocolError(
            f"the message takes {len(payload):,} bytes; a frame has at most {limit_bytes:,}",
            code="frame_too_large",
        )
    return len(payload).to_bytes(limits.LENGTH_BYTES, "big") + payload


def decode_payload(payload: bytes) -> dict[str, object]:
    """Return the map in `payload`, with memory and depth bounded by `limits`.

    Keys may be of any hashable type: that a field's name is a string, and a key of `logit_bias` an
    integer, is checked with the message, where the fault ends one request and not the connection.

    Raises: RemoteProtocolError, always fatal.
    """
    check_payload(payload)
    try:
        # A fresh unpacker for each frame: one reused after an error can crash the process
        # (GHSA-6v7p-g79w-8964). strict_map_key would refuse the integer keys of logit_bias.
        fields = msgpack.unpackb(
            payload, raw=False, strict_map_key=False, object_pairs_hook=_unique_map
        )
    except UnicodeDecodeError as error:
        raise _bad_frame("a string is not valid UTF-8; send bytes as text only when decoded") from (
            error
        )
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise _bad_frame(f"not a MessagePack map: {error}") from error
    return cast(dict[str, object], fields)


class FrameReader:
    """Cuts a byte stream into payloads.

    Between calls it holds less than `limit_bytes` + 4 bytes beyond what was last fed, provided that
    `next_payload` is called until it returns None after each `feed`.
    """

    __slots__ = ("_buffer", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        """May be changed at any time; it holds for the next frame taken out."""
        self._buffer = bytearray()

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._buffer)

    @property
    def held(self) -> bytes:
        return bytes(self._buffer)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_payload(self) -> bytes | None:
        """Take the next complete payload out; None if more bytes are needed.

        Raises: RemoteProtocolError, fatal, as soon as the four bytes of a bad length are there.
        """
        if len(self._buffer) < limits.LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[: limits.LENGTH_BYTES], "big")
        if length == 0:
            raise _bad_frame("a frame of length 0; a frame carries one map")
        if length > self.limit_bytes:
            raise RemoteProtocolError(
                f"a frame of {length:,} bytes; at most {self.limit_bytes:,} are allowed here",
                code="frame_too_large",
                fatal=True,
            )
        end = limits.LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[limits.LENGTH_BYTES : end])
        del self._buffer[:end]
        return payload

    def clear(self) -> None:
        self._buffer = bytearray()


def _unique_map(pairs: list[tuple[object, object]]) -> dict[object, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _bad_frame(f"the key {str(twice)[:60]!r} stands twice in one map")
    return result


def _bad_frame(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(what, code="bad_frame", fatal=True)
