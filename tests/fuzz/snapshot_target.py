"""The snapshot container, as bytes and as a file of the directory: whole, or refused and removed.

Byte 0, bit 0: the right SHA-256 follows. Bit 1: the file has the name that its header asks for, if
it has a header.
"""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from qwend.engine.snapshot import (
    MAGIC,
    PREAMBLE,
    VERSION,
    Header,
    Snapshot,
    SnapshotError,
    encode,
    read,
    read_header,
    read_tokens,
)
from qwend.engine.snapshot_files import SnapshotFiles

FINGERPRINT = b"model"


def run(data: bytes) -> None:
    if not data:
        return
    summed, named = data[0] & 1, data[0] & 2
    content = data[1:]
    if summed:
        content += hashlib.sha256(content).digest()
    found = outcome(content)
    if found is not None:
        again = b"".join(encode(found))
        assert outcome(again) == found
    look_at_the_file(content, found, named=bool(named))


def outcome(content: bytes) -> Snapshot | None:
    try:
        return read(io.BytesIO(content))
    except SnapshotError as error:
        assert str(error)
        return None


def look_at_the_file(content: bytes, whole: Snapshot | None, *, named: bool) -> None:
    """A scan takes or removes it and ends well; the read gives the blob only if all is right."""
    directory = Path(place().name)
    with closing(SnapshotFiles(directory, FINGERPRINT)) as files:
        name = files.info(0, (), 0, 0).name  # one of ours, and of something else
        with suppress(SnapshotError, OverflowError):
            file = io.BytesIO(content)
            header = read_header(file)
            if named:
                tokens = read_tokens(file, header)
                name = files.info(header.uid, tokens, header.blob_bytes, 0).name
        (directory / name).write_bytes(content)
        taken = [info for info, _ in files.scan()]
        assert [info.name for info in taken] == os.listdir(directory)
        for info in taken:
            assert info.header.fingerprint == FINGERPRINT
            blob = files.read(info)
            assert blob == (None if whole is None else whole.blob)
            files.unlink(info)
    assert not os.listdir(directory)


@cache
def place() -> TemporaryDirectory[str]:
    """One directory for all runs, gone with the process."""
    return TemporaryDirectory(prefix="qwend-fuzz-")


def seeds() -> list[bytes]:
    found = [b"", b"\1" + PREAMBLE.pack(MAGIC, VERSION, 0)]
    for uid, tokens, blob in (
        (1000, (1, 2, 3), b"cells"),
        (-1, (), b""),
        # A number of 8 bytes.
        (2**33, (-1, 2**31 - 1), bytes(300)),
    ):
        header = Header(uid, len(tokens), FINGERPRINT, len(blob), 1_700_000_000)
        content = b"".join(encode(Snapshot(header, tokens, blob)))
        found += [b"\2" + content, b"\3" + content[:-32], b"\1" + content[:-32]]
    return found
