"""Restores blobs one after the other, in a process of its own: llama.cpp may end it.

Usage: python -m tests.support.blob_trial MODEL < blobs (msgpack list of bytes)
Prints for each blob: "refused", "taken", or "refused, not empty".
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgpack

from tests.support.tiny_model import feed, filled, opened


def main() -> None:
    blobs: list[bytes] = msgpack.unpackb(sys.stdin.buffer.read())
    with opened(Path(sys.argv[1])) as backend:
        feed(backend, 0, b"a neighbour, whose cells must stay")
        before = backend.save(0)
        for blob in blobs:
            if backend.restore(1, blob):
                outcome = "taken"
            else:
                outcome = "refused" if filled(backend, 1) == 0 else "refused, not empty"
            backend.trim(1, 0)
            assert backend.save(0) == before, "a restore changed a neighbour's cells"
            print(outcome, flush=True)


if __name__ == "__main__":
    main()
