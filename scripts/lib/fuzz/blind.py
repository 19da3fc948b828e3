"""Changing good inputs at random, without a look at what that reaches."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random

from scripts.lib.fuzz.hunt import Hunt

# Where lengths and counts wrap, or are one too many.
ODD = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**63,
    2**64 - 1,
)
CHANGES = 8
"""At most so many to one input: of more, the first is what is refused."""


def hunt_blindly(hunt: Hunt, seconds: float, seed: int) -> None:
    """Try changed seeds for so long."""
    chance = Random(seed)
    pool = [seed for seed in hunt.target.seeds() if seed] + [
        path.read_bytes() for path in hunt.target.found
    ]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        hunt(mutated(chance, pool))


def mutated(chance: Random, pool: Sequence[bytes]) -> bytes:
    data = bytearray(chance.choice(pool))
    for _ in range(chance.randint(1, CHANGES)):
        _change(chance, data, pool)
    return bytes(data)


def _change(chance: Random, data: bytearray, pool: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    some = chance.choice((1, 1, 2, 4, 8, 32))
    match chance.randrange(7):
        case 0:
            if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
        case 1:
            data[at : at + some] = chance.randbytes(some)
        case 2:
            data[at:at] = chance.randbytes(some)
        case 3:
            del data[at : at + some]
        case 4:
            data[at:at] = data[at : at + 4 * some]
        case 5:
            size = chance.choice((1, 2, 4, 8))
            number = chance.choice(ODD) % 256**size
            data[at : at + size] = number.to_bytes(size, chance.choice(("big", "little")))
        case _:
            other = chance.choice(pool)
            data[at:] = other[chance.randrange(len(other)) :]
