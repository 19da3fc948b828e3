"""The radix tree against a plain list: what is shared, who ends where, how little is walked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from qwend.engine.prefix_tree import COMPARED_HOLDERS, PrefixTree, common_prefix
from qwend.errors import EngineBug


def tree_of(**paths: tuple[int, ...]) -> PrefixTree[str]:
    tree: PrefixTree[str] = PrefixTree()
    for holder, tokens in paths.items():
        tree.insert(tokens, holder)
        tree.check_integrity()
    return tree


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_common_prefix_counts_equal_leading_tokens(left: list[int], right: list[int]) -> None:
    count = common_prefix(left, right)
    assert left[:count] == right[:count]
    assert left[count : count + 1] != right[count : count + 1] or count in (len(left), len(right))


def test_an_empty_tree_has_nothing_for_anyone() -> None:
    tree = tree_of()
    assert tree.best((1, 2)) is None
    assert list(tree.whole_prefixes((1, 2))) == []
    assert tree.covering(()) is None


def test_the_deepest_match_wins_in_the_middle_of_an_edge_too() -> None:
    tree = tree_of(a=(1, 2, 3), b=(1, 2, 4, 5, 6))
    assert tree.best((1, 2, 4, 5, 9)) == ("b", 4)
    assert tree.best((1, 2, 3, 9)) == ("a", 3)
    assert tree.best((7,)) is None


def test_a_match_that_ends_at_a_fork_names_someone_below_it() -> None:
    tree = tree_of(a=(1, 2, 3), b=(1, 2, 4))
    found = tree.best((1, 2, 9))
    assert found is not None
    assert found[0] in ("a", "b")
    assert found[1] == 2


def test_the_preferred_of_equal_matches_wins() -> None:
    tree = tree_of(c=(1, 2, 3), a=(1, 2, 4), b=(1, 2))
    assert tree.best((1, 2), prefer=str) == ("a", 2)
    assert tree.best((1, 2), prefer=lambda holder: -ord(holder)) == ("c", 2)


def test_of_thousands_of_equal_matches_only_a_few_are_compared() -> None:
    tree: PrefixTree[int] = PrefixTree()
    for number in range(2_000):
        tree.insert((1, 2, number), number)
    asked: list[int] = []

    def prefer(holder: int) -> int:
        asked.append(holder)
        return holder

    assert tree.best((1, 2, -1), prefer) == (min(asked), 2)
    assert len(asked) == COMPARED_HOLDERS


def test_whole_prefixes_come_longest_first_and_all_of_one_end() -> None:
    tree = tree_of(a=(1,), b=(1, 2, 3), b2=(1, 2, 3), longer=(1, 2, 3, 4), other=(1, 2, 9))
    assert list(tree.whole_prefixes((1, 2, 3, 9))) == [("b2", 3), ("b", 3), ("a", 1)]
    assert list(tree.whole_prefixes((1, 2))) == [("a", 1)]


def test_the_tree_may_change_while_whole_prefixes_are_read() -> None:
    tree = tree_of(a=(1,), b=(1, 2), c=(1, 2, 3))
    for holder, count in tree.whole_prefixes((1, 2, 3)):
        tree.remove((1, 2, 3)[:count], holder)
        tree.check_integrity()
    assert len(tree) == 0


def test_covering_finds_only_who_begins_with_all_of_it() -> None:
    tree = tree_of(a=(1, 2, 3))
    assert [tree.covering(tokens) for tokens in ((), (1, 2), (1, 2, 3))] == ["a", "a", "a"]
    assert tree.covering((1, 2, 3, 4)) is None
    assert tree.covering((1, 3)) is None


def test_a_holder_is_put_once_and_removed_once() -> None:
    tree = tree_of(a=(1, 2, 3))
    with pytest.raises(EngineBug):
        tree.insert((1, 2, 3), "a")
    for wrong in ((1, 2), (1, 2, 3, 4), (2,), ()):
        with pytest.raises(EngineBug):
            tree.remove(wrong, "a")
    tree.check_integrity()
    tree.remove((1, 2, 3), "a")
    with pytest.raises(EngineBug):
        tree.remove((1, 2, 3), "a")
    tree.check_integrity()


PATHS = st.lists(st.integers(0, 2), max_size=6).map(tuple)


class AgainstAList(RuleBasedStateMachine):
    """The model is a list of (tokens, holder)."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: PrefixTree[int] = PrefixTree()
        self.model: list[tuple[tuple[int, ...], int]] = []
        self.number = 0

    @rule(tokens=PATHS)
    def insert(self, tokens: tuple[int, ...]) -> None:
        self.number += 1
        self.tree.insert(tokens, self.number)
        self.model.append((tokens, self.number))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            one = data.draw(st.sampled_from(self.model))
            self.tree.remove(*one)
            self.model.remove(one)

    @rule(tokens=PATHS)
    def ask(self, tokens: tuple[int, ...]) -> None:
        counts = {holder: common_prefix(path, tokens) for path, holder in self.model}
        most = max(counts.values(), default=0)
        for prefer in (None, int):
            found = self.tree.best(tokens, prefer)
            assert (found is not None) == (most > 0)
            assert found is None or found[1] == most == counts[found[0]]
        whole = [(holder, len(path)) for path, holder in self.model if path == tokens[: len(path)]]
        found_whole = list(self.tree.whole_prefixes(tokens))
        assert sorted(found_whole) == sorted(whole)
        assert [-count for _, count in found_whole] == sorted(-count for _, count in whole)
        covering = {holder for path, holder in self.model if path[: len(tokens)] == tokens}
        one = self.tree.covering(tokens)
        assert one in covering if covering else one is None

    @invariant()
    def is_whole(self) -> None:
        self.tree.check_integrity()
        assert len(self.tree) == len(self.model)


AgainstAList.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAgainstAList = AgainstAList.TestCase
