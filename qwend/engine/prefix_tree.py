"""Radix tree over tokens: who has computed how much of a prompt.

Owns the paths and who ends where (holders: running sequences, cache entries). Knows nothing of
what a holder is, of uids or of order of use. Not thread-safe: the engine's thread owns it.

Invariant: every node but the root has a holder or at least two children, so below any point of
the tree there is a holder, and a walk down any child finds one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, TypeVar

from qwend.errors import EngineBug

T = TypeVar("T", bound=Hashable)

# Of holders that match equally deep, how many `best` compares: a system prompt may have thousands
# below it, and eight of them are enough to find one that is quick to restore.
COMPARED_HOLDERS = 8


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


class _Node(Generic[T]):
    """`edge` are the tokens from the parent to here, `end` the number of all tokens to here."""

    __slots__ = ("children", "edge", "end", "holders", "parent")

    def __init__(self, edge: tuple[int, ...], end: int, parent: _Node[T] | None) -> None:
        self.edge = edge
        self.end = end
        self.parent = parent
        self.children: dict[int, _Node[T]] = {}
        # A dict as an ordered set: the newest holder is the last.
        self.holders: dict[T, None] = {}


class PrefixTree(Generic[T]):
    """Holders by the tokens that they hold; several may hold the same."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node((), 0, None)
        self._count = 0

    def __len__(self) -> int:
        """Number of holders."""
        return self._count

    def insert(self, tokens: Sequence[int], holder: T) -> None:
        """Put a holder at the end of `tokens`. Raises: EngineBug if it is there already."""
        tokens = tuple(tokens)
        node, matched = self._descend(tokens)
        if matched < node.end:
            node = self._split(node, matched)
        if matched < len(tokens):
            leaf = _Node(tokens[matched:], len(tokens), node)
            node.children[tokens[matched]] = leaf
            node = leaf
        if holder in node.holders:
            raise EngineBug("a holder was put twice at the same end in the prefix tree")
        node.holders[holder] = None
        self._count += 1

    def remove(self, tokens: Sequence[int], holder: T) -> None:
        """Take away what `insert` of the same put there. Raises: EngineBug if it is not there."""
        tokens = tuple(tokens)
        node, matched = self._descend(tokens)
        if not matched == len(tokens) == node.end or holder not in node.holders:
            raise EngineBug("a holder is not where the prefix tree was told to remove it")
        del node.holders[holder]
        self._count -= 1
        if not node.holders and not node.children and node.parent is not None:
            del node.parent.children[node.edge[0]]
            node = node.parent
        if not node.holders and len(node.children) == 1:
            self._join(node)

    def best(
        self, tokens: Sequence[int], prefer: Callable[[T], Any] | None = None
    ) -> tuple[T, int] | None:
        """A holder that shares the most leading tokens, and how many; None if nobody shares any.

        prefer: a sort key, the least wins among COMPARED_HOLDERS of those that share as many;
        without it the newest found first. Holders of exactly what is shared come before longer.
        """
        node, matched = self._descend(tuple(tokens))
        if not matched:
            return None
        below = islice(self._below(node), COMPARED_HOLDERS if prefer else 1)
        return (min(below, key=prefer) if prefer else next(below)), matched

    def whole_prefixes(self, tokens: Sequence[int]) -> Iterator[tuple[T, int]]:
        """Holders all of whose tokens begin `tokens`, with their number, longest first.

        The tree may be changed while this is read: the way up is noted before the first is given.
        """
        node, matched = self._descend(tuple(tokens))
        found: list[tuple[T, int]] = []
        above: _Node[T] | None = node if node.end == matched else node.parent
        while above is not None:
            found += ((holder, above.end) for holder in reversed(above.holders))
            above = above.parent
        return iter(found)

    def covering(self, tokens: Sequence[int]) -> T | None:
        """A holder whose tokens begin with all of `tokens`, or None."""
        node, matched = self._descend(tuple(tokens))
        return next(self._below(node), None) if matched == len(tokens) else None

    def _descend(self, tokens: tuple[int, ...]) -> tuple[_Node[T], int]:
        """The deepest node that the tokens enter, and how many of them match.

        It is left in the middle of its edge if less than `node.end` match.
        """
        node, at = self._root, 0
        while at < len(tokens):
            child = node.children.get(tokens[at])
            if child is None:
                break
            node = child
            part = tokens[at : at + len(node.edge)]
            if part != node.edge:
                return node, at + common_prefix(part, node.edge)
            at = node.end
        return node, at

    def _below(self, node: _Node[T]) -> Iterator[T]:
        """Holders at and below a node, parents first: the next is never far (see the invariant)."""
        stack = [node]
        while stack:
            node = stack.pop()
            yield from reversed(node.holders)
            stack += node.children.values()

    def _split(self, node: _Node[T], end: int) -> _Node[T]:
        """Put a node without holders at `end`, in the middle of the edge to `node`."""
        parent = node.parent
        assert parent is not None
        length = end - parent.end
        middle = _Node(node.edge[:length], end, parent)
        parent.children[middle.edge[0]] = middle
        node.edge = node.edge[length:]
        node.parent = middle
        middle.children[node.edge[0]] = node
        return middle

    def _join(self, node: _Node[T]) -> None:
        """Take out a node that has one child and no holder; the root stays."""
        parent = node.parent
        if parent is None:
            return
        (child,) = node.children.values()
        child.edge = node.edge + child.edge
        child.parent = parent
        parent.children[child.edge[0]] = child

    def check_integrity(self) -> None:
        """Assert the invariants; for tests."""
        count, stack = 0, [self._root]
        while stack:
            node = stack.pop()
            count += len(node.holders)
            if node.parent is not None:
                assert node.edge, "an edge without tokens"
                assert node.end == node.parent.end + len(node.edge)
                assert node.holders or len(node.children) > 1, "a node that nobody needs"
            for first, child in node.children.items():
                assert child.edge[0] == first
                assert child.parent is node
            stack += node.children.values()
        assert count == self._count
        assert not self._root.edge
