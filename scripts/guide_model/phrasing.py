"""The notation of the corpus: "(a|b) is a choice, [a] may be left out, <name> is a filler".

Rule 1: parsing, drawing and matching of patterns live here and nowhere else.
Rule 2: this file does not know facts, languages or files.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

_STRUCTURE = re.compile(r"([()\[\]|]|<[a-z]+>)")
_FILLER = re.compile(r"<([a-z]+)>")


@dataclass(frozen=True, slots=True)
class Text:
    """Words that stand in every draw."""

    value: str


@dataclass(frozen=True, slots=True)
class Filler:
    """One entry of the list with this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the alternatives; an optional part has an empty alternative of half the weight."""

    alternatives: tuple[tuple[Node, ...], ...]
    optional: bool


Node = Text | Filler | Choice


@dataclass(frozen=True, slots=True)
class Pattern:
    """One parsed line of the corpus."""

    source: str
    nodes: tuple[Node, ...]

    def draw(self, rng: random.Random, fillers: Mapping[str, Sequence[str]]) -> str:
        """Return one phrasing, with the spaces tidied."""
        return " ".join(_draw(self.nodes, rng, fillers).split())

    def yields(self, text: str, fillers: Mapping[str, Sequence[str]]) -> bool:
        """Say whether a draw can be this text; text: normalised."""
        return len(text) in _ends(self.nodes, text, {0}, fillers)


def parse(source: str) -> Pattern:
    """Parse one line. Raises: ValueError for an unbalanced bracket."""
    pieces = [piece for piece in _STRUCTURE.split(source) if piece]
    nodes, rest = _sequence(pieces, 0)
    if rest != len(pieces):
        raise ValueError(f"unbalanced bracket in the pattern {source!r}")
    return Pattern(source, nodes)


@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """Fold case, keep letters, digits and $_ only: what counts as the same question."""
    return "".join(c for c in text.casefold() if c.isalnum() or c in "$_")


def _sequence(pieces: list[str], start: int) -> tuple[tuple[Node, ...], int]:
    nodes: list[Node] = []
    at = start
    while at < len(pieces) and pieces[at] not in (")", "]", "|"):
        piece = pieces[at]
        if piece in ("(", "["):
            node, at = _choice(pieces, at)
            nodes.append(node)
            continue
        filler = _FILLER.fullmatch(piece)
        nodes.append(Filler(filler[1]) if filler else Text(piece))
        at += 1
    return tuple(nodes), at


def _choice(pieces: list[str], start: int) -> tuple[Choice, int]:
    closing = ")" if pieces[start] == "(" else "]"
    alternatives = []
    at = start
    while True:
        nodes, at = _sequence(pieces, at + 1)
        alternatives.append(nodes)
        if at >= len(pieces):
            raise ValueError(f"missing {closing!r} in the pattern {''.join(pieces)!r}")
        if pieces[at] == closing:
            return Choice(tuple(alternatives), closing == "]"), at + 1
        if pieces[at] != "|":
            raise ValueError(f"unexpected {pieces[at]!r} in the pattern {''.join(pieces)!r}")


def _draw(nodes: Sequence[Node], rng: random.Random, fillers: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for node in nodes:
        if isinstance(node, Text):
            parts.append(node.value)
        elif isinstance(node, Filler):
            parts.append(rng.choice(fillers[node.name]))
        elif not node.optional or rng.random() < 0.5:
            parts.append(_draw(rng.choice(node.alternatives), rng, fillers))
    return "".join(parts)


def _ends(
    nodes: Sequence[Node], text: str, starts: set[int], fillers: Mapping[str, Sequence[str]]
) -> set[int]:
    """Return where the nodes can end if they begin at one of `starts`."""
    for node in nodes:
        if not starts:
            break
        if isinstance(node, Choice):
            ends = [_ends(inner, text, starts, fillers) for inner in node.alternatives]
            starts = set().union(*ends, starts if node.optional else ())
            continue
        options = fillers[node.name] if isinstance(node, Filler) else (node.value,)
        starts = {
            start + len(key)
            for key in map(normalise, options)
            for start in starts
            if text.startswith(key, start)
        }
    return starts
