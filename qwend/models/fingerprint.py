"""A model's fingerprint: tells one set of weights from another without reading all of it.

What was computed with one model must never be used with another. A hash of the whole file takes
seconds from a disk; fine-tuning changes every tensor, so samples all over the file tell as much.
"""

from __future__ import annotations

import hashlib
import os

# The metadata of a Qwen GGUF begins with what tells models apart; its vocabulary comes later and
# is the same for a family.
HEAD_BYTES = 64 * 1024
# A Qwen2.5-0.5B has 290 tensors, most of them far larger than the file divided by this.
SAMPLES = 256
SAMPLE_BYTES = 4096


def fingerprint(fd: int, size: int) -> str:
    """Hex digest of size, head and samples of an open file of `size` bytes. Raises: OSError."""
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    digest.update(os.pread(fd, HEAD_BYTES, 0))
    for sample in range(SAMPLES):
        digest.update(os.pread(fd, SAMPLE_BYTES, size * sample // SAMPLES))
    digest.update(os.pread(fd, SAMPLE_BYTES, max(0, size - SAMPLE_BYTES)))
    return digest.hexdigest()
