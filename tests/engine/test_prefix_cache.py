"""The prefix cache against a plain model: whose it is, what goes first, how much it holds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qwend.engine.prefix_cache import MIN_TOKENS, PrefixCache, common_prefix
from qwend.engine.request import PUBLIC_UID

LONG = tuple(range(40))


def cache_with(*entries: tuple[int, tuple[int, ...]], limit: int = 1_000) -> PrefixCache:
    cache = PrefixCache(limit)
    for uid, tokens in entries:
        assert cache.store(uid, tokens, b"x" * 10)
    return cache


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix_counts_equal_leading_tokens(left: list[int], right: list[int]) -> None:
    count = common_prefix(left, right)
    assert left[:count] == right[:count]
    assert left[count : count + 1] != right[count : count + 1] or count in (len(left), len(right))


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
    assert not cache.holds(2, LONG)


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
def test_it_holds_every_beginning_of_an_entry(count: int) -> None:
    cache = cache_with((1, LONG))
    assert cache.holds(1, LONG[:count])
    assert not cache.holds(1, (*LONG, 7))


TOKENS = st.builds(
    lambda head, tail: tuple([head] * MIN_TOKENS + tail),
    st.integers(0, 1),
    st.lists(st.integers(0, 1), max_size=4),
)
UIDS = st.sampled_from((PUBLIC_UID, 1, 2))


class AgainstAPlainModel(RuleBasedStateMachine):
    """The model is a list of (uid, tokens, blob), least recently used first."""

    LIMIT = 60

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(self.LIMIT)
        self.model: list[tuple[int, tuple[int, ...], bytes]] = []

    @rule(uid=UIDS, tokens=TOKENS, size=st.integers(1, 70))
    def store(self, uid: int, tokens: tuple[int, ...], size: int) -> None:
        blob = b"x" * size
        assert self.cache.store(uid, tokens, blob) == (size <= self.LIMIT)
        if size > self.LIMIT:
            return
        self.model = [one for one in self.model if one[0] != uid or one[1] != tokens[: len(one[1])]]
        while sum(len(one[2]) for one in self.model) + size > self.LIMIT:
            del self.model[0]
        self.model.append((uid, tokens, blob))

    @rule(uid=UIDS, prompt=TOKENS)
    def lookup(self, uid: int, prompt: tuple[int, ...]) -> None:
        allowed = [one for one in self.model if one[0] in (uid, PUBLIC_UID)]
        counts = [common_prefix(one[1], prompt) for one in allowed]
        hit = self.cache.lookup(uid, prompt)
        if max(counts, default=0) < MIN_TOKENS:
            assert hit is None
            return
        assert hit is not None
        assert hit.entry.uid in (uid, PUBLIC_UID)
        assert hit.count == max(counts)
        assert hit.entry.tokens[: hit.count] == prompt[: hit.count]
        used = (hit.entry.uid, hit.entry.tokens, hit.entry.blob)
        self.model.remove(used)
        self.model.append(used)

    @rule(uid=UIDS, tokens=TOKENS)
    def holds(self, uid: int, tokens: tuple[int, ...]) -> None:
        assert self.cache.holds(uid, tokens) == any(
            one[0] == uid and one[1][: len(tokens)] == tokens for one in self.model
        )

    @rule(uid=UIDS, prompt=TOKENS)
    def forget(self, uid: int, prompt: tuple[int, ...]) -> None:
        hit = self.cache.lookup(uid, prompt)
        if hit is not None:
            self.cache.forget(hit.entry)
            self.model.remove((hit.entry.uid, hit.entry.tokens, hit.entry.blob))

    @invariant()
    def agrees(self) -> None:
        self.cache.check_integrity()
        assert len(self.cache) == len(self.model)
        assert self.cache.used_bytes == sum(len(one[2]) for one in self.model)


AgainstAPlainModel.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAgainstAPlainModel = AgainstAPlainModel.TestCase
