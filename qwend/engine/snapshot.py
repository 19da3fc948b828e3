"""Snapshot container: one idle sequence as a file that is whole or refused.

Owns the layout and its checks. Knows nothing of directories or of what the blob means. Never
llama.cpp's own state files: reading those aborts on a short file and takes flipped bits for good.

| part | bytes |
|---|---|
| magic, version, length of the header | 8, 4, 4 (little endian, as all numbers) |
| header: a msgpack map, see `Header` | at most HEADER_LIMIT |
| tokens | 4 each, int32 |
| blob | as the header says |
| SHA-256 of all the above | 32 |
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO

import msgpack

from qwend.errors import QwendError

MAGIC = b"qwendkv\n"
VERSION = 1
PREAMBLE = struct.Struct("<8sII")
DIGEST_BYTES = 32
# Ours is about 120 bytes with a fingerprint of 32.
HEADER_LIMIT = 1024
# The longest context of any Qwen is 1,010,000 tokens (Qwen2.5-1M).
TOKENS_LIMIT = 1 << 20
# uids of Linux, and PUBLIC_UID.
UIDS = range(-1, 2**32 - 1)
# Hashed and written at a time, so that the GIL is free in between and the hash reads what is
# still in the CPU's cache.
PIECE_BYTES = 1 << 20


class SnapshotError(QwendError):
    """The bytes are no snapshot, or not the one that was written. `str()` says how it shows."""

    code = "snapshot"


@dataclass(frozen=True, slots=True)
class Header:
    """What a snapshot says of itself.

    fingerprint: of the model, the build and the KV types; nothing else can use the blob.
    created_s: Unix time.
    """

    uid: int
    token_count: int
    fingerprint: bytes
    blob_bytes: int
    created_s: int

    def packed(self) -> bytes:
        """Everything before the tokens."""
        body = bytes(msgpack.packb(asdict(self)))
        return PREAMBLE.pack(MAGIC, VERSION, len(body)) + body

    def file_bytes(self) -> int:
        """Size of the whole snapshot."""
        return len(self.packed()) + 4 * self.token_count + self.blob_bytes + DIGEST_BYTES


@dataclass(frozen=True, slots=True)
class Snapshot:
    header: Header
    tokens: tuple[int, ...]
    blob: bytes


def encode(snapshot: Snapshot) -> Iterator[bytes | memoryview]:
    """The container in pieces of at most PIECE_BYTES (the tokens whole); the blob is not copied.

    Raises: SnapshotError if header, tokens and blob do not belong together.
    """
    header, count = snapshot.header, len(snapshot.tokens)
    if (header.token_count, header.blob_bytes) != (count, len(snapshot.blob)):
        raise SnapshotError("the header is of another snapshot")
    digest = hashlib.sha256()
    blob = memoryview(snapshot.blob)
    head = header.packed(), struct.pack(f"<{count}i", *snapshot.tokens)
    for piece in head:
        digest.update(piece)
        yield piece
    for start in range(0, len(blob), PIECE_BYTES):
        part = blob[start : start + PIECE_BYTES]
        digest.update(part)
        yield part
    yield digest.digest()


def read_header(file: BinaryIO) -> Header:
    """Read the header, leave `file` at the first token. Only what shows without the checksum is
    checked: every length against the size of the file, before anything is allocated for it.

    Raises: SnapshotError, OSError.
    """
    return _read_header(file)[0]


def read_tokens(file: BinaryIO, header: Header) -> tuple[int, ...]:
    """Read the tokens that follow the header. Raises: SnapshotError, OSError."""
    return _unpack_tokens(_exactly(file, 4 * header.token_count))


def read(file: BinaryIO) -> Snapshot:
    """Read and check all of it. Raises: SnapshotError, OSError."""
    header, raw_header = _read_header(file)
    raw_tokens = _exactly(file, 4 * header.token_count)
    blob = _exactly(file, header.blob_bytes)
    digest = hashlib.sha256(raw_header)
    digest.update(raw_tokens)
    digest.update(blob)
    if _exactly(file, DIGEST_BYTES) != digest.digest():
        raise SnapshotError("its SHA-256 is wrong")
    return Snapshot(header, _unpack_tokens(raw_tokens), blob)


def _read_header(file: BinaryIO) -> tuple[Header, bytes]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    preamble = _exactly(file, PREAMBLE.size)
    magic, version, length = PREAMBLE.unpack(preamble)
    if magic != MAGIC:
        raise SnapshotError("it does not begin as a snapshot does")
    if version != VERSION:
        raise SnapshotError(f"its version is {version}, not {VERSION}")
    if length > HEADER_LIMIT:
        raise SnapshotError(f"its header is {length} bytes long, the limit is {HEADER_LIMIT}")
    body = _exactly(file, length)
    header = _unpack_header(body)
    wanted = PREAMBLE.size + length + 4 * header.token_count + header.blob_bytes + DIGEST_BYTES
    if size != wanted:
        raise SnapshotError(f"it is {size} bytes long, its header says {wanted}")
    return header, preamble + body


def _unpack_header(body: bytes) -> Header:
    try:
        # Counts within are bounded by the length of the body (msgpack's default).
        found: Any = msgpack.unpackb(body)
    except (ValueError, msgpack.UnpackException) as error:
        raise SnapshotError(f"its header is not msgpack: {error}") from error
    names = {each.name for each in fields(Header)}
    if not isinstance(found, dict) or set(found) != names:
        raise SnapshotError("its header has other fields")
    fingerprint = found.pop("fingerprint")
    if not isinstance(fingerprint, bytes) or any(
        type(value) is not int for value in found.values()
    ):
        raise SnapshotError("a field of its header is of the wrong type")
    header = Header(fingerprint=fingerprint, **found)
    if not 0 <= header.token_count <= TOKENS_LIMIT or header.blob_bytes < 0:
        raise SnapshotError("a length in its header is out of range")
    if header.uid not in UIDS:
        raise SnapshotError(f"its header says uid {header.uid}, which is none")
    return header


def _unpack_tokens(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(raw) // 4}i", raw)


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise SnapshotError(f"it ends {count - len(data)} bytes too early")
    return data
