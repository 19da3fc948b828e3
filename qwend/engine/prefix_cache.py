"""Prefix cache: what idle sequences leave behind, so that nobody prefills the same text twice.

Owns the blobs of finished sequences and their order of use. Knows nothing of cells or steps: the
scheduler asks for the best match and restores it. Idle prefixes live here and never in cells,
because without flash attention every row pays for every used cell, idle ones too.

An entry belongs to the uid whose request made it; PUBLIC_UID's entries serve everyone. Nobody can
learn from timing what another uid has asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from qwend.engine.request import PUBLIC_UID

# Below this a restore saves less than it costs: 16 tokens prefill in one small step.
MIN_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Entry:
    uid: int
    tokens: tuple[int, ...]
    blob: bytes


@dataclass(frozen=True, slots=True)
class Hit:
    """`count` leading tokens of the prompt are the leading tokens of `entry`."""

    entry: Entry
    count: int


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of leading tokens that are equal. Slices compare in C, so halving beats a loop."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


class PrefixCache:
    """Blobs by last use, bounded in bytes; the least recently used goes first."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._entries: OrderedDict[tuple[int, tuple[int, ...]], Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, uid: int, prompt: Sequence[int]) -> Hit | None:
        """The entry that shares the most leading tokens with the prompt, if worth a restore."""
        prompt = tuple(prompt)
        best: Hit | None = None
        for entry in self._entries.values():
            if entry.uid not in (uid, PUBLIC_UID):
                continue
            count = common_prefix(entry.tokens, prompt)
            if count >= MIN_TOKENS and (best is None or count > best.count):
                best = Hit(entry, count)
        if best is not None:
            self._entries.move_to_end((best.entry.uid, best.entry.tokens))
        return best

    def holds(self, uid: int, tokens: Sequence[int]) -> bool:
        """True if an entry already begins with all of `tokens`, so that storing adds nothing."""
        tokens = tuple(tokens)
        return any(
            entry.uid == uid and entry.tokens[: len(tokens)] == tokens
            for entry in self._entries.values()
        )

    def store(self, uid: int, tokens: Sequence[int], blob: bytes) -> bool:
        """Keep the blob; entries that it continues are replaced. False: larger than the cache."""
        if len(blob) > self.limit_bytes:
            return False
        entry = Entry(uid, tuple(tokens), blob)
        for key, old in list(self._entries.items()):
            if old.uid == uid and entry.tokens[: len(old.tokens)] == old.tokens:
                self._drop(key)
        while self.used_bytes + len(blob) > self.limit_bytes:
            self._drop(next(iter(self._entries)))
        self._entries[uid, entry.tokens] = entry
        self.used_bytes += len(blob)
        return True

    def forget(self, entry: Entry) -> None:
        """Drop an entry that the model refused to restore."""
        if (entry.uid, entry.tokens) in self._entries:
            self._drop((entry.uid, entry.tokens))

    def _drop(self, key: tuple[int, tuple[int, ...]]) -> None:
        self.used_bytes -= len(self._entries.pop(key).blob)

    def check_integrity(self) -> None:
        """Assert that the accounting is right; for tests."""
        assert self.used_bytes == sum(len(entry.blob) for entry in self._entries.values())
        assert self.used_bytes <= self.limit_bytes
        assert all(key == (entry.uid, entry.tokens) for key, entry in self._entries.items())
