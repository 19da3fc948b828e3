"""Prefix entries: what idle sequences left, and whose it is.

Owns the trees, one for each uid. Knows nothing of tiers or of order of use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from qwend.engine.prefix_tree import PrefixTree
from qwend.engine.snapshot_files import SnapshotInfo


class Tier(Enum):
    """Where an entry's blob is read from."""

    MEMORY = auto()
    DISK = auto()


@dataclass(slots=True, eq=False)
class Entry:
    """What one idle sequence left. Only the cache changes it.

    size_bytes: of the blob, wherever it is. used_ns: time of the last use, unique.
    blob: None if it is on disk alone. info: its file, while there is or will be one.
    writing: the file is not there yet.
    """

    uid: int
    tokens: tuple[int, ...]
    size_bytes: int
    used_ns: int
    blob: bytes | None = None
    info: SnapshotInfo | None = None
    writing: bool = False

    @property
    def tier(self) -> Tier:
        return Tier.DISK if self.blob is None else Tier.MEMORY

    @property
    def on_disk(self) -> bool:
        """True if the file is complete."""
        return self.info is not None and not self.writing


class PrefixEntries:
    """Entries by uid and tokens, at most one of each; iteration is in no order.

    whole_only: an entry serves only a prompt that begins with all of its tokens.
    """

    def __init__(self, *, whole_only: bool) -> None:
        self._whole_only = whole_only
        self._entries: set[Entry] = set()
        self._trees: dict[int, PrefixTree[Entry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._entries

    def add(self, entry: Entry) -> None:
        self._trees.setdefault(entry.uid, PrefixTree()).insert(entry.tokens, entry)
        self._entries.add(entry)

    def remove(self, entry: Entry) -> None:
        self._entries.remove(entry)
        tree = self._trees[entry.uid]
        tree.remove(entry.tokens, entry)
        if not len(tree):
            del self._trees[entry.uid]

    def best(self, uid: int, prompt: tuple[int, ...]) -> tuple[Entry, int] | None:
        """The uid's own entry that serves most of the prompt, and how many tokens of it."""
        tree = self._trees.get(uid)
        if tree is None:
            return None
        if self._whole_only:
            return next(tree.whole_prefixes(prompt), None)
        return tree.best(prompt, quickest)

    def covers(self, uid: int, tokens: tuple[int, ...]) -> bool:
        """True if an entry of the uid serves whatever one of exactly these tokens would."""
        tree = self._trees.get(uid)
        if tree is None:
            return False
        if self._whole_only:
            longest = next(tree.whole_prefixes(tokens), None)
            return longest is not None and longest[1] == len(tokens)
        return tree.covering(tokens) is not None

    def continued(self, uid: int, tokens: tuple[int, ...]) -> Iterator[Entry]:
        """The uid's entries that one of exactly these tokens replaces, the same ones included."""
        tree = self._trees.get(uid)
        for entry, count in tree.whole_prefixes(tokens) if tree else ():
            if count == len(tokens) or not self._whole_only:
                yield entry

    def check_integrity(self) -> None:
        """Assert that trees and entries agree; for tests."""
        assert sum(len(tree) for tree in self._trees.values()) == len(self._entries)
        for tree in self._trees.values():
            assert len(tree)
            tree.check_integrity()
        for one in self._entries:
            here = [(one, len(one.tokens))]
            assert list(self._trees[one.uid].whole_prefixes(one.tokens))[:1] == here


def quickest(entry: Entry) -> tuple[bool, int]:
    """Sort key of entries that match equally deep: one in memory, then the least to copy."""
    return entry.tier is Tier.DISK, entry.size_bytes
