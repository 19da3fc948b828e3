"""The prefix cache: whose an entry is, what goes first, and how it comes back from disk.

`test_prefix_cache_model.py` compares it with plain models over many operations.
"""

from __future__ import annotations

import pytest

from qwend.engine.prefix_cache import MIN_TOKENS, PrefixCache
from qwend.engine.request import PUBLIC_UID

LONG = tuple(range(40))


def cache_with(*entries: tuple[int, tuple[int, ...]], limit: int = 1_000) -> PrefixCache:
    cache = PrefixCache(limit)
    for uid, tokens in entries:
        assert cache.store(uid, tokens, b"x" * 10)
    return cache


def test_the_longest_common_prefix_wins() -> None:
    cache = cache_with((1, LONG[:20]), (1, (*LONG[:30], 99)))
    hit = cache.lookup(1, LONG)
    assert hit is not None
    assert (hit.entry.tokens, hit.count) == ((*LONG[:30], 99), 30)


def test_too_short_a_prefix_is_no_hit() -> None:
    cache = cache_with((1, LONG))
    assert cache.lookup(1, (*LONG[: MIN_TOKENS - 1], 99)) is None
    assert cache.lookup(1, (*LONG[:MIN_TOKENS], 99)) is not None


def test_nobody_hits_what_another_uid_left() -> None:
    cache = cache_with((1, LONG))
    assert cache.lookup(2, LONG) is None
    assert cache.lookup(PUBLIC_UID, LONG) is None
    assert not cache.covers(2, LONG)


def test_everyone_hits_what_is_public() -> None:
    cache = cache_with((PUBLIC_UID, LONG))
    assert cache.lookup(1, LONG) is not None
    assert cache.lookup(2, LONG) is not None


def test_storing_a_continuation_replaces_what_it_continues() -> None:
    cache = cache_with((1, LONG[:20]), (2, LONG[:20]), (1, LONG))
    assert len(cache) == 2
    assert cache.lookup(2, LONG) is not None


def test_the_least_recently_used_goes_first() -> None:
    a, b, c = ((first, *LONG) for first in (101, 102, 103))
    cache = cache_with((1, a), (1, b), limit=20)
    assert cache.lookup(1, a) is not None
    assert cache.store(1, c, b"x" * 10)
    assert cache.lookup(1, b) is None
    assert cache.lookup(1, a) is not None


def test_a_blob_larger_than_the_cache_is_not_kept_and_drops_nothing() -> None:
    cache = cache_with((1, LONG[:20]), limit=15)
    assert not cache.store(1, LONG, b"x" * 16)
    assert cache.lookup(1, LONG) is not None
    assert cache.used_bytes == 10


def test_a_forgotten_entry_is_gone_and_forgetting_twice_is_harmless() -> None:
    cache = cache_with((1, LONG))
    hit = cache.lookup(1, LONG)
    assert hit is not None
    cache.forget(hit.entry)
    cache.forget(hit.entry)
    assert (len(cache), cache.used_bytes) == (0, 0)


@pytest.mark.parametrize("count", [0, 16, 40])
def test_it_covers_every_beginning_of_an_entry(count: int) -> None:
    cache = cache_with((1, LONG))
    assert cache.covers(1, LONG[:count])
    assert not cache.covers(1, (*LONG, 7))
