"""The frames that each version of qwend sent and took, recorded: `recorded/VERSION.txt`.

A line is `> OP HEX` for what a client sends, `< OP HEX` for what a daemon does. A file is never
changed after its version is released; what is in it must be understood for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("recorded")


@dataclass(frozen=True, slots=True)
class Recorded:
    op: str
    frame: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    version: str
    from_clients: tuple[Recorded, ...]
    from_daemons: tuple[Recorded, ...]

    def __str__(self) -> str:
        return self.version


def recordings() -> list[Recording]:
    return [_read(path) for path in sorted(FOLDER.glob("*.txt"))]


def _read(path: Path) -> Recording:
    sides: dict[str, list[Recorded]] = {">": [], "<": []}
    for line in path.read_text().splitlines():
        side, op, frame = line.split(" ")
        sides[side].append(Recorded(op, bytes.fromhex(frame)))
    return Recording(path.stem, tuple(sides[">"]), tuple(sides["<"]))
